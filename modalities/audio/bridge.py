"""Where an edit begins in a hole: the sound of one side passing into that of the other.

At the noise levels of an edit the hole is not forgotten: a start that is wrong by a few dB, the same way over a whole hole,
shows through the noise of its hundreds of cells, and the network keeps it. The level of the start is thus that of the fill.
A prediction of the waveform is right near the ends of a hole and dies away within it, which the model takes for silence. A
line between the logarithms of both sides is too quiet in long holes as well; one between the magnitudes is not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modalities.audio.representation import log_mel_of, standardised
from modalities.audio.settings import AudioSettings


def bridged(x: Tensor, kept: Tensor, settings: AudioSettings) -> Tensor:
    """``x`` with the frames that are not kept on the line, in mel magnitude, between the kept ones on either side.

    Args:
        x: (parts, 1, mels, frames) in model space. kept: (parts, frames) bool.

    Where one side has no kept frame, the nearest of the other goes on; a part with none stays as it is.
    """
    power = settings.mel.power
    magnitude = (log_mel_of(x, settings) / power).exp()
    result = x.clone()
    for part, here in enumerate(kept):
        piers, gaps = torch.nonzero(here).flatten(), torch.nonzero(~here).flatten()
        if not len(piers):
            continue
        after = torch.searchsorted(piers, gaps)
        left, right = piers[(after - 1).clamp_min(0)], piers[after.clamp_max(len(piers) - 1)]
        # Where one side is missing both are the other, and so is any point between them.
        share = (gaps - left) / (right - left).clamp_min(1)
        line = torch.lerp(magnitude[part][:, left], magnitude[part][:, right], share)
        result[part, 0, :, gaps] = standardised(line.log() * power, settings)
    return result

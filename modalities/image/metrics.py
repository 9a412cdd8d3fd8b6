"""How near a result is to the right answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cmmulti.errors import UserError
from modalities.image.picture import Picture

LARGEST_PSNR = 100.0


def metrics(result: Picture, truth: Picture, mark: NDArray[np.bool_] | None = None) -> dict[str, float]:
    """``psnr`` in dB, ``ssim`` and ``nmse``, over ``mark`` (H, W) where it is given.

    The data range is that of the stored type, 255 or 65535. SSIM is scikit-image's (7 x 7 uniform window, mean over
    channels), left out where a side is below 3 pixels; over a mark it is the mean of its map there. NMSE is
    ``|result - truth|^2 / |truth|^2``. PSNR ends at 100 dB, where equal pictures are.

    Raises:
        UserError: the two differ in size; channels and depth of ``result`` are brought to the truth's.
    """
    if result.size != truth.size:
        got, wanted = (f"{p.size[1]} x {p.size[0]}" for p in (result, truth))
        raise UserError(f"{truth.name}: a reference of {wanted} pixels; expected the result's {got}")
    a, b = _values(result, truth), truth.array.astype(np.float64)
    where = np.ones(truth.size, dtype=bool) if mark is None or not mark.any() else mark
    error = max(float(np.mean((a - b)[where] ** 2)), 1e-9)
    figures = {"nmse": float(np.sum((a - b)[where] ** 2) / max(np.sum(b[where] ** 2), np.finfo(float).tiny))}
    figures["psnr"] = min(LARGEST_PSNR, float(10 * np.log10(truth.white**2 / error)))
    side = min(7, (min(truth.size) - 1) // 2 * 2 + 1)
    if side >= 3:
        from skimage.metrics import structural_similarity

        _, similar = structural_similarity(b, a, win_size=side, data_range=truth.white, channel_axis=-1, full=True)
        if mark is None:
            pad = side // 2
            similar = similar[pad : truth.size[0] - pad, pad : truth.size[1] - pad]
            figures["ssim"] = float(similar.mean())
        else:
            figures["ssim"] = float(similar[where].mean())
    return {name: figures[name] for name in ("psnr", "ssim", "nmse") if name in figures}


def _values(result: Picture, truth: Picture) -> NDArray[np.float64]:
    """``result`` on the truth's scale, with its channels."""
    values = result.array.astype(np.float64) if result.channels == truth.channels else result.grey()[..., None]
    return np.broadcast_to(values * (truth.white / result.white), truth.array.shape)

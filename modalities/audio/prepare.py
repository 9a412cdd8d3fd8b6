"""``cmmulti data prepare fsdd``: the Free Spoken Digit Dataset from the WAV files of its repository."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import soundfile

from cmmulti.errors import UserError
from cmmulti.files import write_arrays
from cmmulti.preparation import Prepared, matching

NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[a-z]+)_(?P<take>[0-9]{1,2})\.wav")
RATE = 8000
TEST_TAKES = 5
"""Takes 0-4 are the test part, as the repository's README says."""

LONGEST = 60
"""Seconds; the longest published take has 2.3."""


def fsdd(source: Path, target: Path) -> Prepared:
    """``recordings/*.wav`` -> ``fsdd/fsdd.npz``; the samples are kept bit for bit.

    Args:
        source: the repository's folder, or its ``recordings``. target: the data root.
    """
    paths = [p for p in matching(source, "recordings/*.wav", "*.wav") if NAME.fullmatch(p.name)]
    if not paths:
        raise UserError(f"{source}: no file is named like 7_jackson_32.wav; expected the recordings of the repository")
    parts = [_fields(path) for path in paths]
    clips = [_samples(path) for path in paths]
    speakers = sorted({speaker for _, speaker, _ in parts})
    takes = np.array([take for _, _, take in parts], np.uint8)
    path = write_arrays(
        target / "fsdd" / "fsdd.npz",
        {
            "audio": np.concatenate(clips),
            "offsets": np.cumsum([0, *map(len, clips)], dtype=np.int64),
            "labels": np.array([digit for digit, _, _ in parts], np.uint8),
            "speaker_ids": np.array([speakers.index(speaker) for _, speaker, _ in parts], np.uint8),
            "take": takes,
            "official_test": takes < TEST_TAKES,
            "names": np.array([p.name for p in paths]),
            "speaker_names": np.array(speakers),
            "sample_rate": np.array([RATE], np.int64),
        },
    )
    return Prepared(
        [path], [f"{len(paths)} clips of {len(speakers)} speakers, {int((takes < TEST_TAKES).sum())} for testing"]
    )


def _fields(path: Path) -> tuple[int, str, int]:
    """Digit, speaker and take of a file name."""
    match = NAME.fullmatch(path.name)
    assert match is not None
    return int(match["digit"]), match["speaker"], int(match["take"])


def _samples(path: Path) -> np.ndarray:
    """(n,) int16."""
    try:
        with soundfile.SoundFile(path) as file:
            if (file.subtype, file.channels, file.samplerate) != ("PCM_16", 1, RATE):
                found = f"{file.subtype}, {file.channels} channels, {file.samplerate} Hz"
                raise UserError(f"{path}: {found}; expected PCM_16, 1 channel, {RATE} Hz")
            promised = file.frames
            if not 0 < promised <= LONGEST * RATE:
                raise UserError(f"{path}: {promised} samples; expected a spoken digit of at most {LONGEST} s")
            samples = file.read(dtype="int16")
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a WAV file ({error})") from error
    if len(samples) != promised:
        raise UserError(f"{path}: {len(samples)} samples, but its header promises {promised}")
    return samples

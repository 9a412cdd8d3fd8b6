"""Sound files <-> clips, nothing lost: rate, channels, subtype and every sample survive."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from cmmulti.errors import UserError
from cmmulti.files import writing
from modalities.audio.clip import BITS, LOSSLESS, Clip, Samples, stored
from modalities.audio.headers import check_flac, check_header
from modalities.audio.quiet import hushed

SUFFIXES = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".w64", ".rf64", ".caf", ".au", ".snd"
)  # fmt: skip
BLOCK = 1 << 16
"""Frames per read: a header that promises too much costs one block."""
LARGEST = 1 << 29
"""Most samples (frames x channels) of a clip: 3 hours of mono sound at 48 kHz."""
ENDLESS = 2**63 - 1
"""Frames that libsndfile tells where a header tells none."""
LOUDEST = 1e4
"""Largest size of a float sample: 80 dB above full scale is no sound but a mistake."""


def load(path: Path) -> Clip:
    """Read a file whole, in its own numbers. A lossy one (OGG, MP3) is decoded to 24 bits, to floats where it passes full
    scale.

    Raises:
        UserError: missing, empty, truncated, damaged, not a sound file, too long, or holding NaN or infinity.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; expected a sound file")
    try:
        check_header(path)
        with hushed(path), soundfile.SoundFile(path) as file:
            _check_promise(path, file)
            samples = _read(file)
            promised = file.frames
            rate, subtype, container = file.samplerate, file.subtype, file.format
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        told = str(error).replace(repr(str(path)), "it").removesuffix(".")
        raise UserError(f"{path}: cannot be read as sound: {told}") from error
    if len(samples) != promised:
        raise UserError(f"{path}: truncated or damaged: its header promises {promised} frames, {len(samples)} can be read")
    if not len(samples):
        raise UserError(f"{path}: holds no samples")
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: holds NaN or infinity (sample {int(np.argmax(~np.isfinite(samples).all(1)))})")
    if samples.dtype.kind == "f" and (peak := float(np.abs(samples).max())) > LOUDEST:
        raise UserError(f"{path}: holds a sample of {peak:.3g}; expected floats with full scale at 1")
    if subtype not in LOSSLESS:
        # Decoders overshoot the sound that was encoded; 24 bits would clip it.
        if np.abs(samples).max() <= 1:
            samples = stored(samples.astype(np.float64), np.dtype(np.int32), 24)
    elif container == "FLAC":
        check_flac(path, samples, BITS[subtype])
    return Clip(samples, rate, subtype, "WAV" if container == "WAVEX" else container, path)


def save(clip: Clip, path: Path) -> Path:
    """Write a clip with its own subtype; a lossy one as it was decoded, in 24-bit FLAC or float WAV. Returns the file.

    Raises:
        UserError: the file cannot be written.
    """
    container, subtype = output_format(clip)
    path = path.with_suffix(".flac" if container == "FLAC" else ".wav")
    content = io.BytesIO()
    try:
        # In memory first: libsndfile calls a full disk a system error, and says no more.
        soundfile.write(content, clip.samples, clip.rate, subtype=subtype, format=container)
    except (soundfile.SoundFileError, ValueError) as error:
        raise UserError(f"{path}: cannot be written ({error})") from error
    with writing(path) as part:
        part.write_bytes(content.getbuffer())
    return path


def output_format(clip: Clip) -> tuple[str, str]:
    """Container and subtype that a clip is written with."""
    if not clip.lossless:
        return ("WAV", "FLOAT") if clip.depth is None else ("FLAC", "PCM_24")
    if clip.container in ("WAV", "FLAC", "RF64"):
        return clip.container, clip.subtype
    return "WAV", clip.subtype.replace("PCM_S8", "PCM_U8")


def _check_promise(path: Path, file: soundfile.SoundFile) -> None:
    if file.frames == ENDLESS:
        raise UserError(
            f"{path}: its header does not say how long it is, as that of a file written to a pipe; expected a file "
            "that was written again by a program that says so"
        )
    if file.frames * file.channels > LARGEST:
        raise UserError(
            f"{path}: its header promises {file.frames} frames of {file.channels} channels; "
            f"expected at most {LARGEST} samples: cut it into shorter files"
        )
    if not 1 <= file.samplerate <= 1_000_000:
        raise UserError(f"{path}: a rate of {file.samplerate} Hz; expected 1 to 1000000")


def _read(file: soundfile.SoundFile) -> Samples:
    """All frames in the type that holds the file's numbers."""
    kind = {"FLOAT": "float32", "DOUBLE": "float64", "PCM_24": "int32", "PCM_32": "int32"}
    default = "int16" if file.subtype in LOSSLESS else "float32"
    dtype = kind.get(file.subtype, default)
    blocks: list[NDArray[Any]] = []
    while len(block := file.read(BLOCK, dtype=dtype, always_2d=True)):
        blocks.append(block)
    return np.concatenate(blocks) if blocks else np.zeros((0, file.channels), dtype)

"""DICOM files as frames: stored pixels, where they lie, and what their numbers mean."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from cmmulti.errors import UserError
from modalities.volume.item import Array
from modalities.volume.scans.nifti import MAX_VOXELS

MAX_PACKED_RATIO = 1000
"""Compressed pixel data that promise more than this many times their size are refused, beyond 16 million pixels."""

KINDS = ("CT", "MR")


@dataclass(frozen=True)
class Frame:
    """One slice.

    Args:
        pixels: (rows, columns) stored integers. slope, inter: of their rescaling (CT: to HU).
        position: (3,) centre of the first pixel, LPS mm. along_row, along_column: (3,) unit vectors of increasing column
            and increasing row. spacing: mm between rows, between columns.
        thickness: mm, of the slice or to the next one, where the file says so.
        series, group: what has to agree within a stack (group: echo, b-value and the like).
    """

    path: Path
    pixels: Array
    slope: float
    inter: float
    position: Array
    along_row: Array
    along_column: Array
    spacing: tuple[float, float]
    thickness: float | None
    modality: str
    series: str
    group: tuple[str, ...]


def read_frames(path: Path) -> list[Frame]:
    """The frames of a file; a DICOMDIR has none.

    Raises:
        UserError: it names the file and what is wrong with it.
    """
    try:
        with warnings.catch_warnings():
            # What pydicom warns of, a value that breaks its own rules, is checked below where it matters.
            warnings.simplefilter("ignore")
            return list(_frames(path))
    except UserError:
        raise
    except NotImplementedError as error:
        raise UserError(f"{path}: this coding of DICOM pixels cannot be read ({error})") from error
    except RuntimeError as error:
        raise UserError(
            f"{path}: the pixels cannot be decoded; is a package missing (pip install 'cmmulti[dicom]')? ({error})"
        ) from error
    except Exception as error:
        # A damaged file can make pydicom and its decoders raise anything at all, long after the file was opened.
        raise UserError(f"{path}: damaged DICOM file ({type(error).__name__}: {error})") from error


def _frames(path: Path) -> Iterator[Frame]:
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise UserError(f"{path}: deflated DICOM is not read, as its size is not known before; convert it first")
    data = pydicom.dcmread(path)
    _check_kind(path, data)
    pixels = _pixels(path, data)
    shared = _first(data.get("SharedFunctionalGroupsSequence"))
    each = data.get("PerFrameFunctionalGroupsSequence")
    if len(pixels) > 1 and (each is None or len(each) != len(pixels)):
        raise UserError(f"{path}: {len(pixels)} frames without their positions; expected an enhanced CT or MR object")
    for index, frame in enumerate(pixels):
        yield _frame(path, _Lookup(data, shared, each[index] if each else None), frame)


@dataclass(frozen=True)
class _Lookup:
    """A value of one frame: from its own groups, else the shared ones, else the file's top level."""

    data: Any
    shared: Any
    own: Any

    def __call__(self, group: str, name: str) -> Any:
        for groups in (self.own, self.shared):
            inside = _first(groups.get(group)) if groups is not None else None
            if inside is not None and inside.get(name) is not None:
                return inside.get(name)
        return self.data.get(name)


def _frame(path: Path, find: _Lookup, pixels: Array) -> Frame:
    position = _numbers(path, "ImagePositionPatient", find("PlanePositionSequence", "ImagePositionPatient"), 3)
    cosines = _numbers(path, "ImageOrientationPatient", find("PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    spacing = _numbers(path, "PixelSpacing", find("PixelMeasuresSequence", "PixelSpacing"), 2)
    along_row, along_column = cosines[:3], cosines[3:]
    products = np.array([along_row @ along_row - 1, along_column @ along_column - 1, along_row @ along_column])
    if np.abs(products).max() > 2e-3:
        raise UserError(f"{path}: ImageOrientationPatient {cosines.tolist()} are not two perpendicular unit vectors")
    if not ((spacing > 1e-3) & (spacing < 1e3)).all() or (np.abs(position) > 1e5).any():
        raise UserError(f"{path}: PixelSpacing {spacing.tolist()}, ImagePositionPatient {position.tolist()}: no geometry")
    rescale = "PixelValueTransformationSequence"
    slope = _number(path, "RescaleSlope", find(rescale, "RescaleSlope"), 1.0)
    inter = _number(path, "RescaleIntercept", find(rescale, "RescaleIntercept"), 0.0)
    if not 1e-12 < abs(slope) < 1e12 or abs(inter) > 1e12:
        raise UserError(f"{path}: RescaleSlope {slope:g}, RescaleIntercept {inter:g}: expected a usable scale")
    modality = str(find.data.Modality)
    if modality == "CT":
        _check_hounsfield(path, find)
    thickness = find("PixelMeasuresSequence", "SpacingBetweenSlices") or find("PixelMeasuresSequence", "SliceThickness")
    return Frame(
        path,
        _without_padding(find.data, pixels, slope, inter) if modality == "CT" else pixels,
        slope,
        inter,
        position,
        along_row,
        along_column,
        (float(spacing[0]), float(spacing[1])),
        _number(path, "SliceThickness", thickness, 0.0) or None,
        modality,
        str(find.data.get("SeriesInstanceUID", "")),
        tuple(
            str(find.data.get(name, ""))
            for name in ("EchoTime", "EchoNumbers", "DiffusionBValue", "TemporalPositionIdentifier")
        ),
    )


def _check_hounsfield(path: Path, find: _Lookup) -> None:
    """Refuse a CT slice whose numbers are not said to become HU by a slope and an intercept."""
    rescale = "PixelValueTransformationSequence"
    if "ModalityLUTSequence" in find.data:
        raise UserError(f"{path}: a Modality LUT instead of a rescaling; expected RescaleSlope and RescaleIntercept to HU")
    missing = [name for name in ("RescaleSlope", "RescaleIntercept") if find(rescale, name) in (None, "")]
    if missing:
        raise UserError(f"{path}: CT without {' and '.join(missing)}; expected both, as they turn stored numbers into HU")
    kind = str(find(rescale, "RescaleType") or "HU").strip()
    if kind.upper() != "HU":
        raise UserError(f"{path}: RescaleType {kind}; expected HU")


def _check_kind(path: Path, data: Any) -> None:
    modality = str(data.get("Modality", "none"))
    if "PixelData" not in data:
        raise UserError(f"{path}: a DICOM file without pixels (modality {modality}); expected CT or MR images")
    if modality not in KINDS:
        raise UserError(f"{path}: DICOM modality {modality}; expected CT or MR")
    colour = str(data.get("PhotometricInterpretation", "none"))
    if int(data.get("SamplesPerPixel", 1)) != 1 or not colour.startswith("MONOCHROME"):
        raise UserError(f"{path}: pixels of kind {colour}; expected grey (MONOCHROME1 or MONOCHROME2)")
    image_type = [str(v).upper() for v in data.get("ImageType", None) or []]
    for word, reason in (("MOSAIC", "a mosaic of many slices in one picture"), ("LOCALIZER", "a localiser")):
        if word in image_type:
            raise UserError(f"{path}: {reason} (ImageType {'/'.join(image_type)}); expected single slices")


def _pixels(path: Path, data: Any) -> Array:
    """(frames, rows, columns) stored integers, sizes checked before anything is decoded."""
    rows, columns = int(data.Rows), int(data.Columns)
    frames = int(data.get("NumberOfFrames", None) or 1)
    count = frames * rows * columns
    allocated = int(data.BitsAllocated)
    if min(rows, columns, frames) < 1 or allocated not in (8, 16, 32):
        raise UserError(f"{path}: {frames} frames of {rows} x {columns} pixels of {allocated} bits; expected 8, 16 or 32")
    present = len(data.PixelData)
    needed = count * allocated // 8
    if not data.file_meta.TransferSyntaxUID.is_compressed:
        if present < needed:
            raise UserError(
                f"{path}: the header promises {needed} bytes of pixels ({frames} x {rows} x {columns}), {present} are there"
            )
        if present > needed + 1:
            raise UserError(
                f"{path}: {present} bytes of pixels, but the header promises {needed} ({frames} x {rows} x {columns})"
            )
    elif count > 2**24 and needed > MAX_PACKED_RATIO * present:
        raise UserError(f"{path}: the header promises {needed} bytes of pixels, packed in {present}: not believable")
    if count > MAX_VOXELS:
        raise UserError(f"{path}: {count} pixels; at most {MAX_VOXELS} are read")
    array = np.asarray(data.pixel_array)
    if array.size != count or array.dtype.kind not in "iu":
        raise UserError(
            f"{path}: decoded to {array.shape} of {array.dtype}; expected integers, {frames} x {rows} x {columns}"
        )
    return array.reshape(frames, rows, columns)


def _without_padding(data: Any, pixels: Array, slope: float, inter: float) -> Array:
    """CT with its padding at air where the padding's own number would be read as tissue."""
    first = data.get("PixelPaddingValue")
    if not isinstance(first, int):
        return pixels
    last = data.get("PixelPaddingRangeLimit")
    low, high = sorted((first, last if isinstance(last, int) else first))
    if high * slope + inter <= -1000:
        return pixels
    limits = np.iinfo(pixels.dtype)
    air = int(np.clip(round((-1000 - inter) / slope), limits.min, limits.max))
    return np.where((pixels >= low) & (pixels <= high), pixels.dtype.type(air), pixels)


def _first(sequence: Any) -> Any:
    return sequence[0] if sequence else None


def _numbers(path: Path, name: str, values: Any, n: int) -> Array:
    if values is None:
        raise UserError(f"{path}: no {name}; expected slices that know where they lie")
    values = list(values) if isinstance(values, Sequence | pydicom.multival.MultiValue) else [values]
    array = np.array([float(v) for v in values])
    if array.shape != (n,) or not np.isfinite(array).all():
        raise UserError(f"{path}: {name} = {values}; expected {n} finite numbers")
    return array


def _number(path: Path, name: str, value: Any, default: float) -> float:
    if value is None or value == "":
        return default
    number = float(value)
    if not np.isfinite(number):
        raise UserError(f"{path}: {name} = {value}; expected a finite number")
    return number

"""``cmmulti data prepare ct-hu-256``: chest CT slices in HU from single DICOM files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from cmmulti.errors import UserError
from cmmulti.files import write_arrays
from cmmulti.preparation import Prepared, matching
from modalities.volume.item import Array

SIDE = 512
HU_RANGE = (-1024, 3071)
NAME = re.compile(r".*AGE_(\d{4})_CONTRAST_([01])_CT\.dcm")
FIELDS = ("PatientID", "Rows", "Columns", "PixelSpacing", "RescaleSlope", "RescaleIntercept")


class Slice(NamedTuple):
    """One slice: HU (256, 256) int16, and what its file tells about it."""

    hu: Array
    patient: str
    spacing: tuple[float, float]
    thickness: float
    age: int
    contrast: int
    manufacturer: str
    name: str


def ct_slices(source: Path, target: Path) -> Prepared:
    """``dicom_dir/*.dcm`` -> ``ct-hu-256/ct_hu_256.npz``: HU, 2 x 2 averaged from 512 x 512, duplicates left out."""
    paths = matching(source, "dicom_dir/*.dcm", "*.dcm", "**/*.dcm")
    seen: set[bytes] = set()
    slices = []
    for path in paths:
        found = _read(path)
        if found.hu.tobytes() not in seen:
            seen.add(found.hu.tobytes())
            slices.append(found)
    arrays = {
        "slices": np.stack([s.hu for s in slices]),
        "patient_ids": np.array([s.patient for s in slices]),
        "pixel_spacing_mm": np.array([s.spacing for s in slices], np.float32),
        "slice_thickness_mm": np.array([s.thickness for s in slices], np.float32),
        "age": np.array([s.age for s in slices], np.uint8),
        "contrast": np.array([s.contrast for s in slices], np.uint8),
        "manufacturer": np.array([s.manufacturer for s in slices]),
        "names": np.array([s.name for s in slices]),
    }
    file = write_arrays(target / "ct-hu-256" / "ct_hu_256.npz", arrays)
    patients = len({s.patient for s in slices})
    return Prepared(
        [file], [f"{len(slices)} slices of {patients} patients; {len(paths) - len(slices)} duplicates left out"]
    )


def _read(path: Path) -> Slice:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        missing = [name for name in FIELDS if header.get(name) in (None, "")]
        if missing:
            raise UserError(f"{path}: no {missing[0]} in its DICOM header; expected a CT slice")
        if (header.Rows, header.Columns) != (SIDE, SIDE) or int(header.get("NumberOfFrames") or 1) != 1:
            raise UserError(f"{path}: {header.Rows} x {header.Columns} pixels; expected one slice of {SIDE} x {SIDE}")
        stored = pydicom.dcmread(path).pixel_array
        return _slice(path, header, stored)
    except (InvalidDicomError, OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be read as a DICOM slice ({error})") from error


def _slice(path: Path, header: Any, stored: Array) -> Slice:
    hu = stored.astype(np.float64) * float(header.RescaleSlope) + float(header.RescaleIntercept)
    if stored.shape != (SIDE, SIDE) or not np.isfinite(hu).all():
        raise UserError(f"{path}: {stored.shape} pixels; expected {SIDE} x {SIDE} finite numbers")
    averaged = hu.clip(*HU_RANGE).reshape(SIDE // 2, 2, SIDE // 2, 2).mean((1, 3))
    named = NAME.fullmatch(path.name)
    age = int(named[1]) if named else int(str(header.get("PatientAge") or "0").rstrip("YMWD") or 0)
    rows, columns = (2 * float(v) for v in header.PixelSpacing)
    return Slice(
        np.rint(averaged).astype(np.int16),
        str(header.PatientID),
        (rows, columns),
        float(header.get("SliceThickness") or 1.0),
        min(max(age, 0), 255),
        int(named[2]) if named else int(bool(header.get("ContrastBolusAgent"))),
        str(header.get("Manufacturer") or ""),
        path.name,
    )

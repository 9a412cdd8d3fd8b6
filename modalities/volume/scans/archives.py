"""Data sets that lie in one archive of arrays each, read once and kept as integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np

from cmmulti.errors import UserError
from cmmulti.files import DAMAGED_ARCHIVE, regular_file
from cmmulti.modality import Split
from modalities.volume.item import Array, Volume
from modalities.volume.splits import distinct, divide


@lru_cache(maxsize=4)
def _arrays(path: Path) -> Mapping[str, Array]:
    """Every array of an ``.npz``, decompressed once per process and shared by the splits; read-only."""
    regular_file(path, "an archive of the data set")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except DAMAGED_ARCHIVE as error:
        raise UserError(f"{path}: not a readable archive of arrays ({error})") from error
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def ixi(root: Path, split: Split, seed: int, fractions: tuple[float, float]) -> dict[str, Volume]:
    """T1-weighted heads, 2 mm, (90, 120, 120) in RAS order, 8 bit; the data set's own split by subject."""
    scans: dict[str, Volume] = {}
    for part in (0, 1):
        path = root / f"ixi_t1_2mm_{part}.npz"
        a = _arrays(path)
        with _expected(path):
            for i in np.flatnonzero(a["split"] == split):
                affine = a["affines"][i].astype(np.float64)
                scans[str(a["ids"][i])] = Volume(
                    a["volumes"][i], affine, slope=float(a["slopes"][i]), kind="mr", source=(path,)
                )
    return scans


def ct_slices(root: Path, split: Split, seed: int, fractions: tuple[float, float]) -> dict[str, Volume]:
    """Chest CT slices in HU, 256 x 256, each a scan of one slice; duplicates removed, then split by patient."""
    path = root / "ct_hu_256.npz"
    a = _arrays(path)
    with _expected(path):
        slices, patients = a["slices"], a["patient_ids"]
        unique = sorted(set(patients.tolist()))
        chosen = {unique[i] for i in divide(len(unique), seed, fractions)[split]}
        scans: dict[str, Volume] = {}
        for i in distinct(slices):
            if patients[i] in chosen:
                rows, columns = (float(v) for v in a["pixel_spacing_mm"][i])
                # A picture's columns go to the patient's left and its rows to the back: -x and -y in RAS.
                affine = np.diag([-columns, -rows, float(a["slice_thickness_mm"][i]), 1.0])
                scans[f"{patients[i]} {a['names'][i]}"] = Volume(slices[i].T[:, :, None], affine, kind="ct", source=(path,))
    return scans


def hippocampus(root: Path, split: Split, seed: int, fractions: tuple[float, float]) -> dict[str, Volume]:
    """MR volumes cropped around the hippocampus, 1 mm, about 35 x 50 x 36; a seeded shuffle of the names."""
    path = root / "hippocampus.npz"
    a = _arrays(path)
    with _expected(path):
        scans: dict[str, Volume] = {}
        for i in divide(len(a["names"]), seed, fractions)[split]:
            data = a["images"][a["offsets"][i] : a["offsets"][i + 1]].reshape(a["shapes"][i])
            affine = a["affines"][i].astype(np.float64)
            scans[str(a["names"][i])] = Volume(data, affine, slope=float(a["scale"][i]), kind="mr", source=(path,))
    return scans


@contextmanager
def _expected(path: Path) -> Iterator[None]:
    """Turns a missing or misshapen array of an archive into the user's error."""
    try:
        yield
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(f"{path}: not the expected archive of the data set ({error})") from error


ARCHIVES: dict[str, Callable[[Path, Split, int, tuple[float, float]], dict[str, Volume]]] = {
    "ixi-t1-2mm": ixi,
    "ct-hu-256": ct_slices,
    "hippocampus": hippocampus,
}

"""``cmmulti data prepare``: heads (IXI) and hippocampi (Medical Segmentation Decathlon) from their NIfTI files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from scipy import ndimage

from cmmulti.errors import UserError
from cmmulti.files import write_arrays
from cmmulti.preparation import Prepared, matching
from modalities.volume.item import Array, Volume
from modalities.volume.scans import nifti

IXI_NAME = re.compile(r"(IXI\d{3}-(?:HH|Guys|IOP)-\d{4})[-_]T1\.nii(?:\.gz)?")
VOXEL_MM = 2.0
GRID = (90, 120, 120)
SITE = "-HH-"
TEST = "013-1212 059-1284 165-1589 213-1642 256-1723 316-1862 384-2100 526-2392 538-2411 567-2536 568-2607 633-2689"
VALIDATION = "097-1619 218-1815 226-1618 338-1971 387-2101 451-2212 565-2534 572-2605 603-2701 631-2651 635-2691 636-2733"


def ixi(source: Path, target: Path) -> Prepared:
    """``*-T1.nii.gz`` of the Hammersmith site -> ``ixi-t1-2mm/ixi_t1_2mm_{0,1}.npz``, half each.

    Each head is turned to RAS+, brought to 2 mm, its surrounding air set to 0, scaled to 0..254 (even numbers) and put
    into a grid of 90 x 120 x 120. Twelve subjects each are for testing and validation, the same as ever.
    """
    paths = [p for p in matching(source, "*T1.nii.gz", "**/*T1.nii.gz", "**/*T1.nii") if IXI_NAME.fullmatch(p.name)]
    paths = [p for p in paths if SITE in p.name]
    if not paths:
        raise UserError(f"{source}: no file is named like IXI013-HH-1212-T1.nii.gz; expected the T1 images of IXI")
    files, splits = [], []
    middle = (len(paths) + 1) // 2
    for number, part in enumerate((paths[:middle], paths[middle:])):
        heads = [_head(nifti.read(path)) for path in part]
        ids = [_subject(path) for path in part]
        parts = [split_of(subject) for subject in ids]
        splits += parts
        arrays = {
            "volumes": np.array([h[0] for h in heads], np.uint8).reshape(-1, *GRID),
            "affines": np.array([h[1] for h in heads], np.float32).reshape(-1, 4, 4),
            "slopes": np.array([h[2] for h in heads], np.float32),
            "ids": np.array(ids, str),
            "split": np.array(parts, str),
        }
        files.append(write_arrays(target / "ixi-t1-2mm" / f"ixi_t1_2mm_{number}.npz", arrays))
    counts = ", ".join(f"{splits.count(name)} {name}" for name in ("train", "val", "test"))
    return Prepared(files, [f"{len(paths)} subjects: {counts}"])


def split_of(subject: str) -> str:
    """The part of the data set that a subject belongs to, by its IXI name."""
    number, _, scan = subject.removeprefix("IXI").split("-")
    short = f"{number}-{scan}"
    return "test" if short in TEST.split() else "val" if short in VALIDATION.split() else "train"


def _subject(path: Path) -> str:
    match = IXI_NAME.fullmatch(path.name)
    assert match is not None
    return match[1]


def _head(volume: Volume) -> tuple[Array, Array, float]:
    """(90, 120, 120) uint8 of even numbers, its affine, and the scanner's units per step."""
    values, affine = _to_ras(volume)
    values, affine = _resampled(np.maximum(values, 0), affine)
    inside = _foreground(values)
    values = np.where(inside, values, 0)
    top = float(values.max())
    if top == 0:
        raise UserError(f"{volume.source[0]}: nothing but air; expected a head")
    codes = np.rint(values / top * 255).astype(np.uint8) & 0xFE
    placed, affine = _placed(codes, affine, inside)
    return placed, affine, top / 255


def _to_ras(volume: Volume) -> tuple[Array, Array]:
    orientation = io_orientation(volume.affine)
    turned = apply_orientation(volume.values(), orientation)
    return turned, volume.affine @ inv_ornt_aff(orientation, volume.shape)


def _resampled(values: Array, affine: Array) -> tuple[Array, Array]:
    """The grid at 2 mm along its own axes; what it cannot hold is smoothed away first."""
    step = VOXEL_MM / np.linalg.norm(affine[:3, :3], axis=0)
    if np.allclose(step, 1, atol=1e-3):
        return values, affine
    # A Gaussian whose width at half height is the new voxel, less the old voxel's own width.
    blur = np.sqrt(np.maximum(step**2 - 1, 0)) / 2.355
    shape = np.maximum(np.round(np.array(values.shape) / step).astype(int), 1)
    shift = (step - 1) / 2
    resampled = ndimage.affine_transform(
        ndimage.gaussian_filter(values, blur), step, offset=shift, output_shape=tuple(int(n) for n in shape), order=1
    )
    scaled = affine @ np.diag([*step, 1])
    scaled[:3, 3] += affine[:3, :3] @ shift
    return resampled, scaled


def _foreground(values: Array) -> Array:
    """The head: the largest piece above a smoothed threshold, closed, filled, and two voxels more."""
    smooth = ndimage.gaussian_filter(values, 1.0)
    pieces, count = ndimage.label(smooth > 0.1 * np.quantile(smooth, 0.99))
    if count == 0:
        return np.ones(values.shape, bool)
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    closed = ndimage.binary_closing(largest, iterations=3)
    return ndimage.binary_dilation(ndimage.binary_fill_holes(closed | largest), iterations=2)


def _placed(codes: Array, affine: Array, inside: Array) -> tuple[Array, Array]:
    """The fixed grid around the middle of the head, zeros where the scan does not reach."""
    middle = np.array([np.mean([np.flatnonzero(line)[0], np.flatnonzero(line)[-1] + 1]) for line in _shadows(inside)])
    first = np.round(middle - np.array(GRID) / 2).astype(int)
    spare = max(0, -int(first.min()), int((first + GRID - codes.shape).max()))
    padded = np.pad(codes, spare)
    window = tuple(slice(a + spare, a + spare + n) for a, n in zip(first, GRID, strict=True))
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ first + affine[:3, 3]
    return np.ascontiguousarray(padded[window]), moved


def _shadows(inside: Array) -> list[Array]:
    """Along each axis, where there is anything."""
    return [np.asarray(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]


def hippocampus(source: Path, target: Path) -> Prepared:
    """``imagesTr/*.nii.gz`` and ``labelsTr/*.nii.gz`` of Task04 -> ``hippocampus/hippocampus.npz``.

    Intensities are kept as whole multiples of one step per volume; a volume without labels is left out.
    """
    paths = matching(source, "imagesTr/*.nii.gz", "images/*.nii.gz")
    labels = {p.name: p for p in matching(source, "labelsTr/*.nii.gz", "labels/*.nii.gz")}
    kept = [p for p in paths if p.name in labels]
    if not kept:
        raise UserError(f"{source}: no image has labels of the same name; expected the folder Task04_Hippocampus")
    images, masks, scales, affines, shapes = [], [], [], [], []
    for path in kept:
        volume, mask = nifti.read(path), nifti.read(labels[path.name])
        if volume.shape != mask.shape:
            raise UserError(f"{labels[path.name]}: {mask.shape} voxels; expected {volume.shape} as in its image")
        codes, scale = coded(volume.values())
        images.append(codes.ravel())
        masks.append(np.clip(np.rint(mask.values()), 0, 2).astype(np.uint8).ravel())
        scales.append(scale)
        affines.append(volume.affine)
        shapes.append(volume.shape)
    arrays = {
        "images": np.concatenate(images),
        "masks": np.concatenate(masks),
        "scale": np.array(scales, np.float32),
        "offsets": np.cumsum([0, *map(len, images)], dtype=np.int64),
        "shapes": np.array(shapes, np.int16),
        "affines": np.array(affines, np.float32),
        "names": np.array([p.name.removesuffix(".nii.gz") for p in kept]),
    }
    file = write_arrays(target / "hippocampus" / "hippocampus.npz", arrays)
    return Prepared([file], [f"{len(kept)} volumes; {len(paths) - len(kept)} without labels left out"])


def coded(values: Array) -> tuple[Array, float]:
    """uint16 codes and the step with ``codes * step`` = values: the values' own step where they have one of 16 bits."""
    values = np.maximum(values.astype(np.float64), 0)
    top = float(values.max())
    if top == 0:
        return np.zeros(values.shape, np.uint16), 1.0
    distinct = np.unique(values)
    gaps = np.diff(distinct)
    step = float(gaps[gaps > 1e-6 * top].min(initial=top))
    # The smallest gap carries the rounding of float32; the largest value over its own code carries it least.
    step = top / max(round(top / step), 1)
    whole = np.abs(distinct / step - np.rint(distinct / step)).max() < 0.05
    if not whole or top / step > np.iinfo(np.uint16).max:
        step = top / np.iinfo(np.uint16).max
    return np.rint(values / step).astype(np.uint16), step

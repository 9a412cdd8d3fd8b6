"""The adapter for MR and CT volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from nibabel.orientations import aff2axcodes
from torch import Tensor

from cmmulti.description import UnclaimedError, facts
from cmmulti.errors import UserError
from cmmulti.media import Media
from cmmulti.modality import DataSource, Modality, Split, require_whole
from cmmulti.operators.affine import Affine
from cmmulti.randomness import SampleRandomness
from modalities.volume import representation
from modalities.volume.ct.sinogram import load_sinogram
from modalities.volume.datasets import dataset
from modalities.volume.geometry import apart_mm, reordered, same_grid
from modalities.volume.hole import hole_metrics
from modalities.volume.item import Volume
from modalities.volume.metrics import volume_metrics
from modalities.volume.mri import fastmri, hdf5
from modalities.volume.mri.kspace import load_kspace
from modalities.volume.npz import array_names
from modalities.volume.render import render, render_spread
from modalities.volume.resampling import AIR_HU
from modalities.volume.scans import files
from modalities.volume.settings import VolumeSettings
from modalities.volume.spread import spread
from modalities.volume.tasks import TASKS
from modalities.volume.training import VolumeSet


class VolumeModality(Modality):
    """Scans: an item is a :class:`Volume`, a part is one slice of the model's plane (2D) or the whole volume (3D)."""

    name = "volume"
    Settings = VolumeSettings
    tasks = TASKS
    extension = ".nii.gz"
    suffixes = (".nii", ".nii.gz", ".dcm", ".npz", *fastmri.SUFFIXES)
    folder_items = True
    settings: VolumeSettings

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, *self.settings.size)

    @property
    def valid_range(self) -> tuple[float, float]:
        return self.settings.valid_range

    def load(self, path: Path) -> Volume:
        return files.load(path)

    def describe(self, path: Path) -> dict[str, Any]:
        """A scan; or measured k-space (``.npz``, fastMRI's ``.h5``) or a sinogram (``.npz``). Of folders, those of a single
        series are claimed."""
        if path.is_dir():
            scans = list(islice(files.find(path), 2))
            if len(scans) != 1 or not scans[0].is_dir():
                raise UnclaimedError(f"{path}: not the folder of one DICOM series")
        if path.suffix.lower() in fastmri.SUFFIXES:
            if not hdf5.holds(path, "kspace"):
                raise UnclaimedError(f"{path}: no dataset 'kspace'")
            return facts(fastmri.load_fastmri(path))
        if path.suffix.lower() != ".npz":
            return facts(self.load(path))
        names = array_names(path)
        if "kspace" in names:
            return facts(load_kspace(path))
        if "sinogram" in names:
            return facts(load_sinogram(path))
        raise UnclaimedError(f"{path}: no array 'kspace' or 'sinogram'; found {sorted(names)}")

    def encode(self, item: Volume) -> Tensor:
        return representation.encode(item, self.settings)

    def decode(self, x: Tensor, like: Volume | None = None, randomness: SampleRandomness | None = None) -> Volume:
        require_whole(x, len(self.shape) + 1)
        return representation.decode(x, self.settings, like)

    def save(self, item: Volume, path: Path) -> Path:
        return files.save(item, path)

    def summary(self, items: Sequence[Volume]) -> tuple[dict[str, Volume], list[Media]]:
        """Mean and standard deviation over the answers, voxel by voxel."""
        found = spread(items)
        return found, render_spread(found["mean"], found["spread"], self.settings)

    def affine(self, item: Volume) -> Affine:
        return representation.affine_of(item, self.settings)

    def render(self, panels: Mapping[str, Volume], reference: str | None = None, mark: Any = None) -> list[Media]:
        return render(panels, self.settings, reference, mark)

    def metrics(self, result: Volume, truth: Volume, mark: Any = None) -> dict[str, float]:
        """fastMRI's definitions over all slices (CT: on mu >= 0, and ``mae_hu``); inside ``mark`` alone for a hole.

        Args:
            truth: on the grid of ``result``, in any stored order. mark: (I, J, K) bool, in that of ``result``.

        Raises:
            UserError: the truth lies on another grid, or holds nothing but air.
        """
        truth = _laid_on(truth, result)
        settings = self.settings
        if truth.values().max() <= (0 if settings.kind == "mr" else AIR_HU):
            raise UserError(f"reference {representation.name_of(truth)}: nothing but air; expected tissue to compare with")
        if mark is not None:
            return hole_metrics(settings.kind, truth.values()[mark], result.values()[mark], truth.values())
        there, here = (representation.layout(result, settings).apply(v.values()) for v in (truth, result))
        if min(there.shape[1:]) < 7:
            # No window of SSIM fits.
            return hole_metrics(settings.kind, there, here, there)
        return volume_metrics(settings.kind, there, here)

    def specification(self) -> dict[str, str]:
        settings = self.settings
        ct, whole = settings.kind == "ct", settings.dims == 3
        voxel, view = (" x ".join(f"{v:g}" for v in values) for values in (settings.voxel_mm, settings.field_of_view_mm))
        scale = f"{settings.percentile:g}th percentile of the non-zero voxels"
        return {
            "scans": f"CT, window of {settings.window[0]:g} to {settings.window[1]:g} HU"
            if ct
            else f"MR, scaled by the {scale}",
            "plane": "none: whole volumes (slices x rows x columns, axial)"
            if whole
            else f"{settings.plane} (rows x columns)",
            "voxel size": f"{voxel} mm; a scan may differ by {100 * settings.tolerance:g} % unresampled",
            "field of view": f"{view} mm, {' x '.join(map(str, settings.size))} voxels",
        }

    def network(self) -> dict[str, Any]:
        """A U-Net for a CPU: it works on patches of 2, and volumes get narrower levels than slices."""
        three = self.settings.dims == 3
        return {
            "dims": self.settings.dims,
            "in_channels": 1,
            "channels": [32, 64, 96] if three else [64, 96, 128],
            "blocks": 1,
            "attention": [],
            "patch": 2,
        }

    def dataset(self, source: DataSource, split: Split) -> VolumeSet:
        return dataset(source, split, self.settings)


def _laid_on(truth: Volume, result: Volume) -> Volume:
    """The truth in the stored order of the result.

    Raises:
        UserError: which voxel belongs to which is told by neither the place in the world nor the order of storage.
    """
    laid = reordered(truth, result)
    if laid.shape != result.shape:
        along = "".join(aff2axcodes(result.affine))
        raise UserError(
            f"reference of {laid.shape} voxels along {along}, the result has {result.shape}; expected the same grid"
        )
    if same_grid(laid, result):
        return laid
    axes = ["".join(aff2axcodes(v.affine)) for v in (truth, result)]
    if truth.placed and result.placed:
        voxels = [" x ".join(f"{mm:.3g}" for mm in v.voxel_mm) for v in (truth, result)]
        apart = apart_mm(laid.affine, result.affine, result.shape)
        raise UserError(
            f"reference with voxels of {voxels[0]} mm along {axes[0]}, the result with {voxels[1]} mm along {axes[1]}, "
            f"up to {apart:.3g} mm apart; expected the same grid: resample the reference to it"
        )
    if axes[0] != axes[1]:
        raise UserError(
            f"reference stored along {axes[0]}, the result along {axes[1]}, and one of them states no affine; expected the "
            "same grid: give the measurement the affine of the reference"
        )
    return laid

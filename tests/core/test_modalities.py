"""The three adapters under the contract suite."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import soundfile as sf
import torch
from nibabel.testing import data_path
from PIL import Image

from cmmulti import registry
from cmmulti.modality import DataSource
from cmmulti.operators.affine import Affine
from cmmulti.testing import ModalityCase, check_modality

ROOT = Path(__file__).parents[2]


def case(name, file, error, **settings):
    kind = registry.load("modalities", name)
    return ModalityCase(kind(kind.Settings(**settings)), file, error)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    rows, columns = np.mgrid[:21, :34]
    Image.fromarray(np.stack([rows * 9, columns * 6, (rows * columns) % 256], -1).astype("uint8")).save(path)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Ten files of each kind, made here."""
    root, random = tmp_path_factory.mktemp("folders"), np.random.default_rng(0)
    for name in ("image", "audio", "volume"):
        (root / name).mkdir()
    for i in range(10):
        Image.fromarray(random.integers(0, 256, (16, 16, 3)).astype("uint8")).save(root / f"image/{i}.png")
        sf.write(root / f"audio/{i}.wav", random.uniform(-0.5, 0.5, 5000), 8000)
        scan = random.integers(0, 1000, (24, 20, 3)).astype("int16")
        nib.save(nib.Nifti1Image(scan, np.diag([2.0, 2.0, 4.0, 1.0])), root / f"volume/{i}.nii")
    return root


def source(folders, name, **options):
    return DataSource(name="folder", root=folders / name, options=options)


@pytest.fixture(scope="module")
def cases(picture, folders):
    nifti = Path(str(data_path)) / "anatomical.nii"
    clip = ROOT / "modalities/audio/inputs/digit-3-jackson.wav"
    found = {
        "image": case("image", picture, 0.5 / 127, size=16),
        "audio": case("audio", clip, 0.2, mean=-8.9, std=2.8),
        "volume": case("volume", nifti, 0.01, size=(48, 48), voxel_mm=(2.0, 2.0)),
    }
    options = {"image": {"val": 0.2, "flip": True}, "audio": {"val": 0.2}, "volume": {}}
    return {name: replace(piece, data=source(folders, name, **options[name])) for name, piece in found.items()}


def test_documented_licences_are_those_of_the_code():
    from modalities.audio.spoken_digits import SpokenDigits
    from modalities.image.datasets import DATASETS
    from modalities.image.datasets import TERMS as PICTURES
    from modalities.volume.datasets import TERMS as SCANS
    from modalities.volume.scans.archives import ARCHIVES

    assert PICTURES.keys() == DATASETS.keys()
    assert SCANS.keys() == ARCHIVES.keys()
    told = {**PICTURES, **SCANS, "fsdd": (SpokenDigits.licence, SpokenDigits.attribution)}
    rows = [line.split("|") for line in (ROOT / "docs/data.md").read_text().splitlines() if line.startswith("| `")]
    documented = {row[1].strip(" `"): row[4].split("(")[0].strip() for row in rows}
    assert documented.keys() == told.keys()
    for name, (licence, attribution) in told.items():
        said = "none stated" if licence == "unknown" else licence.replace("-", " ").replace("BY SA", "BY-SA")
        assert documented[name].startswith(said), name
        assert attribution


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("image", {"size": (8, 12), "channels": 1}, {"size": "8 x 12 pixels", "channels": "grey"}),
        (
            "audio",
            {"mel": {"rate": 16000, "fmax": 7000, "hop": 128}, "samples": 8000},
            {"rate": "16000 Hz", "clip": "0.5 s, 8000 samples", "mel": "to 7000 Hz", "band": "up to 7200 Hz"},
        ),
        (
            "volume",
            {"plane": "coronal", "size": (30, 20), "voxel_mm": (2, 1.5)},
            {"scans": "MR", "plane": "coronal", "voxel size": "2 x 1.5 mm", "field of view": "60 x 30 mm, 30 x 20 voxels"},
        ),
        (
            "volume",
            {"kind": "ct", "dims": 3, "size": (8, 4, 4), "voxel_mm": (1, 1, 1)},
            {"scans": "CT, window of -1000 to 1000 HU", "plane": "whole volumes", "field of view": "8 x 4 x 4 mm"},
        ),
    ],
)
def test_what_a_card_says_of_the_settings(kind, settings, told):
    adapter = registry.load("modalities", kind)
    found = adapter(adapter.Settings(**settings)).specification()
    for name, part in told.items():
        assert part in found[name]


@pytest.mark.parametrize("name", ["image", "audio", "volume"])
@pytest.mark.parametrize("check", check_modality.checks)
def test_contract(cases, name, check):
    check_modality.checks[check](cases[name])


def test_a_made_item_of_another_size_is_noticed(picture):
    """Where what is written is not what was made, the suite says so."""
    image = registry.load("modalities", "image")

    class Doubling(image):
        def save(self, item, path):
            return super().save(type(item)(item.array.repeat(2, 0)), path)

    broken = ModalityCase(Doubling(image.Settings(size=16)), picture, 0.5 / 127)
    with pytest.raises(AssertionError, match=r"of shape \(1, 3, 16, 16\) reads back as \(1, 3, 32, 16\)"):
        check_modality.checks["generated_items_can_be_written"](broken)


image = registry.load("modalities", "image")
SETTINGS = image.Settings(size=16)


class Relative(image):
    """Every picture over its own contrast, and decoded without it: the representation comes back, the units do not."""

    def encode(self, item):
        return super().encode(item) / self.contrast(item)

    def decode(self, x, like=None, randomness=None):
        return super().decode(0.3 * x, like, randomness)

    def affine(self, item):
        one = torch.ones(1, 1, 1, 1)
        return Affine(self.contrast(item) * one, 0 * one, item.size, (0, 0))

    def contrast(self, item):
        return super().encode(item).square().mean().sqrt()


class HalfBack(image):
    def decode(self, x, like=None, randomness=None):
        return super().decode(x / 2, like, randomness)


class Altered(image):
    """Its data are those of the adapter, whose attributes are then changed."""

    def dataset(self, source, split):
        return self.changed(super().dataset(source, split), source, split)


class Leaking(Altered):
    """The last training picture is shown in validation, under its own name."""

    def changed(self, found, source, split):
        if split != "val":
            return found
        train, own = super().dataset(source, "train"), found.tensor
        found.names = [*found.names, train.names[-1]]
        n = len(found.names)
        found.tensor = lambda i, g: own(i, g) if i < n - 1 else train.tensor(len(train) - 1, g)
        return found


class LeakingUnderNewNames(Altered):
    def changed(self, found, source, split):
        found = super().dataset(source, "train") if split == "test" else found
        found.names = [f"{split}/{i}" for i in range(len(found))]
        return found


class ShuffledAnew(Altered):
    def changed(self, found, source, split):
        found.names = [found.names[i] for i in torch.randperm(len(found.names))]
        return found


class RelabelledAnew(Altered):
    def changed(self, found, source, split):
        found.labels = torch.randint(1000, found.labels.shape)
        return found


class AugmentedByTheWay(Altered):
    """By NumPy's global generator: PyTorch's is not the only one."""

    def changed(self, found, source, split):
        own = found.tensor
        found.tensor = lambda i, g: own(i, g) if g is None else own(i, g) + 0.01 * float(np.random.rand())
        return found


class NeverTheSame(Altered):
    def changed(self, found, source, split):
        own = found.tensor
        found.tensor = lambda i, g: own(i, g) + 0.01 * torch.rand(())
        return found


@pytest.mark.parametrize(
    ("kind", "check", "told"),
    [
        (Relative, "units_come_back", "values are off by .* in its units"),
        (HalfBack, "decoding_undoes_encoding", "differs from x by"),
        (Leaking, "splits_are_apart", r"\.png is in the train split and in val"),
        (LeakingUnderNewNames, "splits_are_apart", "a tensor of the train split is in test"),
        (ShuffledAnew, "data_are_those_of_their_source", "other names a second time"),
        (RelabelledAnew, "data_are_those_of_their_source", "other labels a second time"),
        (AugmentedByTheWay, "data_are_those_of_their_source", "an augmented tensor is another"),
        (NeverTheSame, "data_are_those_of_their_source", "a tensor is another a second time"),
    ],
)
def test_flawed_adapters_are_found(cases, kind, check, told):
    broken = replace(cases["image"], modality=kind(SETTINGS))
    with pytest.raises(AssertionError, match=told):
        check_modality.checks[check](broken)


def test_what_the_representation_does_not_hold_the_other_checks_cannot_see(cases):
    """A normalised picture is encoded again as it was: only its units tell."""
    check_modality.checks["decoding_undoes_encoding"](replace(cases["image"], modality=Relative(SETTINGS), error=0.02))

"""The adapter itself: settings, default network, what it tells about files."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from cmmulti import registry
from cmmulti.errors import UserError
from cmmulti.nn.unet import UNet
from modalities.image import files
from modalities.image.modality import ImageModality
from modalities.image.settings import ImageSettings


def test_it_is_registered():
    assert registry.load("modalities", "image") is ImageModality


@pytest.mark.parametrize(("size", "levels", "attention"), [(8, 2, [1]), (28, 3, [1, 2]), (32, 3, [1, 2]), (64, 4, [2, 3])])
def test_the_default_network_fits_the_size(size, levels, attention):
    settings = ImageModality(ImageSettings(size=size, channels=1, classes=10)).network()
    assert len(settings["channels"]) == levels
    assert settings["attention"] == attention
    small = settings | {"channels": [8] * levels, "blocks": 1}
    x = torch.zeros(1, 1, size, size)
    assert UNet(**small)(x, torch.zeros(1)).shape == x.shape


def test_settings_take_one_number_or_two_and_survive_json():
    assert ImageSettings(size=8).size == (8, 8)
    wide = ImageSettings(size=(24, 40))
    assert ImageSettings.model_validate_json(wide.model_dump_json()) == wide
    assert ImageModality(wide).shape == (3, 24, 40)
    for bad in (3, (8,), (8, -1), "x", 5000):
        with pytest.raises(ValidationError):
            ImageSettings(size=bad)
    with pytest.raises(ValidationError):
        ImageSettings(channels=2)


def test_facts_about_a_file(tmp_path, random_picture):
    picture = random_picture(5, 7, 1, alpha=True)
    facts = ImageModality(ImageSettings()).describe(files.save(picture, tmp_path / "x.png"))
    assert facts == {
        "format": "PNG",
        "width": 7,
        "height": 5,
        "colours": "grey",
        "bits": 8,
        "alpha": True,
        "smallest": int(picture.array.min()),
        "largest": int(picture.array.max()),
    }


def test_an_edit_is_saved_with_its_page(rgb, random_picture, tmp_path):
    picture = random_picture(20, 20)
    outcome = rgb.edit(picture, "inpaint", {"box": "3,3,9,9"}, reference=picture, samples=2)
    outcome.save(tmp_path / "out")
    assert {"result-0.png", "result-1.png", "results.json", "index.html"} <= {p.name for p in (tmp_path / "out").iterdir()}
    assert (files.load(tmp_path / "out" / "result-1.png").array == outcome.items[1].array).all()


def test_a_sample_is_an_8_bit_picture_of_the_models_size(grey, tmp_path):
    item = grey.sample(1, seed=3).items[0]
    again = files.load(grey.save(item, tmp_path / "x.png"))
    assert again.array.shape == (16, 16, 1)
    assert again.white == 255


@pytest.mark.parametrize("task", ["inpaint", "super-resolve", "colorize", "stroke", "denoise"])
def test_tasks_without_an_input_say_so(rgb, task):
    with pytest.raises(UserError, match="expected a picture, got none"):
        rgb.edit(None, task, {"sigma": 3} if task == "denoise" else {})

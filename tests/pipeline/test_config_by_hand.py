"""A ``config.json`` that somebody edited: numbers and names that a model cannot have are refused when it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cmmulti.errors import UserError
from cmmulti.inspection import inspect
from cmmulti.pipeline import Pipeline

ABOVE = "expected a finite number above 0"
NOT_DDPM = {"alphas_cumprod": [0.9, 0.5, 1e-5]}


def form(name: str, **settings: object) -> dict[str, Any]:
    return {"parameterization": {"name": name, "settings": settings}}


def lower(**settings: object) -> dict[str, Any]:
    network = {"name": "unet", "settings": {"in_channels": 1, "channels": [8, 16], "classes": 10}}
    return {"lower": [{"sigma_high": 1.0, "network": network, **form("edm", **settings)}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma_data": 0}, r"config\.json: sigma_data = 0: input should be greater than 0"),
        ({"sigma_data": float("nan")}, r"config\.json: sigma_data = nan: input should be a finite number"),
        ({"sigma_data": float("inf")}, r"config\.json: sigma_data = inf: input should be a finite number"),
        ({"sigma_max": -80}, r"config\.json: sigma_max = -80: input should be greater than 0"),
        ({"sigma_max": float("nan")}, r"config\.json: sigma_max = nan: input should be a finite number"),
        ({"sigma_max": 0.002}, r"config\.json: sigma_max = 0\.002: input should be greater than 0\.002"),
        (form("edm", sigma_data=0), rf"config\.json: parameterization edm: sigma_data = 0: {ABOVE}"),
        (form("edm", sigma_data=-0.5), rf"config\.json: parameterization edm: sigma_data = -0\.5: {ABOVE}"),
        (form("edm", sigma_data=float("nan")), rf"config\.json: parameterization edm: sigma_data = nan: {ABOVE}"),
        (form("edm", sigma_data=float("inf")), rf"config\.json: parameterization edm: sigma_data = inf: {ABOVE}"),
        (form("edm", sigma_data=10**400), rf"config\.json: parameterization edm: sigma_data = 1000*\.\.\.: {ABOVE}"),
        (form("edm", sigma_data=True), rf"config\.json: parameterization edm: sigma_data = True: {ABOVE}"),
        (form("edm", sigma_data="0.5"), rf"config\.json: parameterization edm: sigma_data = '0\.5': {ABOVE}"),
        (form("edm", sigma_data=1e30), r"config\.json: parameterization edm: .* give no finite coefficients"),
        (form("trigflow", sigma_data=-1), rf"config\.json: parameterization trigflow: sigma_data = -1: {ABOVE}"),
        (form("consistency", sigma_data=-1), rf"config\.json: parameterization consistency: sigma_data = -1: {ABOVE}"),
        (
            form("consistency", sigma_min=-0.002),
            r"config\.json: parameterization consistency: sigma_min = -0\.002: expected a finite number of at least 0",
        ),
        (
            form("consistency", sigma_min=float("nan")),
            r"config\.json: parameterization consistency: sigma_min = nan: expected a finite number of at least 0",
        ),
        (
            form("consistency", sigma_min=80),
            r"config\.json: parameterization consistency: boundary at sigma = 80: expected one below 80",
        ),
        (
            form("ddpm", **NOT_DDPM, clip=float("inf")),
            rf"config\.json: parameterization ddpm: clip = inf: {ABOVE}",
        ),
        (
            form("ddpm", alphas_cumprod=[0.9, float("nan"), 0.1]),
            r"config\.json: parameterization ddpm: alphas_cumprod: expected at least two values falling inside \(0, 1\)",
        ),
        (
            form("ddpm", alphas_cumprod=["a", "b"]),
            r"config\.json: parameterization ddpm: alphas_cumprod: expected at least two values falling inside \(0, 1\)",
        ),
        (lower(sigma_data=-1), rf"config\.json: lower\.0: parameterization edm: sigma_data = -1: {ABOVE}"),
    ],
)
def test_numbers_that_give_nonsense(pipe: Pipeline, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    refused(edited(pipe, tmp_path, changes), message)


def edited(pipe: Pipeline, tmp_path: Path, changes: dict[str, Any]) -> Path:
    folder = pipe.save_pretrained(tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def refused(folder: Path, message: str) -> None:
    for read in (Pipeline.from_pretrained, inspect, lambda folder: inspect(folder / "config.json")):
        with pytest.raises(UserError, match=message) as caught:
            read(folder)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "huen"}, r"config\.json: unknown sampler 'huen'; did you mean 'heun'"),
        (
            {"sampler": "stochastic-heun:churn=x", "role": "teacher"},
            r"config\.json: sampler stochastic-heun: churn: expected a number, got 'x'",
        ),
        (
            {"sampler": "heun"},
            r"config\.json: sampler heun: for denoising teachers; expected multistep for this consistency model",
        ),
        (
            {"levels": {"2": [1.0, 2.0]}},
            r"config\.json: levels\.2: expected strictly decreasing noise levels, got \[1\.0, 2\.0\]",
        ),
        (
            {"levels": {"2": [90.0, 2.0]}},
            r"config\.json: levels\.2: expected noise levels in \(0, 80\], got \[90\.0, 2\.0\]",
        ),
        (
            {"levels": {"2": [80.0, 0.0]}},
            r"config\.json: levels\.2: expected noise levels in \(0, 80\], got \[80\.0, 0\.0\]",
        ),
        ({"levels": {"2": [80.0, float("nan")]}}, r"config\.json: levels\.2: expected noise levels in \(0, 80\]"),
        ({"levels": {"2": []}}, r"config\.json: levels\.2: expected at least one noise level, got none"),
        ({"levels": {"3": [80.0, 1.0]}}, r"config\.json: levels\.3: expected 3 noise levels, one for each step, got 2"),
        ({"levels": {"0": [80.0]}}, r"config\.json: levels\.0: expected a number of steps of at least 1"),
    ],
)
def test_samplers_and_levels_that_there_are_not(
    pipe: Pipeline, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    refused(edited(pipe, tmp_path, changes), message)


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "multistep", "levels": {"1": [80.0], "2": [80.0, 0.8]}},
        {"sampler": "stochastic-heun:churn=30", "role": "teacher"},
        {"sampler": None},
    ],
)
def test_those_that_there_are_are_taken(pipe: Pipeline, tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = edited(pipe, tmp_path, changes)
    assert Pipeline.from_pretrained(folder).config.sampler == changes["sampler"]
    assert inspect(folder)["kind"] == "model"

"""A config with gaps becomes one without, or a single line with every mistake in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cmmulti.config import profiles, resolve, with_overrides
from cmmulti.config.resolve import load_config, signature_model
from cmmulti.errors import UserError

BASE: dict[str, Any] = {
    "modality": {"name": "image", "size": [8, 8], "channels": 1},
    "data": {"name": "digits"},
    "method": {"name": "ect"},
}
CONFIGS = sorted(
    path for path in (Path(__file__).parents[2] / "configs").rglob("*.yaml") if path.parent.name != "comparison"
)


def test_gaps_are_filled_from_method_and_adapter() -> None:
    config = resolve(BASE)
    assert config.optimizer.name == "radam"
    assert config.optimizer.learning_rate
    assert config.trainer.clip is not None
    assert config.network.settings["in_channels"] == 1
    assert config.method.settings["q"] == 2.0
    assert config.modality.settings["classes"] == 0
    assert config.ema.export in profiles(config.ema)
    assert config.preview.steps == (1, 2)


def test_a_resolved_config_resolves_to_itself() -> None:
    config = resolve(BASE)
    assert resolve(config.model_dump(mode="json")) == config


def test_the_configs_own_values_win() -> None:
    config = resolve(
        with_overrides(BASE, ["network.channels=[8]", "optimizer.learning_rate=1e-5", "ema.export=raw", "trainer.clip=0"])
    )
    assert config.network.settings["channels"] == [8]
    assert config.optimizer.learning_rate == 1e-5
    assert config.ema.export == "raw"
    assert config.trainer.clip == 0


def test_all_mistakes_are_told_at_once_in_one_line() -> None:
    sets = [
        "data.bath_size=3",
        "trainer.max_steps=many",
        "method.qq=1",
        "network.chanels=[8]",
        "network.blocks=two",
        "modality.channels=2",
        "sead=1",
        "trainer.seed=-1",
    ]
    with pytest.raises(UserError) as caught:
        resolve(with_overrides(BASE, sets), "x.yaml")
    told = str(caught.value)
    assert "\n" not in told
    assert told.startswith("x.yaml: ")
    for part in (
        "unknown key 'data.bath_size' (did you mean 'batch_size'?)",
        "trainer.max_steps = 'many'",
        "unknown key 'qq'",
        "unknown key 'chanels' (did you mean 'channels'?)",
        "blocks = 'two'",
        "channels = 2",
        "unknown key 'sead'",
    ):
        assert part in told, part


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["method.name=ectt"], "unknown method 'ectt'; did you mean 'ect'"),
        (["modality.name=imag"], "unknown modality 'imag'; did you mean 'image'"),
        (["network={name: unnet}"], "unknown network 'unnet'; did you mean 'unet'"),
        (["method=null"], "method"),
        (["method=ect"], "method"),
        (["data=null"], "data"),
        (
            ["ema.export=half-life-7", "network.chanels=1"],
            "unknown key 'chanels'.*ema.export = 'half-life-7': expected one of half-life-",
        ),
        (["ema.half_lives=[2]"], "half_lives"),
        (["ema.sigma_rel=[0.5]"], "sigma_rel"),
        (["optimizer.decay=inverse-sqrt"], "inverse-sqrt needs decay_start"),
        (["optimizer.betas=[0.9, 1.0]"], "betas"),
        (["optimizer.learning_rate=.nan"], "learning_rate"),
        (["trainer.precision=16-mixed"], "precision"),
        (["data.batch_size=6", "trainer.accumulate=4"], "multiple of devices . nodes . accumulate = 4"),
        (["sigma_data=0"], "sigma_data"),
        (["trainer.max_steps=1e22"], "max_steps"),
        (["trainer.max_steps=10000000000000000000000"], "max_steps"),
        (["data.batch_size=100000000000"], "batch_size"),
        (["trainer.threads=100000"], "threads"),
        (["sigma_max=0.002"], "sigma_max"),
        (
            ["sigma_max=1e7"],
            r"sigma_max = 1\d*\.0: input should be less than or equal to 1000000",
        ),  # as a model folder has it
        (["network={name: monai, dims: 1}"], "dims = 1"),
        (["method={name: edm, p_std: 0}"], "p_std = 0"),
        (["method={name: edm, p_mean: .nan}"], "p_mean = nan"),
        (["method={name: meanflow, r_law: [.inf, 1]}"], "r_law"),
        (["method={name: ect, stages: 0}"], "stages = 0"),
        (["method={name: ect, q: 1}"], "q = 1"),
        (["method={name: ect, stages: 20}"], r"stages = 20, q = 2: expected q\^stages of at most 1e\+06"),
        (["method={name: tcm, ratio_limit: 0.99999999}"], "ratio_limit = 0.99999999"),
        (["method={name: ect, huber: -1}"], "huber = -1"),
        (["method={name: tcm, k: -2}"], "k = -2"),
        (["method={name: ict, first: 20, last: 10}"], "last = 10: expected at least first = 20"),
        (["method={name: ct, first: 20, last: 10}"], "last = 10: expected at least first = 20"),
    ],
)
def test_mistakes_name_key_value_and_expectation(sets: Sequence[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(with_overrides(BASE, sets))


def test_settings_of_any_constructor_are_checked_by_its_signature() -> None:
    class Open:
        def __init__(self, width: int, rate: float = 0.1, **rest: Any) -> None: ...

    model = signature_model(Open)
    assert model.model_validate({"width": "3", "other": 1}).width == 3  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="width"):
        model.model_validate({})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_resolves(path: Path) -> None:
    config = load_config(path)
    assert config.trainer.max_steps > 1

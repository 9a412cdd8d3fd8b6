"""Averages made of snapshots after a run agree with those that were tracked in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import nn

from cmmulti.config import RunConfig
from cmmulti.errors import UserError
from cmmulti.training import snapshots
from cmmulti.training.ema import EMA, Power, gamma_of
from cmmulti.training.export import export
from cmmulti.training.posthoc import mixture, product, within
from cmmulti.training.run import train

Config = Callable[..., RunConfig]
# A rate at which the weights move by more than the rounding of half precision.
RUN = ("trainer.max_steps=24", "ema.half_lives=[]", "checkpoint.every_steps=24", "preview.every_steps=0",
       "optimizer={name: adam, learning_rate: 0.01}")  # fmt: skip


def profile(tau: float, t: float, gamma: float) -> float:
    return (gamma + 1) * tau**gamma / t ** (gamma + 1)


@pytest.mark.parametrize(("a", "b"), [((50, 0.05), (80, 0.1)), ((80, 0.1), (50, 0.05)), ((60, 0.2), (60, 0.1))])
def test_product_of_two_profiles_is_their_integral(a: tuple[int, float], b: tuple[int, float]) -> None:
    (ta, ga), (tb, gb) = [(t, gamma_of(width)) for t, width in (a, b)]
    want, _ = quad(lambda tau: profile(tau, ta, ga) * profile(tau, tb, gb), 0, min(ta, tb), epsabs=1e-13, epsrel=1e-12)
    assert float(product(ta, ga, tb, gb)) == pytest.approx(want, rel=1e-9)


def test_mixture_minimises_the_distance_of_profiles_and_knows_it() -> None:
    """On a fine grid, against an independent least-squares solution."""
    stored, step, width = list(itertools.product((100, 200, 300, 400), (0.05, 0.1))), 400, 0.15
    tau = np.linspace(0, step, 400_001)[:-1] + step / 800_000
    columns = np.stack([np.where(tau < t, profile(tau, t, gamma_of(w)), 0) for t, w in stored], axis=1)  # type: ignore[arg-type]
    target = profile(tau, step, gamma_of(width))  # type: ignore[arg-type]
    best, *_ = np.linalg.lstsq(columns, target, rcond=None)
    found = mixture(stored, step, width)
    assert found.weights == pytest.approx(best / best.sum(), rel=1e-4)
    assert found.misfit == pytest.approx(np.linalg.norm(columns @ best - target) / np.linalg.norm(target), rel=1e-3)


def test_a_stored_width_is_found_again() -> None:
    found = mixture([(50, 0.05), (50, 0.1), (100, 0.05), (100, 0.1)], 100, 0.1)
    assert found.weights == pytest.approx([0, 0, 0, 1], abs=1e-9)
    assert found.misfit == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("width", "limit"), [(0.07, 0.01), (0.12, 0.01), (0.15, 0.02)])
def test_any_width_of_a_random_walk(tmp_path: Path, toy_config: Config, width: float, limit: float) -> None:
    """16 snapshots in half precision against the average that was tracked beside them, in units of its distance to the
    nearest of the two that were kept."""
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.randn(2000, generator=generator))
    ema = EMA([parameter], {"sigma-rel-0.05": Power(0.05), "sigma-rel-0.1": Power(0.1), "wanted": Power(width)})
    tracked = ("sigma-rel-0.05", "sigma-rel-0.1")
    for step in range(1, 321):
        parameter.data += 0.1 * torch.randn(2000, generator=generator)
        ema.update(step)
        if snapshots.is_due(step, 320, 16):
            snapshots.write(tmp_path, step, ["w"], {name: ema.weights(name) for name in tracked})
    config = toy_config("ema.sigma_rel=[0.05,0.1]")
    (made,), told = snapshots.reconstruct(tmp_path, config, 320, ["w"], ema.state_dict(), width)
    want = ema.weights("wanted")[0]
    apart = min(float((ema.weights(name)[0] - want).norm()) for name in tracked)
    assert float((made - want).norm()) < limit * apart
    assert told.startswith(f"sigma-rel-{width:g}, made of 15 snapshots")  # the 16th is the checkpoint's own step


def test_widths_that_can_be_made() -> None:
    assert within(list(itertools.product(range(1000, 16001, 1000), (0.05, 0.1))), 16000, 0.05) == [(0.03, 0.23)]
    apart = within(list(itertools.product(range(1000, 4001, 1000), (0.05, 0.2))), 4000, 0.05)
    assert len(apart) == 2
    for (low, high), width in zip(apart, (0.05, 0.2), strict=True):
        assert low < width < high


def test_a_width_that_snapshots_cannot_make_is_refused(tmp_path: Path, toy_config: Config) -> None:
    averages = {"sigma-rel-0.05": [torch.ones(3)], "sigma-rel-0.1": [torch.ones(3)]}
    for step in range(100, 1600, 100):
        snapshots.write(tmp_path, step, ["w"], averages)
    config = toy_config("ema.sigma_rel=[0.05,0.1]")
    wanted = r"--ema-sigma-rel 0\.01: made of 15 snapshots it has a misfit of 36%; expected .* at most 5%: 0\.03 to 0\.23$"
    with pytest.raises(UserError, match=wanted):
        snapshots.reconstruct(tmp_path, config, 1600, ["w"], averages, 0.01)


def test_export_of_a_width_that_another_run_tracked(
    toy_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same training twice: once with snapshots of two widths, once with the wanted width tracked."""
    train(toy_config(*RUN, "ema.sigma_rel=null", "ema.snapshots=8"), tmp_path / "kept")
    found = sorted(p.name for p in (tmp_path / "kept" / "snapshots").iterdir())
    assert found == [f"step-{step:08d}.safetensors" for step in range(3, 25, 3)]
    train(toy_config(*RUN, "ema.sigma_rel=[0.07,0.05]"), tmp_path / "tracked")
    made = export(tmp_path / "kept", tmp_path / "made", sigma_rel=0.07)
    want, other = (export(tmp_path / "tracked", tmp_path / w, profile=f"sigma-rel-{w}") for w in ("0.07", "0.05"))
    a, b, c = (nn.utils.parameters_to_vector(p.model.parameters()).detach() for p in (made, want, other))
    assert float((a - b).norm()) < 0.03 * float((c - b).norm())
    assert "| weights | average sigma-rel-0.07, made of 7 snapshots, misfit 1." in made.card
    assert "made: average sigma-rel-0.07, made of 7 snapshots, misfit 1." in capsys.readouterr().err


def test_what_cannot_be_made_is_refused(toy_config: Config, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    train(toy_config("trainer.max_steps=4", "ema.sigma_rel=[0.1]"), run)
    with pytest.raises(UserError, match=r"no snapshots of averages up to step 4.*expected a run .* ema\.snapshots"):
        export(run, out, sigma_rel=0.07)
    train(toy_config("trainer.max_steps=8", "ema.sigma_rel=[0.1]", "ema.snapshots=4"), run, resume=True)
    with pytest.raises(UserError, match=r"--ema-sigma-rel 0\.07: .* 1 snapshot it has a misfit of 21%; .* 5%: 0\.095 to"):
        export(run, out, sigma_rel=0.07)
    for width in (0.0, -0.1, 0.289, float("nan")):
        with pytest.raises(UserError, match=r"expected a relative width in \(0, 0\.2887\)"):
            export(run, out, sigma_rel=width)
    path = run / "snapshots" / "step-00000006.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"step-00000006\.safetensors: damaged") as caught:
        export(run, out, sigma_rel=0.1)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    path.unlink()
    (run / "snapshots" / ".step-00000004-x.safetensors").write_bytes(b"half")
    train(toy_config("trainer.max_steps=9", "ema.sigma_rel=[0.1]", "ema.snapshots=4"), run, resume=True)
    assert not list((run / "snapshots").glob(".*"))


def test_snapshots_without_widths_are_a_mistake(toy_config: Config) -> None:
    with pytest.raises(UserError, match="snapshots = 4: expected at least one width in sigma_rel"):
        toy_config("ema.snapshots=4", "ema.sigma_rel=[]")
    assert toy_config("ema.snapshots=4", "ema.sigma_rel=null").ema.sigma_rel == (0.05, 0.1)
    assert toy_config("ema.sigma_rel=null").ema.sigma_rel is None


@pytest.mark.parametrize("tracked", ["[]", "[0.5]"])
def test_snapshots_switched_off_and_on_again(toy_config: Config, tmp_path: Path, tracked: str) -> None:
    run = tmp_path / "run"
    sets = (f"ema.half_lives={tracked}", "ema.sigma_rel=null", "preview.every_steps=0", "checkpoint.every_steps=4")
    train(toy_config(*sets, "trainer.max_steps=4", "ema.snapshots=2"), run)
    train(toy_config(*sets, "trainer.max_steps=8"), run, resume=True)
    assert len(list((run / "snapshots").iterdir())) == 2
    module = train(toy_config(*sets, "trainer.max_steps=12", "ema.snapshots=3"), run, resume=True)
    assert len(list((run / "snapshots").iterdir())) == 3
    assert [name for name in module.ema.state_dict() if name.startswith("sigma")] == ["sigma-rel-0.05", "sigma-rel-0.1"]
    with pytest.raises(UserError, match=r"ema\.sigma_rel = \[\], expected \[0\.05, 0\.1\]"):
        train(toy_config(*sets, "trainer.max_steps=14", "ema.sigma_rel=[]"), run, resume=True)


def test_snapshots_of_averages_that_are_not_tracked_are_refused_at_resume(toy_config: Config, tmp_path: Path) -> None:
    sets = ("ema.sigma_rel=null", "preview.every_steps=0")
    train(toy_config(*sets, "trainer.max_steps=2"), tmp_path / "run")
    with pytest.raises(UserError, match=r"ema\.sigma_rel = \[0\.05, 0\.1\], expected None; ema\.snapshots = 4, expected 0"):
        train(toy_config(*sets, "trainer.max_steps=4", "ema.snapshots=4"), tmp_path / "run", resume=True)


def test_snapshots_of_steps_that_a_resumed_run_makes_anew_are_none_of_its_own(toy_config: Config, tmp_path: Path) -> None:
    """Killed between a checkpoint and the next, it goes on with another budget: what came after is another run's."""
    run, sets = tmp_path / "run", ("checkpoint.every_steps=8", "ema.snapshots=4", "preview.every_steps=0")
    train(toy_config(*sets, "trainer.max_steps=12"), run)
    (run / "step-00000012.ckpt").unlink()
    train(toy_config(*sets, "trainer.max_steps=16"), run, resume=True)
    steps = [int(path.stem.removeprefix("step-")) for path in sorted((run / "snapshots").iterdir())]
    assert steps == [3, 6, 12, 16]

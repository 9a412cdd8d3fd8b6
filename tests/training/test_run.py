"""What a run leaves behind, and how it stops."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from cmmulti.config import RunConfig, read_yaml, resolve
from cmmulti.errors import UserError
from cmmulti.inspection import inspect
from cmmulti.pipeline import Pipeline
from cmmulti.training import checkpoint, folder
from cmmulti.training.callbacks.log_file import BINS, COLUMNS, LogFile, read
from cmmulti.training.data import collate
from cmmulti.training.dry_run import dry_run
from cmmulti.training.export import export
from cmmulti.training.run import device_name, train

Config = Callable[..., RunConfig]


def test_the_folder_of_a_run(toy_config: Config, tmp_path: Path) -> None:
    run = tmp_path / "a" / "run"
    config = toy_config("log.tensorboard=true")
    train(config, run, command="cmmulti train toy.yaml")
    assert sorted(p.name for p in run.glob("*.ckpt")) == [f"step-{s:08d}.ckpt" for s in (4, 8, 12)]
    stored = resolve(read_yaml(run / "config.yaml"))
    assert stored.sigma_data == pytest.approx(0.5, abs=0.05)
    assert stored.model_copy(update={"sigma_data": None}) == config
    assert json.loads((run / "run.json").read_text())["classes"] == ["low", "middle", "high"]
    rows = read(run / "log.csv")
    assert (run / "log.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    assert [r["step"] for r in rows] == [3, 6, 9, 12]
    assert all(r["loss"] > 0 and r["grad_norm"] > 0 and r["items_per_second"] > 0 for r in rows)
    with Image.open(run / "previews" / "step-00000012-2steps.png") as picture:
        assert picture.size == (8, 2)
    assert list((run / "tensorboard").glob("events*"))
    assert [p.name for p in run.iterdir() if p.name.startswith(".")] == [".lock"]


def test_only_the_newest_checkpoints_stay(toy_config: Config, tmp_path: Path) -> None:
    train(toy_config("checkpoint={every_steps: 2, keep: 2}", "trainer.max_steps=7"), tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").glob("*.ckpt")) == ["step-00000006.ckpt", "step-00000007.ckpt"]


def test_the_mean_loss_is_that_of_the_noise_levels(toy_config: Config, tmp_path: Path) -> None:
    train(toy_config("data.batch_size=64", "trainer.max_steps=2", "log.every_steps=2"), tmp_path / "run")
    row = read(tmp_path / "run" / "log.csv")[0]
    bins = [row[name] for name in BINS if row[name] == row[name]]
    assert min(bins) <= row["loss"] <= max(bins)
    assert len(bins) > 3


def test_a_log_is_cut_where_a_run_resumes(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    row = ",".join(["{}"] + ["1"] * (len(COLUMNS) - 1)) + "\n"
    path.write_text(",".join(COLUMNS) + "\n" + row.format(5) + row.format(10) + row.format(15) + "20,3")
    assert LogFile(path, COLUMNS).begin(10)[-1]["seconds"] == 1
    assert [r["step"] for r in read(path)] == [5, 10]


def test_a_loss_that_is_not_finite_stops_before_the_checkpoint(toy_config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(
        UserError, match=r"the loss of step 7 is not finite: toy-\d+\.bin at sigma = 0\.5; 1 such steps, more than "
    ) as caught:
        train(toy_config("method={name: plain, fail_at: 7}", "trainer.nonfinite=0"), run)
    name = str(caught.value).split(": ")[1].split(" at")[0]
    from cmmulti.training.order import Order

    expected = Order(37, 0, 4).batch(7)[1].example
    assert name == f"toy-{expected}.bin"
    assert sorted(p.name for p in run.glob("*.ckpt")) == ["step-00000004.ckpt"]


def test_a_gradient_that_is_not_finite_stops_the_run(toy_config: Config, tmp_path: Path) -> None:
    values = ["optimizer.learning_rate=1e30", "optimizer.warmup_steps=0", "optimizer.name=adam", "trainer.nonfinite=3"]
    with pytest.raises(UserError, match=r"of step \d+ is not finite"):
        train(toy_config(*values), tmp_path / "run")


def test_dry_run_writes_nothing_and_tells_sizes(
    toy_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = dry_run(toy_config())
    assert "37 examples of shape 1x8, 3 classes, sigma_data 0.5" in told
    assert "s on this CPU" in told
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_refuses_what_the_run_would(toy_config: Config) -> None:
    with pytest.raises(UserError, match=r"strategy = 'fsdp' with method\.name = 'cd'"):
        dry_run(toy_config("method={name: cd}", "trainer.strategy=fsdp"))
    with pytest.raises(UserError, match=r"the first loss is nan, expected a finite one: toy-\d+\.bin at sigma = 0\.5$"):
        dry_run(toy_config("method={name: plain, fail_at: 0}"))


def test_a_dry_run_of_a_resumed_run_compares_configs(toy_config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(toy_config("trainer.max_steps=1"), run)
    files = sorted(run.iterdir())
    with pytest.raises(UserError, match=r"--resume with another config .* trainer\.seed = 5, expected 0"):
        dry_run(toy_config("trainer.seed=5"), resumed=run)
    assert "12 steps" in dry_run(toy_config(), resumed=run)
    assert sorted(run.iterdir()) == files


@pytest.mark.parametrize(("quick", "sizes"), [(1e9, [4, 4, 8, 8]), (0.0, [4])])
def test_a_dry_run_takes_a_whole_batch_only_where_that_is_quick(
    toy_config: Config, monkeypatch: pytest.MonkeyPatch, quick: float, sizes: list[int]
) -> None:
    seen: list[int] = []
    monkeypatch.setattr("cmmulti.training.dry_run.QUICK", quick)
    monkeypatch.setattr("cmmulti.training.dry_run.collate", lambda items: seen.append(len(items)) or collate(items))
    dry_run(toy_config("data.batch_size=8"))
    assert seen == sizes


def test_a_dry_run_takes_its_time_with_the_threads_of_the_run(toy_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    before = torch.get_num_threads()
    monkeypatch.setattr(
        "cmmulti.training.dry_run.collate", lambda items: seen.append(torch.get_num_threads()) or collate(items)
    )
    dry_run(toy_config(f"trainer.threads={before + 1}"))
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_the_seed_decides_everything(toy_config: Config, tmp_path: Path) -> None:
    def weights(name: str, *sets: str) -> torch.Tensor:
        module = train(toy_config("trainer.max_steps=2", *sets), tmp_path / name)
        return torch.cat([p.detach().flatten() for p in module.model.parameters()])

    first = weights("a")
    torch.manual_seed(5)
    assert torch.equal(first, weights("b"))
    assert not torch.equal(first, weights("c", "trainer.seed=1"))


def test_training_leaves_the_callers_random_state_alone(toy_config: Config, tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train(toy_config("trainer.max_steps=6"), tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_training_leaves_the_callers_threads_alone(toy_config: Config, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    train(toy_config("trainer.max_steps=1", f"trainer.threads={before + 1}"), tmp_path / "run")
    assert torch.get_num_threads() == before
    assert f"{before + 1} threads" in (tmp_path / "run" / "run.json").read_text()


@pytest.mark.parametrize("profile", [None, "half-life-0.1", "sigma-rel-0.1", "raw"])
def test_export_holds_the_average(toy_config: Config, tmp_path: Path, profile: str | None) -> None:
    run, out = tmp_path / "run", tmp_path / "model"
    module = train(toy_config(), run, command="cmmulti train toy.yaml --out run")
    export(run, out, profile)
    pipeline = Pipeline.from_pretrained(out)
    expected = module.ema.weights(profile or "half-life-0.5")
    for parameter, average in zip(pipeline.model.network.parameters(), expected, strict=True):
        assert torch.equal(parameter, average)
    assert pipeline.config.classes == ["low", "middle", "high"]
    head = yaml.safe_load(pipeline.card.split("---")[1])
    assert head["library_name"] == "cmmulti"
    for part in (
        "`cmmulti train toy.yaml --out run`",
        "12 of 12",
        "37 examples",
        "minutes",
        "CPU",
        profile or "half-life-0.5",
    ):
        assert part in pipeline.card, part


def test_the_card_says_on_which_terms_and_for_what(toy_config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(toy_config("trainer.max_steps=1"), run)
    card = export(run, tmp_path / "model").card
    assert yaml.safe_load(card.split("---")[1])["license"] == "cc0-1.0"
    assert "\nLicence: CC0-1.0, that of the data: Toys of nobody.\n" in card
    assert "\n| length | 8 |\n" in card
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"licence": "", "attribution": ""}))
    card = export(run, tmp_path / "mine").card
    assert yaml.safe_load(card.split("---")[1])["license"] == "other"
    assert "Licence: for the publisher to fill in. The weights derive from the data set toys" in card


def test_a_name_that_is_no_text_is_remembered(toy_config: Config, tmp_path: Path) -> None:
    run = Path(os.fsdecode(os.fsencode(tmp_path) + b"/run-\xff"))
    train(toy_config("trainer.max_steps=4"), run, command=f"cmmulti train toy.yaml --out {run}")
    assert folder.read_record(run).command.endswith("run-\udcff")
    assert inspect(run / "run.json")["command"].endswith("run-\udcff")
    export(run, tmp_path / "model")
    assert "run-\\udcff`" in Pipeline.from_pretrained(tmp_path / "model").card


def test_export_refuses_what_is_no_run(toy_config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected the folder of a run"):
        export(tmp_path, tmp_path / "model")
    train(toy_config("trainer.max_steps=1"), tmp_path / "run")
    with pytest.raises(UserError, match=r"no average called 'half-life-9'; expected one of half-life-0.1"):
        export(tmp_path / "run", tmp_path / "model", "half-life-9")
    next((tmp_path / "run").glob("*.ckpt")).unlink()
    with pytest.raises(UserError, match="no checkpoint"):
        export(tmp_path / "run", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_student_starts_from_its_teacher(toy_config: Config, tmp_path: Path) -> None:
    train(toy_config(), tmp_path / "teacher")
    export(tmp_path / "teacher", tmp_path / "model")
    weights = Pipeline.from_pretrained(tmp_path / "model").model.network.state_dict()
    init = f"init={tmp_path / 'model'}"
    module = train(
        toy_config(init, "method={name: ect}", "optimizer.learning_rate=1e-30", "trainer.max_steps=1"), tmp_path / "s"
    )
    for name, tensor in module.model.network.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=1e-7)
    assert module.model.role == "consistency"
    assert module.config.sigma_data == Pipeline.from_pretrained(tmp_path / "model").config.sigma_data
    with pytest.raises(UserError, match="of another architecture"):
        train(toy_config(init, "network.channels=[16]"), tmp_path / "other")
    with pytest.raises(UserError, match="length = 8, expected 16"):
        train(toy_config(init, "modality.length=16"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_method_that_needs_a_teacher(toy_config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a teacher"):
        train(toy_config("method={name: needs-teacher}"), tmp_path / "none")
    train(toy_config("method={name: plain}"), tmp_path / "teacher")
    export(tmp_path / "teacher", tmp_path / "model")
    module = train(toy_config(f"init={tmp_path / 'model'}", "method={name: needs-teacher}"), tmp_path / "student")
    state = checkpoint.load(tmp_path / "student" / "step-00000012.ckpt")
    assert module.teacher is not None
    assert not any(p.requires_grad for p in module.teacher.parameters())
    assert not any("teacher" in name for name in state["model"] | state["method"])


@pytest.mark.parametrize(("accelerator", "told"), [("auto", "GPU"), ("gpu", "GPU"), ("mps", "GPU"), ("cpu", "CPU")])
def test_the_card_names_what_computes(accelerator: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with Apple's GPU and no other; costs by `cmmulti compare` are told by that name, too."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert [word for word in ("CPU", "GPU") if word in device_name(accelerator)] == [told]


def test_a_device_that_is_not_there_is_a_user_error(toy_config: Config, tmp_path: Path) -> None:
    missing = "gpu" if torch.backends.mps.is_available() else "mps"
    with pytest.raises(
        UserError, match=rf"trainer\.accelerator = .{missing}., trainer\.devices = 1: .*expected what this machine has"
    ):
        train(toy_config(f"trainer.accelerator={missing}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["data.name=toyz"], "expected 'toys'"),
        (["network.classes=2"], "network.classes = 2: the data has label 2; expected at least 3"),
        (
            ["network.channels=[8]", "network.heads=3", "network.attention=[0]"],
            "heads: expected a divisor of the widths with attention, got 3 for 8 channels",
        ),
        (["network.dims=2"], "network: does not take toy tensors of shape"),
        (["init=nowhere"], "no such folder"),
    ],
)
def test_what_cannot_start_leaves_no_folder(toy_config: Config, tmp_path: Path, sets: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(toy_config(*sets), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unwritable_output_is_told_before_anything_is_loaded(toy_config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        train(toy_config(), tmp_path / "file" / "run")


def test_a_log_holds_what_a_method_tells_besides(toy_config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(toy_config("method={name: ect, stages: 2}", "log.every_steps=6", "log.tensorboard=true"), run)
    first, last = read(run / "log.csv")
    assert (first["stage"], last["stage"]) == (0, 1)
    assert 0 < first["ratio"] < last["ratio"] < 1


def test_a_column_that_comes_later_stands_in_every_row(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log.csv", ["step", "loss"])
    assert file.begin(0) == []
    file.append({"step": 1, "loss": 2.5})
    file.append({"step": 2, "loss": 1.5, "stage": 3})
    file.append({"step": 3, "loss": 1.25})
    rows = read(tmp_path / "log.csv")
    assert [list(row) for row in rows] == [["step", "loss", "stage"]] * 3
    assert [row["stage"] == 3 for row in rows] == [False, True, False]
    again = LogFile(tmp_path / "log.csv", ["step", "loss"])
    assert [row["step"] for row in again.begin(2)] == [1, 2]
    assert again.columns == ["step", "loss", "stage"]


def test_a_row_that_a_killed_run_cut_within_its_last_number_is_passed_over(toy_config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(toy_config("trainer.max_steps=6", "log.every_steps=3"), run)
    path = run / "log.csv"
    first, last = path.read_text().splitlines()[1:]
    head = ",".join(COLUMNS)
    for cut in (1, len(last.rsplit(",", 1)[1]) + 1, len(last) - 1):
        path.write_text("\n".join([head, first, last[:-cut]]))
        assert [row["step"] for row in read(path)] == [3], cut
        assert inspect(run)["log"] == dict(zip(COLUMNS, first.split(","), strict=True)), cut


def test_no_number_of_steps_makes_no_preview(toy_config: Config, tmp_path: Path) -> None:
    train(toy_config("trainer.max_steps=1", "preview.steps=[]"), tmp_path / "run")
    assert not (tmp_path / "run" / "previews").exists()

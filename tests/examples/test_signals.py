"""The fourth modality: installed as a package of its own, trained, sampled and edited through the ordinary command line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "signals"

SCRIPT = """
import sys
from cmmulti.cli import main
from cmmulti import registry
assert "signals" in registry.names("modalities")
for line in open(sys.argv[1]):
    code = main(line.split())
    if code:
        sys.exit(code)
"""

TINY = """
modality: {name: signals, rate: 50, length: 64, classes: 2}
data: {name: synthetic-ecg, batch_size: 8, options: {train: 32, val: 4, test: 4}}
network: {name: unet, channels: [8, 16], attention: []}
method: {name: ect, stages: 2}
trainer: {max_steps: 3}
checkpoint: {every_steps: 3}
preview: {every_steps: 0}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the example, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(EXAMPLE, source)  # pip builds inside the folder that it is given
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--disable-pip-version-check", "--target", str(folder / "site"), str(source)], check=True)
    return folder / "site"


def environment(installed: Path) -> dict[str, str]:
    """That of a process which finds the adapter, and of this package the copy that is under test."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)]), "OMP_NUM_THREADS": "1"}


def run(installed: Path, folder: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    (folder / "commands").write_text("\n".join(lines))
    command = [sys.executable, "-c", SCRIPT, str(folder / "commands")]
    return subprocess.run(
        command, cwd=folder, env=environment(installed), capture_output=True, text=True, timeout=200, check=False
    )


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_trains_samples_and_edits_by_entry_point_alone(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    done = run(
        installed,
        tmp_path,
        "train tiny.yaml --out run",
        "export run --out ecg",
        "sample ecg --n 3 --steps 2 --seed 5 --out samples",
        "edit ecg --task inpaint --input samples/sample-6.csv --start 0.4 --end 0.8 --steps 2 --out filled",
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "samples" / "results.json").read_text())
    assert [o["file"] for o in results["outputs"]] == ["sample-5.csv", "sample-6.csv", "sample-7.csv"]
    assert [o["label"] for o in results["outputs"]] == [1, 0, 1]
    card = (tmp_path / "ecg" / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "| window | 1.28 s, 64 samples |" in card
    assert (tmp_path / "filled" / "index.html").is_file()
    before, after = rows(tmp_path / "samples" / "sample-6.csv"), rows(tmp_path / "filled" / "result-0.csv")
    assert len(before) == len(after) == 65
    changed = [i for i, (a, b) in enumerate(zip(before[1:], after[1:], strict=True)) if a != b]
    assert changed
    assert changed[0] >= 20
    assert changed[-1] < 40


CONTRACT = """
from pathlib import Path
import numpy as np
from cmmulti.modality import DataSource
from cmmulti.testing import ModalityCase, check_modality
from cmmulti_signals.modality import SignalModality
from cmmulti_signals.settings import SignalSettings
from cmmulti_signals.signal import Signal

for channels in (1, 3):
    modality = SignalModality(SignalSettings(rate=50, length=64, channels=channels))
    samples = np.random.default_rng(0).normal(0, 0.3, (100, channels))
    names = tuple(f"lead_{i}" for i in range(channels))
    file = modality.save(Signal(samples, 50.0, names, start=1.5), Path(f"lead{channels}.csv"))
    check_modality(ModalityCase(modality, file, error=1e-6, data=DataSource(name="synthetic-ecg")))
"""


def test_the_adapter_keeps_the_contract(installed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", CONTRACT]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(installed), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr.splitlines()[-1]


def test_bad_files_are_refused_in_one_line(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "nan.csv").write_text("seconds,ecg\n0,1\n0.01,nan\n0.02,3\n")
    (tmp_path / "cut.csv").write_text("seconds,ecg\n0,1\n0.01\n")
    (tmp_path / "uneven.csv").write_text("seconds,ecg\n0,1\n0.01,1\n0.05,1\n")
    (tmp_path / "empty.csv").write_text("")
    for name in ("nan.csv", "cut.csv", "uneven.csv", "empty.csv", "missing.csv"):
        script = f"from cmmulti_signals import files; from pathlib import Path; files.load(Path({name!r}))"
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env=environment(installed),
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"UserError: {name}: " in done.stderr.splitlines()[-1]

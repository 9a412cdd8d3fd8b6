"""Scale of contexts: measured, undone, given in plain units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cmmulti.contexts import ContextScale, ContextTable, read_contexts
from cmmulti.errors import UserError

SCALE = ContextScale(names=("age", "sex"), mean=(60.0, 0.5), deviation=(10.0, 0.5))
ARRAYS = ContextScale(tokens=2, mean=(1.0, -1.0, 0.0), deviation=(2.0, 1.0, 0.5))


def table(rows: np.ndarray, names: tuple[str, ...] = ("age", "sex")) -> ContextTable:
    return ContextTable(Path("c.csv"), names, {f"{i}": row[None] for i, row in enumerate(rows)})


def test_measured_contexts_have_mean_0_and_deviation_1_beside_a_feature_that_is_1() -> None:
    rows = np.random.default_rng(0).normal((60, 0.4), (12, 0.5), (200, 2))
    known = table(rows)
    scale = ContextScale.measured(known, list(known.entries.values()))
    told = scale.told(list(known.entries.values()))
    assert told.shape == (200, 1, 3)
    assert (scale.width, scale.tokens, scale.names) == (3, 1, ("age", "sex"))
    assert told[..., :2].mean(0).abs().max() < 1e-4
    torch.testing.assert_close(told[..., :2].std(0, correction=0), torch.ones(1, 2), rtol=1e-4, atol=0)
    assert torch.equal(told[..., 2], torch.ones(200, 1))


def test_a_large_mean_is_as_exact_as_the_deviation_beside_it() -> None:
    """Seconds of one day since 1970: the mean has five digits more than the deviation."""
    seconds = 1_700_000_000 + np.linspace(0, 86_400, 50)
    known = table(seconds[:, None], ("acquired",))
    told = ContextScale.measured(known, list(known.entries.values())).told(list(known.entries.values()))
    assert told[..., 0].mean().abs() < 1e-4


def test_by_hand_and_back() -> None:
    told = SCALE.given({"sex": 1, "age": 45})
    assert told.tolist() == [[[-1.5, 1.0, 1.0]]]
    back = told[..., :-1] * torch.tensor(SCALE.deviation) + torch.tensor(SCALE.mean)
    assert back.tolist() == [[[45.0, 1.0]]]


def test_an_average_context_differs_from_none() -> None:
    assert SCALE.given({"age": 60, "sex": 0.5}).tolist() == [[[0.0, 0.0, 1.0]]]


def test_it_survives_json() -> None:
    assert ContextScale.model_validate_json(SCALE.model_dump_json()) == SCALE
    assert SCALE.described == "age, sex"
    assert ARRAYS.described == "arrays of 2 tokens x 3 features"


def test_columns_of_a_file_may_stand_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("sex,file,age\n1,a,45\n0,b,60\n")
    assert SCALE.given(path).tolist() == [[[-1.5, 1.0, 1.0]], [[0.0, -1.0, 1.0]]]
    assert torch.equal(SCALE.given(str(path)), SCALE.given(path))
    path.write_text("file,age\na,45\n")
    with pytest.raises(UserError, match=r"c\.csv: contexts of age; expected age, sex"):
        SCALE.given(path)


def test_arrays_alone_or_several() -> None:
    one = np.array([[1.0, -1.0, 0.0], [3.0, 0.0, 0.5]])
    want = [[0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    assert ARRAYS.given(one).tolist() == [want]
    assert ARRAYS.given(torch.from_numpy(np.stack([one] * 3))).tolist() == [want] * 3


def test_a_constant_column_is_refused_and_a_constant_feature_is_let_be() -> None:
    rows = np.array([[60.0, 1.0], [70.0, 1.0]])
    with pytest.raises(UserError, match=r"c\.csv: column 'sex' is constant on the training part"):
        ContextScale.measured(table(rows), [row[None] for row in rows])
    scale = ContextScale.measured(table(rows, ()), [row[None] for row in rows])
    assert (scale.mean, scale.deviation) == ((65.0, 1.0), (5.0, 1.0))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"age": 60}, "context: got age; expected age, sex"),
        ({"age": 60, "sx": 1}, "got age, sx; expected age, sex"),
        ({}, "got nothing"),
        ({"age": float("nan"), "sex": 1}, "not finite"),
        ({"age": 1e300, "sex": 1}, "not finite, or beyond"),
        ([[1.0]], r"shape \(1, 1\); expected age, sex"),
        (object(), "expected age, sex, got object"),
        ("nowhere.csv", r"nowhere\.csv: no such file"),
    ],
)
def test_what_does_not_fit_is_refused(given: object, told: str) -> None:
    with pytest.raises(UserError, match=told):
        SCALE.given(given)


@pytest.mark.parametrize(
    "values",
    [
        {"mean": [0.0], "deviation": [0.0]},
        {"mean": [0.0], "deviation": [1.0, 1.0]},
        {"mean": [], "deviation": []},
        {"names": ["a", "b"], "mean": [0.0], "deviation": [1.0]},
        {"names": ["a"], "tokens": 2, "mean": [0.0], "deviation": [1.0]},
    ],
)
def test_a_damaged_scale_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ContextScale.model_validate(values)


def test_the_two_readers_agree(tmp_path: Path) -> None:
    """A table and the arrays of its rows are told alike."""
    (tmp_path / "c.csv").write_text("file,age,sex\na,45,1\nb,60,0\n")
    np.savez(tmp_path / "c.npz", a=np.array([[45.0, 1.0]]), b=np.array([[60.0, 0.0]]))
    named, plain = (read_contexts(tmp_path / name) for name in ("c.csv", "c.npz"))
    assert torch.equal(SCALE.told(named.of(["a", "b"])), SCALE.told(plain.of(["a", "b"])))

"""The pipeline: seeds, labels, levels and tasks, on an untrained model of 8 x 8 pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cmmulti.errors import UserError
from cmmulti.model import Role
from cmmulti.pipeline import Pipeline
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.base import StepInfo
from modalities.image.picture import Picture


def test_noise_of_a_sample_depends_on_its_seed_only() -> None:
    together = SampleRandomness([3, 4, 5]).normal((3, 1, 8, 8))
    alone = SampleRandomness([4]).normal((1, 1, 8, 8))
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])


def test_samples_are_the_same_in_any_batch(pipe: Pipeline) -> None:
    seeds, levels = list(range(5)), [80.0, 0.8]
    whole = pipe.generate(seeds, levels, batch=5).x
    pieces = pipe.generate(seeds, levels, batch=2).x
    torch.testing.assert_close(whole, pieces, rtol=1e-4, atol=1e-5)


def test_network_calls_in_chunks_give_the_same_samples(pipe: Pipeline) -> None:
    whole = pipe.generate([0, 1, 2], [80.0]).x
    pipe.model.evaluation_batch = 2
    torch.testing.assert_close(pipe.generate([0, 1, 2], [80.0]).x, whole, rtol=1e-4, atol=1e-5)


def test_seeds_labels_and_nfe_are_reported(pipe: Pipeline) -> None:
    outcome = pipe.sample(n=3, steps=2, seed=9)
    assert outcome.seeds == [9, 10, 11]
    assert outcome.labels == [9, 0, 1]  # seed mod classes
    assert outcome.nfe == 2
    assert len(outcome.items) == 3


def test_the_label_changes_the_sample(pipe: Pipeline) -> None:
    seven, eight = (pipe.generate([0], [80.0], [label]).x for label in (7, 8))
    assert not torch.allclose(seven, eight)


def test_a_teacher_walks_the_ode_with_heun(pipe: Pipeline) -> None:
    pipe.model.role = "teacher"
    assert pipe.sample(n=1, steps=18).nfe == 35


def test_a_two_time_model_jumps_from_level_to_level() -> None:
    pipe = Pipeline.from_pretrained("spoken-digits")
    own, jumps, noised = (pipe.generate([3], [80.0, 2.0], [7], sampler=name) for name in (None, "jumps", "multistep"))
    assert torch.equal(own.x, jumps.x)
    assert own.nfe == 2
    assert float((own.x - noised.x).abs().max()) > 0.1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"label": 10}, "expected 0 to 9, got 10"),
        ({"steps": 0}, "steps: expected at least 1, got 0"),
        ({"n": 0}, "n: expected at least 1, got 0"),
        ({"levels": [1.0, 2.0]}, "strictly decreasing"),
        ({"levels": [100.0]}, r"\(0, 80\]"),
        ({"sampler": "multstep"}, "did you mean 'multistep'"),
        ({"sampler": "heun"}, "sampler heun: for denoising teachers; expected multistep for this consistency model"),
    ],
)
def test_impossible_requests_are_refused(pipe: Pipeline, how: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        pipe.sample(**how)  # type: ignore[arg-type]


def test_a_sampler_of_the_config_that_does_not_fit_is_named(pipe: Pipeline) -> None:
    wrong = Pipeline(pipe.model, pipe.modality, pipe.config.model_copy(update={"sampler": "euler"}))
    with pytest.raises(UserError, match="sampler euler: for denoising teachers"):
        wrong.sample(n=1)


def test_an_unknown_model_names_those_that_exist() -> None:
    with pytest.raises(UserError, match="unknown model"):
        Pipeline.from_pretrained("no-such-model")


def test_an_unknown_task_is_refused(pipe: Pipeline) -> None:
    with pytest.raises(UserError, match="task for `edit` 'inpant'; did you mean 'inpaint'"):
        pipe.edit("x.png", "inpant")


@pytest.mark.parametrize(
    ("role", "changes", "weight", "message"),
    [
        ("teacher", {}, float("nan"), "a finite weight"),
        ("consistency", {}, 2.0, "no denoising teacher"),
        ("teacher", {"classes": []}, 2.0, "no classes"),
    ],
)
def test_guidance_that_has_no_effect_is_refused(
    pipe: Pipeline, role: Role, changes: dict[str, object], weight: float, message: str
) -> None:
    pipe.config = pipe.config.model_copy(update={"role": role, **changes})
    pipe.model.role = role
    with pytest.raises(UserError, match=message):
        pipe.sample(1, guidance=weight)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1], "labels: expected one for each of 2 seeds, got 1"),
        ([0, 1, 2], "expected one for each of 2 seeds, got 3"),
        ([0, 1.5], r"label: expected 0 to \d+, got 1.5"),
    ],
)
def test_labels_fit_the_seeds(pipe: Pipeline, labels: list[int | None], message: str) -> None:
    with pytest.raises(UserError, match=message):
        pipe.generate([0, 1], [80.0], labels)
    with pytest.raises(UserError, match="batch: expected at least 1, got 0"):
        pipe.generate([0, 1], [80.0], batch=0)


def test_a_reference_that_does_not_fit_is_refused_before_anything_is_sampled(pipe: Pipeline) -> None:
    grey, wide = (Picture(np.full((8, n, 1), 100, np.uint8)) for n in (8, 9))
    evaluated: list[StepInfo] = []
    with pytest.raises(UserError, match=r"a reference of 9 x 8 pixels; expected the result's 8 x 8"):
        pipe.edit(grey, "denoise", {"sigma": 20}, reference=wide, callback=evaluated.append)
    assert not evaluated

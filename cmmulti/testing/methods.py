"""The contract of training methods."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from cmmulti.conditioning import NO_CONDITION, NULL_LABEL, Condition
from cmmulti.methods.base import Budget, Loss, Method, Progress, Recommended
from cmmulti.model import ROLES, Model
from cmmulti.nn.unet import UNet
from cmmulti.parameterization import KINDS
from cmmulti.randomness import TrainingRandomness
from cmmulti.testing.gaussian import Gaussian, gaussian_model
from cmmulti.testing.suite import Suite, fail_unless

check_method: Suite[Method] = Suite("method")
"""Run on a method fresh from its settings; every check works on a copy."""

SHAPE = (1, 4, 6)
BUDGET = Budget(100, 8)
KEY = TrainingRandomness(seed=0, step=3)


def student_of(method: Method, dropout: float = 0.0) -> Model:
    """A tiny U-Net in the method's own form, with weights away from their start at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        two_times = method.role == "two-time"
        network = UNet(2, 1, (8, 8), dropout=dropout, classes=3, two_times=two_times, guided=True)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
    return Model(network, method.parameterization(0.5), method.role)


def prepared(method: Method, dropout: float = 0.0) -> tuple[Method, Model, Model | None]:
    """A copy of the method set up with a tiny student, and a Gaussian teacher where it needs one."""
    method, model = copy.deepcopy(method), student_of(method, dropout)
    teacher = teacher_of(method)
    method.setup(model, teacher, BUDGET)
    return method, model, teacher


def teacher_of(method: Method) -> Model | None:
    """What is exact for a Gaussian, in the first role that the method takes; None where it needs no teacher."""
    return gaussian_model(Gaussian.random(SHAPE), method.teacher_roles[0], learnable=True) if method.needs_teacher else None


def at(step: int) -> Progress:
    return Progress(step, step * BUDGET.batch_size, step / BUDGET.steps)


def loss_of(method: Method, model: Model, step: int = 3, randomness: TrainingRandomness | None = None) -> Loss:
    """The loss of one batch at ``step``; its draws are those of ``randomness``, by default that of the step."""
    x0 = Gaussian.random(SHAPE).sample(8, torch.Generator().manual_seed(1)).float()
    # Some labels are dropped, as in training.
    label = torch.tensor([0, 1, 2, NULL_LABEL] * 2)
    return method.loss(model, x0, Condition(label=label), at(step), randomness or replace(KEY, step=step))


@check_method.check
def loss_and_gradients_are_finite(method: Method) -> None:
    """At the start, in the middle and at the end of the budget; and something is learned."""
    for step in (0, 50, 99):
        ready, model, _ = prepared(method)
        loss = loss_of(ready, model, step)
        fail_unless(
            loss.value.dim() == 0 and bool(loss.value.isfinite()), f"the loss at step {step} is {loss.value.detach()}"
        )
        fail_unless(loss.sigma.shape == loss.per_sample.shape == (8,), "sigma and per_sample are not (B,)")
        fail_unless(not loss.sigma.requires_grad and not loss.per_sample.requires_grad, "what is logged holds a graph")
        fail_unless(bool(((loss.sigma > 0) & (loss.sigma <= model.sigma_max)).all()), "sigma leaves (0, sigma_max]")
        for name, value in loss.extras.items():
            told = torch.as_tensor(value)
            fail_unless(not told.requires_grad, f"extras[{name!r}] holds a graph")
            fail_unless(bool(told.isfinite().all()), f"extras[{name!r}] at step {step} is not finite")
        loss.value.backward()
        trained = {id(p) for p in ready.trainable(model)}
        forgotten = [n for n, p in ready.named_parameters() if p.grad is not None and id(p) not in trained]
        fail_unless(not forgotten, f"{', '.join(forgotten)}: has a gradient at step {step} and is not trained")
        gradients = [p.grad for p in ready.trainable(model) if p.grad is not None]
        fail_unless(all(bool(g.isfinite().all()) for g in gradients), f"a gradient at step {step} is not finite")
        fail_unless(sum(float(g.abs().sum()) for g in gradients) > 0, f"no parameter has a gradient at step {step}")


@check_method.check
def half_precision(method: Method) -> None:
    """Twenty steps over the whole budget under bfloat16 autocast: losses, gradients and weights stay finite."""
    ready, model, _ = prepared(method, dropout=0.1)
    model.train()
    parameters = [p for p in ready.trainable(model) if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    for step in range(0, BUDGET.steps, BUDGET.steps // 20):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(ready, model, step)
        loss.value.backward()
        finite = all(bool(p.grad.isfinite().all()) for p in parameters if p.grad is not None)
        fail_unless(bool(loss.value.isfinite()), f"the loss at step {step} is not finite under bfloat16 autocast")
        fail_unless(finite, f"a gradient at step {step} is not finite under bfloat16 autocast")
        optimizer.step()
        ready.after_step(model, at(step + 1))
    fail_unless(all(bool(p.isfinite().all()) for p in parameters), "a weight is not finite after steps in bfloat16")


@check_method.check
def same_seed_same_number(method: Method) -> None:
    """Dropout included, the loss depends on the key of the step alone and on all of it; the global generator is neither
    read nor moved."""
    ready, model, _ = prepared(method, dropout=0.5)
    model.train()
    torch.manual_seed(1)
    first = loss_of(ready, model).value.detach()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = loss_of(ready, model).value.detach()
    fail_unless(torch.equal(first, second), f"the same key gives {float(first):.8g} and {float(second):.8g}")
    fail_unless(torch.equal(state, torch.get_rng_state()), "the global random generator is moved")
    # Without the step every batch sees the same noise, without the rank every process, without micro every part of a batch.
    for part in ("seed", "step", "rank", "micro"):
        other = loss_of(ready, model, randomness=replace(KEY, **{part: 1})).value.detach()
        fail_unless(not torch.equal(first, other), f"another {part} gives the same loss: it is not in the draws")


@check_method.check
def passes_share_their_dropout(method: Method) -> None:
    """All passes of the student's network within one loss drop the same units."""
    masks: list[Tensor] = []

    class Probe(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(
            self, x: Tensor, time: Tensor, condition: Condition = NO_CONDITION, time_next: Tensor | None = None
        ) -> Tensor:
            masks.append(nn.functional.dropout(torch.ones(64), 0.5, self.training))
            told = (time, condition) if time_next is None else (time, condition, time_next)
            return self.network(x, *told)

    fresh, model = copy.deepcopy(method), student_of(method)
    model.network = Probe(model.network)
    fresh.setup(model, teacher_of(fresh), BUDGET)
    loss_of(fresh, model.train())
    fail_unless(len(masks) > 0, "the student is not evaluated")
    fail_unless(all(torch.equal(m, masks[0]) for m in masks), "two passes of one loss have different dropout masks")


@check_method.check
def teacher_is_left_alone(method: Method) -> None:
    """No gradient, no change, no dropout and no place among what is trained."""
    ready, model, teacher = prepared(method)
    trained = {id(p) for p in ready.trainable(model)}
    fail_unless({id(p) for p in model.parameters() if p.requires_grad} <= trained, "not all of the student is trained")
    if teacher is None:
        return
    before = copy.deepcopy(teacher.state_dict())
    modes: list[bool] = []
    teacher.network.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    ready.train()
    loss_of(ready, model).value.backward()
    fail_unless(len(modes) > 0 and not any(modes), "the teacher is not asked, or asked in training mode")
    ready.after_step(model, at(1))
    fail_unless(not any(id(p) in trained for p in teacher.parameters()), "the teacher's weights are trained")
    fail_unless(all(p.grad is None for p in teacher.parameters()), "the teacher gets a gradient")
    fail_unless(all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items()), "the teacher changes")


@check_method.check
def needs_a_teacher_as_said(method: Method) -> None:
    """A method that needs a teacher refuses to start without one."""
    from cmmulti.errors import UserError

    if not method.needs_teacher:
        return
    try:
        copy.deepcopy(method).setup(student_of(method), None, BUDGET)
    except UserError:
        return
    raise AssertionError("setup without a teacher is not refused with a UserError")


@check_method.check
def a_student_off_its_answer_is_pulled_back(method: Method) -> None:
    """On a Gaussian: a descent of the loss leads from beside the exact function towards it, from either side.

    A teacher at the start of its training, each parameter by itself and from nearby: data or noise that are off by a tenth
    are found. The others at the end, where steps are short and warm-ups are over; their steps' own bias remains.
    """
    prior = Gaussian.random(SHAPE)
    teaches = method.role == "teacher"
    x0 = prior.sample(4096 if teaches else 1024, torch.Generator().manual_seed(1)).float()
    progress = Progress(0, 0, 0.0) if teaches else Progress(10**6, 10**6, 0.999)
    for side in (-0.05, 0.05) if teaches else (-0.2, 0.2):
        fresh = copy.deepcopy(method)
        model = gaussian_model(prior, method.role, method.parameterization(0.5), learnable=True)
        moved = [p for p in model.parameters() if p.requires_grad]
        for parameter in moved:
            nn.init.constant_(parameter, side)
        fresh.setup(model, teacher_of(fresh), BUDGET)
        label = Condition(label=torch.zeros(len(x0), dtype=torch.int64))
        fresh.loss(model, x0, label, progress, TrainingRandomness(0, 0)).value.backward()
        back = [side * float(p.grad) for p in moved if p.grad is not None]
        found = len(back) > 0 and (min(back) if teaches else sum(back)) > 0
        fail_unless(found, f"a student moved by {side:g} from the exact function is not led back to it")


@check_method.check
def state_is_saved(method: Method) -> None:
    """After some steps, a fresh method that loads ``state_dict`` gives the same loss and the same next state."""
    ready, model, _ = prepared(method)
    parameters = [p for p in ready.trainable(model) if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-2)
    for step in range(3):
        optimizer.zero_grad()
        loss_of(ready, model, step).value.backward()
        optimizer.step()
        ready.after_step(model, at(step + 1))
    again, copied, _ = prepared(method)
    copied.load_state_dict(model.state_dict())
    again.load_state_dict(ready.state_dict())
    fail_unless(
        torch.equal(loss_of(ready, model).value, loss_of(again, copied).value), "the loss differs after a restored state"
    )
    ready.after_step(model, at(4))
    again.after_step(copied, at(4))
    pairs = zip(ready.state_dict().values(), again.state_dict().values(), strict=True)
    fail_unless(all(torch.equal(a, b) for a, b in pairs), "after_step differs after a restored state")


@check_method.check
def says_what_it_is(method: Method) -> None:
    """Role, paper, form, recommended settings and what is exported; unknown settings are refused."""
    fail_unless(method.role in ROLES, f"role is {method.role!r}, expected one of {', '.join(ROLES)}")
    fail_unless(bool(getattr(method, "paper", "")), "the paper is not named")
    form = method.parameterization(0.5)
    known = type(form) is KINDS.get(form.kind)
    fail_unless(
        known, f"parameterization: {form.kind!r} ({type(form).__name__}), expected one of {', '.join(sorted(KINDS))}"
    )
    fail_unless(isinstance(method.recommended(), Recommended), "recommended() does not return Recommended")
    ready, model, _ = prepared(method)
    ranges = sorted((e.sigma_low, e.sigma_high) for e in ready.exported(model))
    fail_unless(len(ranges) == method.networks, f"{len(ranges)} networks are exported, networks says {method.networks}")
    joined = all(a[1] == b[0] for a, b in pairwise(ranges))
    covers = ranges[0][0] <= model.sigma_boundary and ranges[-1][1] == model.sigma_max
    fail_unless(joined and covers, f"exported ranges {ranges} do not cover [{model.sigma_boundary}, {model.sigma_max}]")
    try:
        type(method).Settings(no_such_setting=1)  # type: ignore[call-arg]
    except ValidationError:
        return
    raise AssertionError("an unknown setting is not refused")

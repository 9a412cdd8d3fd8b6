"""Every method on a mixture of six Gaussians in the plane, whose trajectories can be integrated to any precision.

    python benchmarks/mixture.py [--methods ect cd ...] [--evaluations 12000] [--out mixture.jsonl]

Each trains the same small network from random weights (``tcm`` from an ``ect`` that took half of its share) with the same
optimiser and an equal number of network evaluations per example: those of the student, its target and the teacher, each
call counted once, a pass in forward mode included. Teachers are the closed form. Prints a table row by row:

- error: median of ``|f(x, 80) - f*| / |f*|`` at ``x = 80 n``, over the points whose distance from the nearest boundary
  between two basins is more than 5 % of their radius; f* from the probability-flow ODE by Runge and Kutta's rule.
- energy: energy distance of one-step samples from exact ones, over that of two exact sets.

``edm`` is the teacher that was trained, and ``exact`` the closed form, both by Heun's rule in 18 steps and in 40 (35 and 79
evaluations). Two-time models (``ctm``, ``meanflow``) have a second and a third row of four evaluations, by jumps and by
multistep sampling. With ``--out``, rows that the file has already are printed from it, and only the others are trained.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from plane import SIGMA_DATA, SIGMA_MAX, Exact, draw, figures
from torch import Tensor, nn

from cmmulti import registry
from cmmulti.conditioning import NO_CONDITION, Condition
from cmmulti.methods.base import Budget, Method, Progress
from cmmulti.model import Model
from cmmulti.noise import few_step_levels, karras
from cmmulti.parameterization import EDM, Parameterization
from cmmulti.randomness import SampleRandomness, TrainingRandomness
from cmmulti.samplers.base import Sampler
from cmmulti.samplers.jumps import Jumps
from cmmulti.samplers.multistep import Multistep
from cmmulti.samplers.ode import Heun

METHODS = ("edm", "cd", "lcm", "progressive", "scd", "ctm", "ct", "ict", "ect", "tcm", "sct", "meanflow")
BATCH = 256


class Network(nn.Module):
    """An MLP of the point, the time, and where a method has them the second time and the guidance weight."""

    frequencies: Tensor

    def __init__(self, further: int, width: int = 96) -> None:
        super().__init__()
        self.further = further
        self.register_buffer("frequencies", 2.0 ** torch.arange(-2, 3))
        inner = [nn.Linear(i, width) for i in (2 + 10 * (1 + further), width, width, width)]
        last = nn.Linear(width, 2)
        for layer in inner:
            # SiLU of a standard normal has a mean square of 0.356; torch's own start would lose two thirds of each layer.
            nn.init.normal_(layer.weight, std=(0.356 * layer.in_features) ** -0.5)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(inner[0].weight, std=inner[0].in_features ** -0.5)
        nn.init.uniform_(inner[0].bias, -1, 1)
        nn.init.zeros_(last.weight)  # the first estimate is c_skip x
        self.layers = nn.Sequential(*(m for layer in inner for m in (layer, nn.SiLU())), last)

    def forward(
        self, x: Tensor, time: Tensor, condition: Condition = NO_CONDITION, time_next: Tensor | None = None
    ) -> Tensor:
        told = [time, *(v for v in (time_next, condition.guidance) if v is not None)][: 1 + self.further]
        angles = torch.cat([v.to(x.dtype)[:, None] * self.frequencies for v in told], 1)
        result: Tensor = self.layers(torch.cat([x, angles.cos(), angles.sin()], 1))
        return result


def made(name: str, steps: int) -> Method:
    """A method with its defaults, but where these rest on pictures or on the length of their authors' trainings.

    - Distances of pairs with noise in them are squared. Over the thousands of elements of a picture the norm is nearly the
      same for every draw; in the plane it is not, and what has the least of it is the posterior's median, not its mean:
      trajectories that follow that one end 9.7 % off. So is MeanFlow's weight. ``sct`` needs its normalised tangents.
    - Squares take weight from both ends of the noise levels: ``ect`` has ``1/c_out^2``, ``ict`` a wide law of levels.
    - Decays of targets reach back over the same share of the training as their authors'.
    - Steps are Heun's. ``cd`` and ``lcm`` have 18 levels, though 40 have less bias: the way from the lowest level to the
      highest is long for a short training. ``ctm`` goes several of 40 at once. MeanFlow's times are CIFAR-10's.
    """
    squared = {"huber": 10.0, "weighting": "edm"}  # sqrt(|e|^2 + c^2) - c with c beyond every |e|
    settings: dict[str, dict[str, Any]] = {
        "cd": {"distance": "l2", "target_decay": 0.0},
        "lcm": {
            "guidance": (1, 4),
            "levels": 18,
            "solver": "heun",
            "distance": "l2",
            "target_decay": 0.95 ** (100_000 / steps),
        },
        "ctm": {"levels": 40, "solver_steps": 6, "distance": "l2", "target_decay": 0.999 ** (100_000 / steps)},
        "ct": {"distance": "l2", "target_decay": max(0.9 ** (800_000 / steps), 1e-12)},
        "ict": {"huber": 10.0, "p_mean": -0.7, "p_std": 4.0},
        "ect": squared,
        "tcm": squared,
        "meanflow": {"power": 0.0, "p_mean": -0.6, "p_std": 1.6, "r_law": (-4.0, 1.6), "apart": 0.75},
    }
    cls = registry.load("methods", name)
    method: Method = cls(cls.Settings(**settings.get(name, {})))
    return method


def student(method: Method, seed: int) -> Model:
    torch.manual_seed(seed)
    form: Parameterization = method.parameterization(SIGMA_DATA)
    return Model(Network(int(method.role == "two-time") + int(method.tells_guidance)), form, method.role, SIGMA_MAX)


def evaluations(*modules: nn.Module | None) -> int:
    """Network evaluations per example so far, of all models in ``modules``, each counted once."""
    found = {id(m): m.nfe for module in modules if module is not None for m in module.modules() if isinstance(m, Model)}
    return sum(found.values())


def train(name: str, budget: int, seed: int, rate: float) -> tuple[Model, int]:
    """The student after ``budget`` evaluations per example, and its optimiser steps."""
    teacher: Model | None = Model(Exact(), EDM(SIGMA_DATA), "teacher", SIGMA_MAX)
    if name == "tcm":
        budget //= 2
        teacher, _ = train("ect", budget, seed, rate)
    probe = made(name, 40)
    used = fit(probe, student(probe, seed), teacher if probe.needs_teacher else None, 40, seed, rate)
    steps = 40 * budget // used
    method = made(name, steps)
    model = student(method, seed)
    if name == "tcm" and teacher is not None:
        model.load_state_dict(teacher.state_dict())
    fit(method, model, teacher if method.needs_teacher else None, steps, seed, rate)
    return model, steps


def fit(method: Method, model: Model, teacher: Model | None, steps: int, seed: int, rate: float) -> int:
    """Train for ``steps``; the evaluations it took."""
    method.setup(model, teacher, Budget(steps, BATCH))
    parameters = list(method.trainable(model))
    optimizer = torch.optim.Adam(parameters, lr=rate, betas=(0.9, 0.99), fused=True)
    before = evaluations(model, method, teacher)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        x0 = draw(BATCH, torch.Generator().manual_seed(step + 1_000_000 * seed))
        loss = method.loss(
            model, x0, NO_CONDITION, Progress(step, step * BATCH, step / steps), TrainingRandomness(seed, step)
        )
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        event = method.after_step(model, Progress(step + 1, (step + 1) * BATCH, min((step + 1) / steps, 1 - 1e-9)))
        if event is not None and event.reset_optimizer:
            optimizer.state.clear()
    return evaluations(model, method, teacher) - before


def walks(name: str, model: Model) -> list[tuple[Sampler, list[float]]]:
    """The samplers that a model is measured with, and the levels that each visits."""
    if name in ("edm", "exact"):
        return [(Heun(), karras(intervals, 0.002, SIGMA_MAX).tolist()) for intervals in (18, 40)]
    one: tuple[Sampler, list[float]] = (Multistep(), [SIGMA_MAX])
    if model.role == "two-time":
        return [one, *((sampler, few_step_levels(4, SIGMA_MAX)) for sampler in (Jumps(), Multistep()))]
    return [one]


def generator_of(name: str, model: Model, sampler: Sampler, levels: list[float]) -> Callable[[Tensor], Tensor]:
    """From noise at ``SIGMA_MAX`` to samples."""

    def generate(x: Tensor) -> Tensor:
        condition = Condition(guidance=torch.ones(len(x))) if name == "lcm" else NO_CONDITION
        return sampler.sample(model, x / SIGMA_MAX, levels, SampleRandomness(range(len(x))), condition).x

    return generate


def rows(name: str, evaluations: int, seed: int, rate: float) -> Iterator[dict[str, Any]]:
    """The figures of one method, a row for each way to sample it."""
    start = time.process_time()
    if name == "exact":
        model, steps = Model(Exact(), EDM(SIGMA_DATA), "teacher", SIGMA_MAX), 0
    else:
        model, steps = train(name, evaluations, seed, rate)
    row = {"method": name, "budget": evaluations, "seed": seed, "rate": rate, "steps": steps}
    row |= {"evaluations": evaluations if steps else 0, "seconds": time.process_time() - start}
    for sampler, levels in walks(name, model.eval()):
        error, ratio = figures(generator_of(name, model, sampler, levels))
        calls = 2 * len(levels) - 1 if isinstance(sampler, Heun) else len(levels)
        yield row | {"sampler": type(sampler).__name__.lower(), "calls": calls, "error": error, "energy": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--evaluations", type=int, default=12000, help="network evaluations per example")
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate, falling to 0 along a cosine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a file that gets one JSON line per row, and is continued where it exists")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wanted = {"budget": arguments.evaluations, "seed": arguments.seed, "rate": arguments.rate}
    lines = arguments.out.read_text().splitlines() if arguments.out is not None and arguments.out.exists() else []
    done = [row for row in map(json.loads, lines) if wanted.items() <= row.items()]
    print("| method | sampler | calls a sample | steps | evaluations | seconds | error | energy |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for name in ("exact", *arguments.methods):
        found = [row for row in done if row["method"] == name]
        fresh = [] if found else list(rows(name, arguments.evaluations, arguments.seed, arguments.rate))
        for row in found + fresh:
            counts = f"{row['calls']} | {row['steps']} | {row['evaluations']} | {row['seconds']:.0f}"
            print(
                f"| {name} | {row['sampler']} | {counts} | {100 * row['error']:.1f} % | {row['energy']:.2f} |", flush=True
            )
        if arguments.out is not None and fresh:
            with arguments.out.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in fresh)


if __name__ == "__main__":
    main()

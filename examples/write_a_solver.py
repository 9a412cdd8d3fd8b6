"""A data-consistency solver of one's own: the sampler, the operators and the model know nothing of it.

The solver below takes a few plain gradient steps on ``|A x - y|^2`` at every noise level (Landweber's iteration) instead
of replacing coordinates or solving by conjugate gradient. It is then used to enlarge a picture made by the model itself.

python examples/write_a_solver.py digits --out enlarged
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmmulti.operators.resample import BlockMean
from cmmulti.pipeline import Pipeline
from cmmulti.problems.base import Problem, Solver, Step, StepResult
from cmmulti.problems.replacement import Replacement
from cmmulti.randomness import SampleRandomness


@dataclass(frozen=True)
class Landweber(Solver):
    """``x0 <- x0 - rate * A^T (A x0 - y) / |A|^2``, ``iterations`` times; converges for ``0 < rate < 2``.

    To make it known by name to everybody, a package of its own adds one line to its ``pyproject.toml``:

        [project.entry-points."cmmulti.solvers"]
        landweber = "my_package:Landweber"
    """

    iterations: int = 10
    rate: float = 1.0

    def step(self, problem: Problem, step: Step, state: Any) -> StepResult:
        # The sampler re-noises by its own rule, and the network is told the true level; no state is kept.
        return StepResult(self.corrected(problem, step.x0))

    def finish(self, problem: Problem, x0: Tensor, state: Any) -> Tensor:
        return self.corrected(problem, x0)

    def corrected(self, problem: Problem, x0: Tensor) -> Tensor:
        operator, y = problem.operator, problem.measurements(x0)
        rate = self.rate / operator.norm() ** 2
        for _ in range(self.iterations):
            x0 = x0 - rate * operator.adjoint(operator(x0) - y)
        return x0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model of pictures: a folder or a shipped name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    pipe = Pipeline.from_pretrained(args.model)
    truth = pipe.generate([args.seed], pipe.levels(2)).x
    operator = BlockMean(pipe.modality.shape, 2)
    y = operator(truth)

    args.out.mkdir(parents=True, exist_ok=True)
    pipe.save(pipe.modality.decode(truth), args.out / f"truth{pipe.modality.extension}")
    for solver in (Replacement(), Landweber()):
        problem = Problem(operator, y, 0.0, solver, pipe.modality.valid_range)
        # Another seed than the truth's: nothing but y tells the model what to make.
        randomness = SampleRandomness([args.seed + 1000])
        shape = (1, *pipe.modality.shape)
        x = pipe.sampler("multistep").sample(pipe.model, shape, pipe.levels(4), randomness, problem=problem).x
        error, misfit = (x - truth).square().mean().sqrt(), (operator(x) - y).abs().max()
        name = type(solver).__name__
        print(f"{name:12s} rms error {float(error):.4f}, largest misfit to the measurements {float(misfit):.1e}")
        pipe.save(pipe.modality.decode(x), args.out / f"{name.lower()}{pipe.modality.extension}")
    coarse = operator.pinv(y)
    print(f"{'no model':12s} rms error {float((coarse - truth).square().mean().sqrt()):.4f}")


if __name__ == "__main__":
    with torch.no_grad():
        main()

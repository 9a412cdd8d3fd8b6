"""What a pipeline makes of seeds alone: noise levels, a sampler, samples and items."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from cmmulti.contexts.scale import Context
from cmmulti.errors import UserError
from cmmulti.modality import Modality
from cmmulti.pipeline.arguments import plain_levels, whole, whole_seeds
from cmmulti.pipeline.conditioned import Conditioned
from cmmulti.pipeline.outcome import Outcome
from cmmulti.pipeline.processes import gathered, my_share
from cmmulti.randomness import SampleRandomness
from cmmulti.samplers.base import Sampler, Samples
from cmmulti.samplers.named import OWN, sampler_for


class Generating(Conditioned):
    """The part of a pipeline that generates, and knows how its model wants to be sampled."""

    modality: Modality

    def levels(self, steps: int) -> list[float]:
        """Noise levels of generation in ``steps`` evaluations: those of the config where it has them."""
        return self.config.levels_of(steps)

    def generate(
        self,
        seeds: Sequence[int],
        levels: Sequence[float],
        labels: Sequence[int | None] | None = None,
        sampler: str | None = None,
        batch: int = 64,
        guidance: float | None = None,
        context: Context | None = None,
    ) -> Samples:
        """Model tensors (n, C, *spatial) of ``seeds``, in order, not decoded; shared out where Accelerate runs several
        processes. The samples depend on their seeds alone, not on batch or processes, but for rounding.

        Args:
            levels: decreasing noise levels, such as :meth:`levels` gives. batch: most samples that are made at a time.
            labels: a class, or None, for each seed; by default ``seed mod classes``.
            sampler, guidance, context: as for :meth:`sample`.

        Raises:
            UserError: an argument is out of range, or asks for what the model cannot do.
        """
        batch, seeds = whole("batch", batch, 1), whole_seeds(seeds)
        walker = self.sampler(sampler)
        chosen, contexts = self.labels_for(seeds, labels), self.contexts_for(seeds, context)
        mine = my_share(len(seeds))
        parts: list[Tensor] = []
        nfe = 0
        for first in range(mine.start, mine.stop, batch):
            part = slice(first, min(first + batch, mine.stop))
            randomness = SampleRandomness(seeds[part])
            condition = self.condition(chosen[part], guidance, None if contexts is None else contexts[part])
            samples = walker.sample(self.model, (len(randomness), *self.modality.shape), levels, randomness, condition)
            nfe = samples.nfe
            parts.append(samples.x)
        x = torch.cat(parts) if parts else torch.zeros(0, *self.modality.shape)
        return Samples(gathered(x), nfe)

    def sample(
        self,
        n: int = 1,
        steps: int = 1,
        seed: int = 0,
        label: int | None = None,
        levels: Sequence[float] | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        context: Context | None = None,
    ) -> Outcome:
        """Generate ``n`` items from seeds ``seed .. seed + n - 1``.

        Args:
            steps: noise levels visited. levels: in place of ``steps``, the levels themselves, decreasing.
            label: one class for all; by default a model that knows classes takes class ``seed mod classes``.
            sampler: one of :data:`cmmulti.samplers.named.SAMPLERS`, with its settings if wanted
                (``"stochastic-heun:churn=30"``); by default the model's own, else ``heun`` for a teacher, ``jumps`` for a
                two-time model and ``multistep`` for the others.
            guidance: weight of classifier-free guidance, for teachers and for students that take it as an input.
            context: for a model that knows contexts, in plain units: ``{"age": 60, "sex": 1}``, an array
                (tokens, features), or a file of contexts, whose entries take turns as classes do; None is any context.

        Raises:
            UserError: an argument is out of range, or asks for what the model cannot do.
        """
        n, seed = whole("n", n, 1), whole("seed", seed)
        seeds = list(range(seed, seed + n))
        walked = self.levels(steps) if levels is None else plain_levels(levels)
        labels = self.labels_for(seeds, None if label is None else [label] * n)
        began = time.perf_counter()
        samples = self.generate(seeds, walked, labels, sampler, guidance=guidance, context=context)
        items = [
            self.modality.decode(samples.x[i : i + 1].cpu(), None, SampleRandomness([s], "decode"))
            for i, s in enumerate(seeds)
        ]
        seconds = time.perf_counter() - began
        return Outcome(
            modality=self.modality,
            config=self.config,
            device=str(self.model.device),
            task="sample",
            items=items,
            seeds=seeds,
            labels=labels,
            levels=walked,
            nfe=samples.nfe,
            seconds=seconds,
            sampler=self.sampler_name(sampler),
        )

    def sampler(self, name: str | None = None) -> Sampler:
        """The sampler of that name (with its settings, as :func:`~cmmulti.samplers.named.sampler_named` reads them), or the
        model's own.

        Raises:
            UserError: there is no such sampler or setting, or it is not one for this model.
        """
        return sampler_for(self.model.role, self.sampler_name(name))

    def sampler_name(self, name: str | None = None) -> str:
        """By default the model's own, else that of its role.

        Raises:
            UserError: it is no name, such as a sampler's object, whose own ``sample`` takes ``pipe.model``.
        """
        if name is not None and not isinstance(name, str):
            raise UserError(f"sampler: expected a name, got {name!r}")
        return name or self.config.sampler or OWN[self.model.role]

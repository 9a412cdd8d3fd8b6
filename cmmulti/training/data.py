"""From a training set to batches: augmentation keyed by (seed, epoch, example), bad files told by name."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cmmulti.errors import UserError
from cmmulti.modality import TrainingSet
from cmmulti.randomness import key
from cmmulti.training.order import Order, Place, StepBatches

REPLACEMENTS = 20
"""How many examples in a row may be unreadable before a run that skips bad files gives up."""


class Batch(NamedTuple):
    """Clean tensors (B, C, *spatial), labels (B,), where each came from (indices of the training set), of a joint model the
    index of the modality (B,), and where the data have them contexts (B, tokens, width)."""

    x: Tensor
    label: Tensor
    example: Tensor
    modality: Tensor | None = None
    context: Tensor | None = None


class BadBatch(NamedTuple):
    """A batch that could not be loaded, and why; loading processes hand it over, since they cannot raise in one line."""

    reason: str


class Sample(NamedTuple):
    """A tensor, its label and its index; of a joint model also the index of its modality; its context (tokens, width)."""

    x: Tensor
    label: int
    example: int
    modality: int | None = None
    context: Tensor | None = None


class Examples(Dataset[Sample]):
    """The examples of a training set by :class:`Place`, checked.

    Args:
        source: the training set. seed: of the run. shape: (C, *spatial) expected. skip: replace an unreadable example by
            another one, chosen by its place, instead of stopping. contexts: (n, tokens, width) or None.
    """

    def __init__(
        self, source: TrainingSet, seed: int, shape: Sequence[int], skip: bool, contexts: Tensor | None = None
    ) -> None:
        self.source, self.seed, self.shape, self.skip = source, seed, tuple(shape), skip
        self.contexts = contexts
        self._told: set[int] = set()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, place: Place) -> Sample:
        generator = torch.Generator().manual_seed(key(self.seed, "augment", place.epoch, place.example))
        index = place.example
        for attempt in range(REPLACEMENTS):
            if attempt:
                index = key(self.seed, "replace", place.epoch, place.example, attempt - 1) % len(self.source)
            try:
                context = None if self.contexts is None else self.contexts[index]
                return Sample(self.tensor(index, generator), int(self.source.labels[index]), index, context=context)
            except UserError as error:
                if not self.skip:
                    raise
                self._tell(index, error)
        raise UserError(f"data: {REPLACEMENTS} unreadable files in a row, the last {self.source.names[index]}")

    def __getitems__(self, places: list[Place]) -> list[Sample] | BadBatch:
        try:
            return [self[place] for place in places]
        except UserError as error:
            return BadBatch(str(error))

    def tensor(self, index: int, generator: torch.Generator | None) -> Tensor:
        """One example, refused with its name where it has another shape or holds NaN or infinity."""
        x = self.source.tensor(index, generator)
        # A data set may train on crops: networks take any spatial size, so that channels and axes alone must agree.
        if (x.dim(), x.shape[0]) != (len(self.shape), self.shape[0]):
            raise UserError(f"{self.source.names[index]}: tensor of shape {tuple(x.shape)}; expected {self.shape}")
        if not bool(torch.isfinite(x).all()):
            raise UserError(f"{self.source.names[index]}: holds NaN or infinity; expected finite values")
        return x

    def _tell(self, index: int, error: UserError) -> None:
        if index not in self._told:
            self._told.add(index)
            print(f"skipped {self.source.names[index]}: {error}", file=sys.stderr, flush=True)


def collate(samples: list[Sample] | BadBatch) -> Batch | BadBatch:
    """One batch of single examples."""
    if isinstance(samples, BadBatch):
        return samples
    x, label, example, modality, contexts = zip(*samples, strict=True)
    shapes = {tuple(t.shape) for t in x}
    if len(shapes) > 1:
        return BadBatch(f"data: examples of one batch have different shapes, {', '.join(map(str, sorted(shapes)))}")
    told = None if modality[0] is None else torch.tensor(modality)
    context = None if contexts[0] is None else torch.stack(contexts)
    return Batch(torch.stack(x), torch.tensor(label), torch.tensor(example), told, context)


class RunData(LightningDataModule):
    """Feeds a run from step ``start`` to ``max_steps``; every process gets its share of each batch."""

    def __init__(self, examples: Examples, order: Order, max_steps: int, workers: int, start: int = 0) -> None:
        super().__init__()
        self.examples, self.order, self.max_steps, self.workers = examples, order, max_steps, workers
        self.start = start

    def train_dataloader(self) -> DataLoader[Sample]:
        trainer = self.trainer
        rank = 0 if trainer is None else trainer.global_rank
        return DataLoader(
            self.examples,
            batch_sampler=StepBatches(self.order, self.start, self.max_steps, rank),
            collate_fn=collate,
            num_workers=self.workers,
            # Not wherever there is a GPU: a run on the processor would take memory of it, which others may need.
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
            worker_init_fn=_stay if self.workers else None,
            # Its base seed would otherwise be drawn from the global generator.
            generator=torch.Generator().manual_seed(0),
        )


def _stay(worker: int) -> None:
    """A loader ends with its run, which may need it to finish its step when the whole group is told to end (SIGTERM)."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def measured_sigma_data(examples: Examples, most: int = 1024) -> float:
    """Standard deviation over all elements of up to ``most`` examples, evenly spread over the set, not augmented.

    Raises:
        UserError: none can be read, or all are constant.
    """
    n = len(examples)
    count, total, squares = 0, 0.0, 0.0
    for i in range(min(n, most)):
        try:
            x = examples.tensor(i * n // min(n, most), None).double()
        except UserError:
            if not examples.skip:
                raise
            continue
        count, total, squares = count + x.numel(), total + float(x.sum()), squares + float(x.square().sum())
    variance = squares / count - (total / count) ** 2 if count else 0.0
    if variance <= 1e-12:
        raise UserError(f"data: the training tensors have no variance ({count} elements read); cannot measure sigma_data")
    return float(f"{variance**0.5:.6g}")

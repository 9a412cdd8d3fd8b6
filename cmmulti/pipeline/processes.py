"""Several processes that share one job: launched by ``accelerate launch``, or one process alone."""

from __future__ import annotations

import os

import torch
from torch import Tensor


def several() -> bool:
    """Whether a launcher started more than one process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_main() -> bool:
    """Whether this process writes the files."""
    return int(os.environ.get("RANK", "0")) == 0


def my_share(n: int) -> slice:
    """The contiguous part of ``n`` pieces of work that is this process's."""
    if not several():
        return slice(0, n)
    from accelerate import PartialState

    state = PartialState()
    size, extra = divmod(n, state.num_processes)
    first = state.process_index * size + min(state.process_index, extra)
    return slice(first, first + size + (state.process_index < extra))


def gathered(x: Tensor) -> Tensor:
    """All processes' rows, in order of their shares, on every process; ``x`` itself when there is one process."""
    if not several():
        return x
    from accelerate.utils import gather_object

    return torch.cat(gather_object([x.cpu()])).to(x.device)

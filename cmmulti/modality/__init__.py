"""The contract between the core and an adapter.

An adapter knows files and units; the core knows tensors and noise. Everything that the core asks of pictures, sound or
scans is a method here, and everything that one modality can do besides generating is a :class:`Task`.

Words: an *item* is one picture, clip or volume in its own units, with all that is needed to write it back. Its
*representation* is a tensor (parts, C, *spatial), float32, in model space: one part for a picture or a clip, one per
slice for a volume under a 2D model. The network sees each part as a sample.
"""

from __future__ import annotations

from cmmulti.modality.adapter import Modality, ModalitySettings, require_whole
from cmmulti.modality.data import DataSource, Item, Split, TrainingSet
from cmmulti.modality.task import Assignment, Task, TaskOptions

__all__ = [
    "Assignment", "DataSource", "Item", "Modality", "ModalitySettings", "Split", "Task", "TaskOptions", "TrainingSet",
    "require_whole",
]  # fmt: skip

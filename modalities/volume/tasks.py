"""What can be done with a scan, by name."""

from __future__ import annotations

from cmmulti.modality import Task
from modalities.volume.ct.task import CT
from modalities.volume.inpaint import Inpaint
from modalities.volume.mri.task import MRI

TASKS: dict[str, Task] = {task.name: task for task in (Inpaint(), MRI(), CT())}

"""What can be done with a scan, by name."""

from __future__ import annotations

from cmmulti.modality import Task

TASKS: dict[str, Task] = {}

"""What can be done to a picture with a model that has only learned to make pictures."""

from modalities.image.tasks.colorize import Colorize
from modalities.image.tasks.denoise import Denoise
from modalities.image.tasks.inpaint import Inpaint
from modalities.image.tasks.interpolate import Interpolate
from modalities.image.tasks.stroke import Stroke
from modalities.image.tasks.super_resolve import SuperResolve

TASKS = {task.name: task for task in (Inpaint(), SuperResolve(), Colorize(), Stroke(), Denoise(), Interpolate())}

__all__ = ["TASKS", "Colorize", "Denoise", "Inpaint", "Interpolate", "Stroke", "SuperResolve"]

"""Guided distillation with the guidance weight as an input: LCM (Luo et al. 2023, arXiv 2310.04378)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from cmmulti.methods.cd import CD, CDSettings
from cmmulti.methods.distance import TrainingDistance
from cmmulti.methods.guidance import Guidance
from cmmulti.methods.solver import Solver
from cmmulti.model import Model
from cmmulti.noise import karras
from cmmulti.parameterization import DDPM


class LCMSettings(CDSettings):
    """Settings of LCM; the defaults are the authors' for Stable Diffusion.

    ``levels``: steps that the teacher's way is cut into. ``guidance``: range of the weight in
    ``D_null + w (D_label - D_null)``, so that 1 is no guidance (the authors' w, 5 to 15, is one less; small models want
    less: 1 to 4).
    """

    levels: int = Field(50, ge=2)
    solver: Solver = "euler"
    target_decay: float = Field(0.95, ge=0, lt=1)
    distance: TrainingDistance = "elementwise-huber"
    guidance: Guidance = (6.0, 16.0)


class LCM(CD):
    """Consistency distillation of a guided teacher, for every strength of the guidance at once.

    ``E d(f(x, s_i, w), sg f^-(x', s_{i+1}, w))`` with w uniform and x' one DDIM step, which is Euler's in this process, of
    the teacher with ``D_null + w (D_label - D_null)`` in place of D (sections 4.2 and 4.3). The levels are those of a DDPM
    teacher's evenly spaced indices ("skipping steps"), or Karras' for any other teacher. The weight w is an input of the
    student (``network.guided: true``), which is sampled with one evaluation per level.
    """

    Settings = LCMSettings
    settings: LCMSettings
    paper = "arXiv 2310.04378"

    def grid(self, model: Model) -> Tensor:
        """Decreasing levels, float64, from which neighbours are drawn: one more than there are steps.

        For a DDPM of T indices and N steps these are ``T - 1, T - 1 - T/N, ...`` (999, 979, ... 19 of 1000 in 50), and the
        boundary for what follows the last: there the answer is the input, which all others are built on (the authors' is
        at index 0). Those above ``sigma_max`` give way to that level, where generation starts.
        """
        steps, form = self.settings.levels, self.teacher.parameterization
        if not isinstance(form, DDPM):
            return karras(steps + 1, model.sigma_boundary, model.sigma_max)
        indices = len(form.alphas_cumprod)
        steps = min(steps, indices)
        levels = form.to_sigma((torch.arange(1, steps + 1, dtype=torch.float64) * indices / steps).round() - 1)
        inside = levels[(levels > model.sigma_boundary) & (levels < model.sigma_max)]
        ends = levels.new_tensor([model.sigma_boundary, min(float(levels[-1]), model.sigma_max)])
        return torch.cat([inside, ends]).unique().flip(0)

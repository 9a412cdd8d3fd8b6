"""From a network's output to the clean estimate, for every convention of the literature.

One canonical process: ``x = x0 + sigma n`` (variance exploding). Every other process is a change of variables, so every
parameterization is four numbers per noise level,

    D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)                        (EDM, arXiv 2206.00364, eq. 7)

and a map between ``sigma`` and the network's native time. All are stateless and exact in float64.
"""

from __future__ import annotations

from cmmulti.errors import unknown_name
from cmmulti.parameterization.base import Coefficients, Parameterization
from cmmulti.parameterization.ddpm import DDPM
from cmmulti.parameterization.edm import EDM, Consistency
from cmmulti.parameterization.flow import Flow, FlowToData
from cmmulti.parameterization.trigflow import TrigFlow

__all__ = [
    "DDPM", "EDM", "KINDS", "Coefficients", "Consistency", "Flow", "FlowToData", "Parameterization", "TrigFlow",
    "parameterization",
]  # fmt: skip

KINDS: dict[str, type[Parameterization]] = {c.kind: c for c in (EDM, Consistency, TrigFlow, Flow, FlowToData, DDPM)}


def parameterization(kind: str, **settings: object) -> Parameterization:
    """The parameterization called ``kind`` with its own settings, as a model's config names it."""
    if kind not in KINDS:
        raise unknown_name("parameterization", kind, KINDS)
    return KINDS[kind](**settings)

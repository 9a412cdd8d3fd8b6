"""Samplers by name, as the command line and pipelines ask for them."""

from __future__ import annotations

from dataclasses import fields

from cmmulti.errors import UserError, unknown_name
from cmmulti.model import Role
from cmmulti.samplers.base import Sampler
from cmmulti.samplers.dpm_solver import DPMSolver
from cmmulti.samplers.jumps import Jumps
from cmmulti.samplers.multistep import Multistep
from cmmulti.samplers.ode import Euler, Heun, StochasticHeun

SAMPLERS: dict[str, type[Sampler]] = {
    "multistep": Multistep,
    "jumps": Jumps,
    "euler": Euler,
    "heun": Heun,
    "stochastic-heun": StochasticHeun,
    "dpm-solver++": DPMSolver,
}

OWN: dict[Role, str] = {"teacher": "heun", "consistency": "multistep", "two-time": "jumps"}
"""What samples a model of each role where nobody says otherwise."""

FOLLOWED: dict[Role, str] = {
    "teacher": "denoising teachers",
    "consistency": "consistency models",
    "two-time": "two-time models",
}


def followers(sampler: Sampler) -> str:
    """The models that a sampler can follow, in words."""
    return " and ".join(FOLLOWED[role] for role in sampler.roles)


def sampler_named(text: str) -> Sampler:
    """The sampler of a name, its settings behind a colon: ``heun``, ``stochastic-heun:churn=30,highest=1``.

    Raises:
        UserError: there is no such sampler or setting, or a value is no number or out of range.
    """
    name, _, listed = text.partition(":")
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)
    kind = SAMPLERS[name]
    known = [field.name for field in fields(kind)]
    settings: dict[str, float] = {}
    for part in listed.split(",") if listed else []:
        key, _, value = part.partition("=")
        if key not in known:
            expected = f"one of {', '.join(known)}" if known else "none: it has no settings"
            raise UserError(f"sampler {name}: setting {key!r}, expected {expected}")
        try:
            settings[key] = float(value)
        except ValueError as error:
            raise UserError(f"sampler {name}: {key}: expected a number, got {value!r}") from error
    return kind(**settings)


def sampler_for(role: Role, text: str) -> Sampler:
    """The sampler of a name, as :func:`sampler_named` reads it, for a model of that role.

    Raises:
        UserError: there is no such sampler or setting, or it is not one for this model.
    """
    found = sampler_named(text)
    if role not in found.roles:
        # It would take the end of a trajectory for its slope, say, and go astray in silence.
        fitting = " or ".join(name for name, kind in SAMPLERS.items() if role in kind.roles)
        raise UserError(f"sampler {text}: for {followers(found)}; expected {fitting} for this {role} model")
    return found

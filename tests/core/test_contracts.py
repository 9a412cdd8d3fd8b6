"""Everything that the registry finds, and every parameterization, under the contract suites."""

import pytest
import torch

from cmmulti.parameterization import DDPM, EDM, KINDS, Consistency, Flow, TrigFlow
from cmmulti.problems.admm import ADMM
from cmmulti.problems.base import Solver
from cmmulti.problems.pnp_cm import PnPCM
from cmmulti.problems.proximal_cg import ProximalCG
from cmmulti.testing import Suite, check_parameterization, check_solver
from cmmulti.testing.tiny import solvers

BARS = tuple(float(b) for b in torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0))
FORMS = {
    "edm": EDM(),
    "edm-scaled": EDM(0.13),
    "consistency": Consistency(),
    "trigflow": TrigFlow(1.0),
    "flow": Flow(),
    "ddpm-epsilon": DDPM(BARS),
    "ddpm-v": DDPM(BARS, "v"),
}
SOLVERS = {
    **solvers(),
    "proximal-cg-half": ProximalCG(eta=0.5),
    "admm-quiet": ADMM(eta=0.0),
    "pnp-cm-momentum": PnPCM(delta=1.0, momentum=0.5),
}


def test_every_parameterization_is_here():
    assert {form.kind for form in FORMS.values()} == set(KINDS)


@pytest.mark.parametrize(**check_parameterization.cases(FORMS))
def test_parameterization(check, piece):
    check(piece)


@pytest.mark.parametrize(**check_solver.cases(SOLVERS))
def test_solver(check, piece):
    check(piece)


def test_the_suites_find_faults():
    class Shifted(EDM):
        def to_sigma(self, t):
            return 1.01 * super().to_sigma(t)

    with pytest.raises(AssertionError, match="native_time_round_trip"):
        check_parameterization(Shifted())
    # Hears no data: every other check passes.
    with pytest.raises(AssertionError, match=r"^solver Solver: the_data_are_heard: [^;]*$"):
        check_solver(Solver())


def test_known_failures_are_strict():
    suite = Suite("thing")

    @suite.check
    def fits(piece):
        assert piece == 1

    suite(1)
    suite(2, known_failures={"fits": "two does not"})
    with pytest.raises(AssertionError, match="fits: passes, though"):
        suite(1, known_failures={"fits": "one does not"})
    with pytest.raises(ValueError, match="no check is called 'fit'"):
        suite(1, known_failures={"fit": "misspelt"})

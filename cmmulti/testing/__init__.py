"""Contract suites that any plug-in can run on itself, and Gaussian priors on which every answer is known.

>>> from cmmulti.testing import check_operator
>>> check_operator(MyOperator((1, 17, 9)))
"""

from cmmulti.testing.feature_networks import FeatureNetworkCase, check_feature_network
from cmmulti.testing.gaussian import Gaussian, GaussianNetwork, gaussian_model
from cmmulti.testing.methods import check_method
from cmmulti.testing.modalities import ModalityCase, check_modality
from cmmulti.testing.networks import NetworkCase, check_network
from cmmulti.testing.operators import check_operator
from cmmulti.testing.parameterizations import check_parameterization
from cmmulti.testing.samplers import SamplerCase, check_sampler
from cmmulti.testing.solvers import check_solver
from cmmulti.testing.suite import Suite

__all__ = [
    "FeatureNetworkCase",
    "Gaussian",
    "GaussianNetwork",
    "ModalityCase",
    "NetworkCase",
    "SamplerCase",
    "Suite",
    "check_feature_network",
    "check_method",
    "check_modality",
    "check_network",
    "check_operator",
    "check_parameterization",
    "check_sampler",
    "check_solver",
    "gaussian_model",
]

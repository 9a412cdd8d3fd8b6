"""Contract suites that any plug-in can run on itself, and Gaussian priors on which every answer is known.

>>> from cmmulti.testing import check_operator
>>> check_operator(MyOperator((1, 17, 9)))
"""

from cmmulti.testing.gaussian import Gaussian, GaussianNetwork, gaussian_model
from cmmulti.testing.operators import check_operator
from cmmulti.testing.suite import Suite

__all__ = ["Gaussian", "GaussianNetwork", "Suite", "check_operator", "gaussian_model"]

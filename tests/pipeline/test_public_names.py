"""What `import cmmulti` offers at once."""

from __future__ import annotations

from importlib.metadata import version

import pytest

import cmmulti
from cmmulti import errors, pipeline


def test_the_main_names_are_those_of_their_modules() -> None:
    assert cmmulti.Pipeline is pipeline.Pipeline
    assert cmmulti.Outcome is pipeline.Outcome
    assert cmmulti.UserError is errors.UserError
    assert cmmulti.__version__ == version("cmmulti")
    with pytest.raises(AttributeError, match="no attribute 'pipelines'"):
        _ = cmmulti.pipelines

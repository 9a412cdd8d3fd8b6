"""Consistency models for pictures, sound and 3D scans.

>>> from cmmulti import Pipeline
>>> Pipeline.from_pretrained("digits").sample(n=16, steps=2, seed=0, label=7).save("sevens")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmmulti.errors import UserError
    from cmmulti.pipeline import Outcome, Pipeline

__all__ = ["Outcome", "Pipeline", "UserError"]


def __getattr__(name: str) -> Any:
    # Imported when they are first asked for: PyTorch takes seconds, and `cmmulti --help` needs none of it.
    if name in ("Outcome", "Pipeline"):
        from cmmulti import pipeline

        return getattr(pipeline, name)
    if name == "UserError":
        from cmmulti.errors import UserError

        return UserError
    if name == "__version__":
        from cmmulti.report.results import package_version

        return package_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

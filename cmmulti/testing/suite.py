"""A contract suite: named checks that every piece of one kind must pass."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Check = Callable[[T], None]


@dataclass(frozen=True)
class Suite(Generic[T]):
    """The checks of one contract; call it on a piece to run them all.

    Example:
        >>> from cmmulti.testing import check_operator
        >>> check_operator(MyOperator((1, 17, 9)))

    or, for one test per check::

        @pytest.mark.parametrize(**check_operator.cases({"mine": MyOperator((1, 17, 9))}))
        def test_contract(check, piece):
            check(piece)
    """

    kind: str
    checks: dict[str, Check[T]] = field(default_factory=dict)

    def check(self, function: Check[T]) -> Check[T]:
        """Add a check under its own name: it takes a piece and raises AssertionError where the contract is broken."""
        self.checks[function.__name__] = function
        return function

    def __call__(self, piece: T, known_failures: Mapping[str, str] | None = None) -> None:
        """Run every check on ``piece``.

        Args:
            known_failures: check name -> reason. Such a check must fail: one that passes is reported too.

        Raises:
            AssertionError: names every check that failed, and how.
        """
        known = dict(known_failures or {})
        unknown = sorted(set(known) - set(self.checks))
        if unknown:
            raise ValueError(f"{self.kind}: no check is called {unknown[0]!r} (known: {', '.join(self.checks)})")
        failures = []
        for name, check in self.checks.items():
            try:
                check(piece)
            except Exception as error:  # a piece that raises something else is no better, and the other checks still tell
                if name not in known:
                    broken = isinstance(error, AssertionError)
                    failures.append(f"{name}: {error}" if broken else f"{name}: {type(error).__name__}: {error}")
            else:
                if name in known:
                    failures.append(f"{name}: passes, though it is listed as a known failure ({known[name]})")
        if failures:
            raise AssertionError(f"{self.kind} {describe(piece)}: " + "; ".join(failures))

    def cases(self, pieces: Mapping[str, T], skip: Mapping[str, Container[str]] | None = None) -> dict[str, Any]:
        """Keywords for ``pytest.mark.parametrize``: every check with every piece, as ``check`` and ``piece``.

        Args:
            pieces: by the names that tests get (``pytest -k mine``).
            skip: check name -> names of pieces that it is not run on, because it is slow or does not apply.
        """
        left_out = skip or {}
        chosen = [
            (f"{check}-{piece}", self.checks[check], pieces[piece])
            for piece in pieces
            for check in self.checks
            if piece not in left_out.get(check, ())
        ]
        return {
            "argnames": ("check", "piece"),
            "argvalues": [(check, piece) for _, check, piece in chosen],
            "ids": [name for name, _, _ in chosen],
        }


def describe(piece: object) -> str:
    """A short name of a piece for messages; a case, which holds the piece first, is called like it."""
    if is_dataclass(piece) and type(piece).__name__.endswith("Case"):
        piece = getattr(piece, fields(piece)[0].name)
    return piece.__name__ if isinstance(piece, type) else type(piece).__name__


def fail_unless(condition: bool, message: str) -> None:
    """An assertion that survives ``python -O``."""
    if not condition:
        raise AssertionError(message)

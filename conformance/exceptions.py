"""Tests of the official suite that fail because the library underneath cannot do otherwise.

Every entry shows the fault on the raw library, without tinyxp: `test_exceptions.py` fails as soon as the
fault no longer reproduces, so that the entry is taken out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Exception_(NamedTuple):  # noqa: N801 - `Exception` is taken
    """A test that fails on a backend, why, and the proof."""

    backend: str
    test: str
    reason: str
    reproduces: Callable[[], bool]


EXCEPTIONS: list[Exception_] = []


class ScipyException(NamedTuple):
    """Tests of SciPy that fail with Tensors, and why."""

    tests: tuple[str, ...]
    reason: str


SCIPY: list[ScipyException] = []

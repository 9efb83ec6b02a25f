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
    """Tests of SciPy that fail with Tensors, and why; they are their own proof."""

    tests: tuple[str, ...]
    reason: str


SCIPY = [
    ScipyException(
        ("scipy._lib.tests.test__util.TestContainsNaN::test_array_api_lazy[tinyxp]",),
        "for lazy arrays alone: the test skips the eager libraries that it knows by name",
    ),
    ScipyException(
        ("scipy.ndimage.tests.test_filters.TestVectorizedFilter::test_input_validation[tinyxp]",),
        "compares the message of xp.asarray('a duck') with those of the libraries it knows",
    ),
    ScipyException(
        (
            "scipy.signal.tests.test_signaltools.TestFiltFilt::test_sine[tinyxp]",
            "scipy.signal.tests.test_signaltools.TestSOSFiltFilt::test_sine[tinyxp]",
        ),
        "the test hands a Tensor to numpy.abs, which __array_ufunc__ = None refuses",
    ),
]

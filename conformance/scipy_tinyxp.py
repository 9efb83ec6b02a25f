"""What SciPy's tests need to know of tinyxp; `scipy_tests.py` puts it into a copy of SciPy's conftest."""

from __future__ import annotations

import os
from typing import Any

import recording

import tinyxp


def start() -> Any:
    """Return the namespace to test, in the default dtype that SciPy's tests expect."""
    tinyxp.set_default_dtype("float64")
    if os.environ.get("TINYXP_SCIPY_RECORD"):
        recording.start(tinyxp)
        detach_in_comparisons()
    return tinyxp


def detach_in_comparisons() -> None:
    """Let the functions with which SciPy's tests compare results compare the numbers alone.

    They hand Tensors to ``numpy.testing``, which tinyxp refuses for those that require grad.
    """
    from scipy._lib import _array_api

    check, copy = _array_api._strict_check, _array_api._xp_copy_to_numpy  # noqa: SLF001

    def strict_check(actual: Any, desired: Any, xp: Any, **options: Any) -> Any:
        actual, desired, xp = check(actual, desired, xp, **options)
        return detached(actual), detached(desired), xp

    _array_api._strict_check = strict_check  # noqa: SLF001
    _array_api._xp_copy_to_numpy = lambda x: copy(detached(x))  # noqa: SLF001


def detached(x: Any) -> Any:
    """Return `x` outside the graph."""
    return x.detach() if isinstance(x, tinyxp.Tensor) else x

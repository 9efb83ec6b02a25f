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
        # tests copy their arguments, which here are results of operations
        tinyxp.Tensor.__deepcopy__ = lambda x, _memo: tinyxp.asarray(x, copy=True)
    return tinyxp


def detach_in_comparisons() -> None:
    """Let the functions with which SciPy's tests compare results compare the numbers alone.

    They hand Tensors to ``numpy.testing``, which tinyxp refuses for those that require grad.
    """
    from scipy._lib import _array_api

    check, copy = _array_api._strict_check, _array_api._xp_copy_to_numpy  # noqa: SLF001 - SciPy has no public way in
    close = _array_api.xp_assert_close

    def assert_close(actual: Any, desired: Any, *, atol: Any = 0, **options: Any) -> None:
        close(actual, desired, atol=detached(atol), **options)

    def strict_check(actual: Any, desired: Any, xp: Any, **options: Any) -> Any:
        actual, desired, xp = check(actual, desired, xp, **options)
        return detached(actual), detached(desired), xp

    _array_api._strict_check = strict_check  # noqa: SLF001 - SciPy has no public way in
    _array_api._xp_copy_to_numpy = lambda x: copy(detached(x))  # noqa: SLF001 - SciPy has no public way in
    _array_api.xp_assert_close = assert_close


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Give tests that hand Tensors to NumPy, to make a reference of them, a NumPy that detaches."""
    if os.environ.get("TINYXP_SCIPY_RECORD"):
        for module in {item.module for item in items}:
            if hasattr(module, "np"):
                module.np = Detaching(module.np)


class Detaching:
    """A library whose ``asarray`` and ``array`` take the numbers of Tensors."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def asarray(self, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Convert a Tensor outside the graph."""
        return self._library.asarray(detached(obj), *args, **kwargs)

    def array(self, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Convert a Tensor outside the graph."""
        return self._library.array(detached(obj), *args, **kwargs)


def detached(x: Any) -> Any:
    """Return `x` outside the graph."""
    return x.detach() if isinstance(x, tinyxp.Tensor) else x

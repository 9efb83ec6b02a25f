"""Comparison of what a backend gives with what it should give, in host memory."""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp.backend import HOST, Backend, get_backend
from tinyxp.errors import DTypeError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["expect", "expect_same", "quiet", "values"]

Array = Any


def expect(condition: object, message: str) -> None:
    """Raise `AssertionError` with `message` unless `condition` holds, also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what libraries say of infinities and NaN, which the standard prescribes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def values(backend: Backend, x: Array) -> Any:
    """Return the elements of `x` in host memory, half precision as float32."""
    host = get_backend(HOST)
    found = backend.to_numpy(x)
    if dtypes.of(x.dtype).name in ("float16", "bfloat16"):
        return host.xp.astype(found, host.xp.float32)
    return found


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")


def _expect_close(got: Any, want: Any, rtol: float, what: str, scale: float) -> None:
    """Compare two host arrays; the difference may be `rtol` of the element and of the largest finite one.

    Or of `scale`, where that is larger.
    """
    xp = get_backend(HOST).xp
    with quiet():
        same = (got == want) | ((got != got) & (want != want))  # noqa: PLR0124 - NaN
        if not bool(xp.all(same)) and dtypes.of(want.dtype).kind in "fc":
            size = xp.abs(want)
            finite = xp.where(xp.isfinite(size), size, xp.zeros_like(size))
            same |= xp.abs(got - want) <= rtol * (size + max(float(xp.max(finite)), scale))
        wrong = math.prod(same.shape) - int(xp.sum(xp.astype(same, xp.int64)))
    expect(
        wrong == 0, f"{what}: {wrong} of {math.prod(same.shape)} elements differ: {got} for {want}"
    )


def expect_same(
    backend: Backend,
    got: Any,
    other: Backend,
    want: Any,
    *,
    rtol: float = 0.0,
    what: str,
    scale: float = 0.0,
) -> None:
    """Raise `AssertionError` unless `got` of `backend` is what `want` of the backend `other` is.

    Arrays are compared in dtype, shape and elements, sequences element by element, dtype objects as
    tinyxp's, and everything else as it is. What is negligible beside `scale` may differ.
    """
    if isinstance(want, tuple | list):
        expect(len(got) == len(want), f"{what}: {len(got)} results, expected {len(want)}")
        for i, (g, w) in enumerate(zip(got, want, strict=True)):
            expect_same(backend, g, other, w, rtol=rtol, what=f"{what}[{i}]")
        return
    if not _is_array(want):
        expect(_plain(got) == _plain(want), f"{what}: {got!r}, expected {want!r}")
        return
    got, want = backend.wrap(got), other.wrap(want)
    found, wanted = (dtypes.of(x.dtype) for x in (got, want))
    expect(found is wanted, f"{what}: dtype {found}, expected {wanted}")
    shapes = tuple(got.shape), tuple(want.shape)
    expect(shapes[0] == shapes[1], f"{what}: shape {shapes[0]}, expected {shapes[1]}")
    _expect_close(values(backend, got), values(other, want), rtol, what, scale)


def _plain(x: Any) -> Any:
    """Return a dtype object as tinyxp's, anything else as it is."""
    try:
        return dtypes.dtype(x)
    except DTypeError:
        return x

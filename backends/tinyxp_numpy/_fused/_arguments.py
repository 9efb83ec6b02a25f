"""What the fused operations share: which arrays a kernel takes, and in which form."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyxp_numpy import _blas, _pool

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "FLOATS",
    "Array",
    "Arrays",
    "addresses",
    "cost",
    "in_order",
    "is_affine",
    "multiply",
    "native",
    "rows_of",
    "run_program",
    "total",
    "vector",
]

Array = Any
Arrays = tuple[Array, ...]
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def native(*arrays: Array | None) -> bool:
    """Whether all are float32 or all are float64, and none is empty."""
    kind = arrays[0].dtype  # type: ignore[union-attr]  # the first is always there
    return kind in FLOATS and all(a is None or (a.dtype == kind and a.size) for a in arrays)


def is_affine(width: int, weight: Array, bias: Array | None) -> bool:
    """Whether `weight` maps rows of `width` elements and `bias` has one element a column; kernels check nothing."""
    fits = weight.ndim == 2 and weight.shape[0] == width  # noqa: PLR2004 - a matrix
    return fits and (bias is None or bias.shape == weight.shape[1:])


def rows_of(x: Array, length: int) -> Array:
    """Return `x` as a matrix with rows of `length` elements, in C order."""
    return np.ascontiguousarray(x).reshape(-1, length)


def in_order(x: Array) -> Array:
    """Return `x`, or a copy in C order whose elements are where a processor expects them."""
    return x if x.flags.c_contiguous and x.flags.aligned else np.array(x, order="C")


def vector(bias: Array | None, length: int, dtype: Any) -> Array:
    return np.zeros(length, dtype) if bias is None else np.ascontiguousarray(bias).reshape(-1)


def cost(weight: Array) -> int:
    """Return what the product of a row and `weight` costs, in elements of a simple loop."""
    return max(int(weight.size) // 8, 1)


def multiply(kernel: Any, n: int, parts: int, *args: Any) -> None:
    """Run a kernel that multiplies matrices on `parts` ranges of `n` rows or items."""
    with one_blas_thread:
        _pool.run_parts(kernel, n, parts, *args)


def run_program(
    program: Any, shares: int, table: Sequence[int] | Array, kind: Any, reals: Any = (1,)
) -> None:
    """Run a program that multiplies matrices, in the dtype `kind`."""
    table, reals = np.asarray(table, np.int64), np.asarray(reals, kind)
    with one_blas_thread:
        _pool.run_program(program(kind), shares, table, reals)


def total(sums: Array) -> Array:
    return sums[0] if len(sums) == 1 else np.add.reduce(sums, axis=0)


def addresses(arrays: Sequence[Array | None]) -> list[int]:
    """Return where the elements begin, 0 for None; what takes any array takes four times as long."""
    found = []
    addressof, char_at = ctypes.addressof, ctypes.c_char.from_buffer
    for x in arrays:
        try:
            found.append(0 if x is None else addressof(char_at(x)))
        except (BufferError, TypeError, ValueError):  # read-only, with gaps or empty
            found.append(x.__array_interface__["data"][0])  # type: ignore[union-attr]  # not None: looked at above
    return found


class _OneBlasThread:
    """A context in which the BLAS computes in the thread that calls it: those of the pool divide the work.

    It is left by name, not by count: a thread that was interrupted on its way in or out has left the next time.
    """

    def __init__(self) -> None:
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._leave_all)

    def _begin(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), set[int](), 0

    def _leave_all(self) -> None:
        """Begin anew in a forked process, which has none of the threads that were inside or held the lock."""
        inside, before = self._inside, self._before
        self._begin()
        if inside and before > 1:
            _blas.set_threads(before)

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = _blas.set_threads(1) or 0
            self._inside.add(threading.get_ident())

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside.discard(threading.get_ident())
            if not self._inside and self._before > 1:
                _blas.set_threads(self._before)


one_blas_thread = _OneBlasThread()

"""One more position through a transformer block, for generation."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from tinyxp._decode import BlockArrays, Defaults
from tinyxp_numpy import _pool
from tinyxp_numpy._kernels import _activations, _decode

from ._arguments import FLOATS, Array, Arrays

__all__ = ["DecodeKernels"]

_MOST_ROWS = 8  # with more the BLAS wins, which keeps results in registers
_GRAIN = 1 << 19  # elements of weights that take longer to read than it takes to wake a thread


class DecodeKernels(Defaults):
    """A block in one call, or in two that two threads divide: reading the weights is what takes long.

    Sums are taken in another order where threads divide them.
    """

    def transformer_step(
        self,
        x: Array,
        arrays: Arrays,
        keys: Array,
        values: Array,
        mask: Array | None,
        *,
        start: int,
        eps: float,
        approximate: str,
    ) -> Array:
        """Apply the block to a copy of `x`."""
        if not _taken(x, arrays, keys, values, mask, start=start):
            return super().transformer_step(
                x, arrays, keys, values, mask, start=start, eps=eps, approximate=approximate
            )
        x = x.copy()
        seen = _everything(len(x)) if mask is None else mask.reshape(len(x), -1)
        small, scale, *form = _numbers(x.dtype, eps, keys.shape[3], approximate)
        parts = _parts(arrays[0], keys.shape[1])
        if parts == 1:
            _decode.transformer_step(x, *arrays, keys, values, seen, start, small, scale, *form)
            return x
        b, hidden = BlockArrays(*arrays), arrays[12].shape[1]
        work, out = np.empty((parts, 3, *x.shape), x.dtype), np.empty((parts, *x.shape), x.dtype)
        _pool.run_parts(
            _decode.attend, keys.shape[1], parts, x, b.gamma1, b.beta1, *arrays[:7], keys, values, seen, start,
            small, scale, work, out,
        )  # fmt: skip
        _decode.gather(x, b.out_bias, out)
        inner = np.empty((len(x), hidden), x.dtype)
        _pool.run_parts(
            _decode.feed, hidden, parts, x, b.gamma2, b.beta2, b.weight1, b.bias1, b.weight2, small, *form, work,
            inner, out,
        )  # fmt: skip
        _decode.gather(x, b.bias2, out)
        return x


def _taken(
    x: Array, arrays: Arrays, keys: Array, values: Array, mask: Array | None, *, start: int
) -> bool:
    """Whether the kernel takes these: few rows, in C order, writeable, and of shapes that go together."""
    kind, (rows, width), (batch, heads, capacity, dim) = x.dtype, x.shape, keys.shape
    if kind not in FLOATS or not 0 < rows <= _MOST_ROWS or width == 0:
        return False
    for a, shape in zip(arrays, _shapes(width, arrays[12].shape[-1]), strict=True):
        if a.shape != shape or a.dtype != kind or not a.flags.carray:
            return False
    return bool(
        keys.dtype == values.dtype == kind
        and keys.flags.carray
        and values.flags.carray
        and values.shape == keys.shape
        and (batch, heads * dim) == (rows, width)
        and 0 <= start < capacity
        and (mask is None or (mask.shape == (batch, 1, 1, capacity) and _is_plain(mask)))
    )


def _is_plain(mask: Array) -> bool:
    return bool(mask.dtype == np.bool_ and mask.flags.carray)


@cache
def _shapes(width: int, hidden: int) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of `BlockArrays`."""
    square, row = (width, width), (width,)
    return (*(square, row) * 4, *(row,) * 4, (width, hidden), (hidden,), (hidden, width), row)


@cache
def _everything(batch: int) -> Array:
    """Return a mask without places: the kernel takes it for one that hides none."""
    return np.ones((batch, 0), np.bool_)


@cache
def _numbers(kind: Any, eps: float, dim: int, approximate: str) -> tuple[Any, ...]:
    """Return what the kernel needs to know, in the dtype of the arrays."""
    a, b = _activations.COEFFICIENTS[approximate]
    return tuple([kind.type(v) for v in (eps, 1 / math.sqrt(dim), a, b, 1e30)])


def _parts(weight: Array, heads: int) -> int:
    """Return by how many threads a block is divided whose attention has four weights like this."""
    return min(heads, _pool.items_of(2), 2) if 4 * weight.size >= _GRAIN else 1

"""Kernels over many arrays at once: AdamW in one pass, sums of squares, scaling, the embedding's gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from ._compile import kernel, pointer

__all__ = ["adamw", "scale", "scatter_rows", "squares"]


@kernel
def adamw(
    start: int, stop: int, part: int, like: Any, table: Any, tasks: Any, numbers: Any, decoupled: bool,
) -> None:  # fmt: skip
    """Go one step of AdamW in the tasks `start` to `stop`.

    `table`: a row of addresses for each parameter, of itself, its gradient, both means and the largest square
    or 0. `tasks`: rows of (parameter, first element, number of elements). `numbers`: the sign of the gradient,
    decay, factors of the means, the constant beside the root, the step's length.
    """
    sign, decay, beta1, rest1, beta2, rest2, eps, length = numbers
    one, zero = like.dtype.type(1), like.dtype.type(0)
    shrink = one - decay if decoupled else one
    added = zero if decoupled else decay
    for t in range(start, stop):
        which, first, n = tasks[t]
        skipped = first * like.itemsize
        p = carray(pointer(table[which, 0] + skipped, like), n)
        g = carray(pointer(table[which, 1] + skipped, like), n)
        mean = carray(pointer(table[which, 2] + skipped, like), n)
        square = carray(pointer(table[which, 3] + skipped, like), n)
        if table[which, 4] == 0:
            for j in range(n):
                w = p[j] * shrink
                d = g[j] * sign + added * p[j]
                m = beta1 * mean[j] + rest1 * d
                v = beta2 * square[j] + rest2 * d * d
                mean[j] = m
                square[j] = v
                p[j] = w - length * m / (np.sqrt(v) + eps)
            continue
        largest = carray(pointer(table[which, 4] + skipped, like), n)
        for j in range(n):
            w = p[j] * shrink
            d = g[j] * sign + added * p[j]
            m = beta1 * mean[j] + rest1 * d
            v = beta2 * square[j] + rest2 * d * d
            mean[j] = m
            square[j] = v
            top = largest[j]
            top = v if (v > top or v != v) else top  # noqa: PLR0124 - true for NaN
            largest[j] = top
            p[j] = w - length * m / (np.sqrt(top) + eps)


@kernel
def squares(start: int, stop: int, part: int, like: Any, table: Any, tasks: Any, sums: Any) -> None:
    """Write the sum of squares of each task into `sums`."""
    for t in range(start, stop):
        which, first, n = tasks[t]
        x = carray(pointer(table[which] + first * like.itemsize, like), n)
        total = like.dtype.type(0)
        for j in range(n):
            total += x[j] * x[j]
        sums[t] = total


@kernel
def scale(start: int, stop: int, part: int, like: Any, table: Any, tasks: Any, factor: Any) -> None:
    """Multiply the elements of each task by `factor`, in place."""
    for t in range(start, stop):
        which, first, n = tasks[t]
        x = carray(pointer(table[which] + first * like.itemsize, like), n)
        for j in range(n):
            x[j] *= factor


@kernel
def scatter_rows(start: int, stop: int, part: int, values: Any, indices: Any, out: Any) -> None:
    """Add the columns `start` to `stop` of each row of `values` to the row of `out` that `indices` names."""
    for i in range(indices.size):
        row, to = values[i, start:stop], out[indices[i], start:stop]
        for j in range(stop - start):
            to[j] += row[j]

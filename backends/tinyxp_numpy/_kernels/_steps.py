"""Kernels over many arrays at once: AdamW in one pass, sums of squares, scaling, the embedding's gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from ._compile import inline, kernel, pointer, program
from ._team import finish, settle, take

__all__ = ["ADAMW", "adamw", "scale", "scatter_rows", "squares"]

_INTEGERS = np.empty(0, np.int64)


ADAMW = ("places", "tasks", "count", "shares", "decoupled")


@program(*ADAMW)
def adamw(board: Any, table: Any, numbers: Any, run: int, member: int) -> None:
    """Go one step of AdamW.

    At ``places`` a row of addresses for each parameter: of itself, its gradient, both means, and the largest square or 0.
    At ``tasks`` so many rows of (parameter, first element, number of elements). `numbers`: the sign of the gradient,
    decay, factors of the means, the constant beside the root, the step's length.
    """
    t, like = carray(table, 1)[0], carray(numbers, 8)
    if member >= t.shares:
        return
    tasks = carray(_integers(t.tasks), (t.count, 3))
    while True:
        task = take(board, 0, t.count, run, member)
        if task < 0:
            break
        which, first, n = tasks[task]
        _adamw(carray(_integers(t.places + 40 * which), 5), first, n, t.decoupled != 0, like)
        finish(board, 0)
    settle(board, 0, t.count, run, member)


@inline
def _integers(address: int) -> Any:
    return pointer(address, _INTEGERS)


@kernel
def _adamw(places: Any, first: int, n: int, decoupled: bool, numbers: Any) -> None:
    """Go one step with `n` elements of a parameter."""
    sign, decay, beta1, rest1 = numbers[0], numbers[1], numbers[2], numbers[3]
    beta2, rest2, eps, length = numbers[4], numbers[5], numbers[6], numbers[7]
    one, zero = numbers.dtype.type(1), numbers.dtype.type(0)
    shrink = one - decay if decoupled else one
    added = zero if decoupled else decay
    skipped = first * numbers.itemsize
    p = carray(pointer(places[0] + skipped, numbers), n)
    g = carray(pointer(places[1] + skipped, numbers), n)
    mean = carray(pointer(places[2] + skipped, numbers), n)
    square = carray(pointer(places[3] + skipped, numbers), n)
    if places[4] == 0:
        for j in range(n):
            w = p[j] * shrink
            d = g[j] * sign + added * p[j]
            m = beta1 * mean[j] + rest1 * d
            v = beta2 * square[j] + rest2 * d * d
            mean[j] = m
            square[j] = v
            p[j] = w - length * m / (np.sqrt(v) + eps)
        return
    largest = carray(pointer(places[4] + skipped, numbers), n)
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

"""Where the elements of a view lie in its root, counted as if the root were in C order.

NumPy's `reshape` is a view unless the order of the elements demands a copy. Which of the two it is must not
depend on the backend or on how a library happens to lay out its memory, so it is decided here, from how the
view was made, and with no look at an array.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyxp._core import Alias, Tensor

Strides = tuple[int, ...]
Layout = (
    tuple[tuple[int, ...], Strides] | None
)  # shape and strides; None where there are no strides


def c_strides(shape: Sequence[int]) -> Strides:
    """Return the strides, in elements, of an array of `shape` in C order."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def reshapes_in_place(x: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a reshape of the view `x` to `shape` can be a view itself."""
    alias: Any = x._alias
    old = tuple(x._raw.shape)
    found = strides_of(alias)
    if found is None or found == c_strides(old):
        return found is not None
    return reshaped(old, found, _completed(shape, math.prod(old))) is not None


def strides_of(alias: Alias) -> Strides | None:
    """Return the strides of a view in its root; None where there are none, as for parts of complex numbers.

    They are remembered with each view on the way, so that a view of a view costs no more than the first.
    """
    pending: list[Alias] = []
    at: Alias | None = alias
    while at is not None and not hasattr(at, "layout"):
        pending.append(at)
        at = at.parent
    if at is None:
        shape = tuple(alias.root._raw.shape)
        found: Layout = shape, c_strides(shape)
    else:
        found = at.layout
    for step in reversed(pending):
        found = step.layout = None if found is None else _after(step, *found)
    return None if found is None else found[1]


def _after(step: Alias, shape: tuple[int, ...], strides: Strides) -> Layout:
    """Return shape and strides after one step of making a view."""
    name = step.step.__name__
    if name == "permute_dims":
        axes = step.args[0]
        return tuple(shape[a] for a in axes), tuple(strides[a] for a in axes)
    if name == "reshape":
        new = _completed(step.args[0], math.prod(shape))
        if strides == c_strides(shape):
            return new, c_strides(new)
        found = reshaped(shape, strides, new)
        return None if found is None else (new, found)
    if name == "getitem":
        return indexed(shape, strides, step.args[0])
    if name == "broadcast_to":
        return _broadcast(shape, strides, step.args[0])
    return _diagonal(shape, strides, step.args[0]) if name == "diagonal_view" else None


def _completed(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    if -1 not in shape:
        return shape
    rest = -math.prod(shape)
    return tuple((size // rest if rest else 0) if n == -1 else n for n in shape)


def reshaped(shape: tuple[int, ...], strides: Strides, new: tuple[int, ...]) -> Strides | None:
    """Return the strides after a reshape, or None if it demands a copy.

    Both shapes are cut into the smallest groups of axes of equal size; within a group of the old axes each
    stride must be the next one times its length.
    """
    if math.prod(shape) == 0:
        return c_strides(new)
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    lengths = [n for n in new if n != 1]
    found: list[int] = []
    i = j = 0
    while i < len(old) and j < len(lengths):
        end_i, end_j = _group([n for n, _ in old], i, lengths, j)
        for (_, s), (m, t) in itertools.pairwise(old[i:end_i]):
            if s != t * m:
                return None
        step = old[end_i - 1][1]
        found += [step * k for k in c_strides(lengths[j:end_j])]
        i, j = end_i, end_j
    rest = iter(found)
    return tuple(0 if n == 1 else next(rest) for n in new)


def _group(old: list[int], i: int, new: list[int], j: int) -> tuple[int, int]:
    """Return the ends of the smallest groups of axes, from `i` and `j` on, of equal size."""
    a, b = old[i], new[j]
    while a != b:
        if a < b:
            i += 1
            a *= old[i]
        else:
            j += 1
            b *= new[j]
    return i + 1, j + 1


def indexed(shape: tuple[int, ...], strides: Strides, key: Any) -> tuple[tuple[int, ...], Strides]:
    """Return shape and strides after basic indexing."""
    items = list(key) if isinstance(key, tuple) else [key]
    used = sum(k is not None and k is not Ellipsis for k in items)
    dots = next((i for i, k in enumerate(items) if k is Ellipsis), len(items))
    items[dots : dots + 1] = [slice(None)] * (len(shape) - used)
    new_shape, new_strides, axis = [], [], 0
    for k in items:
        if k is None:
            new_shape.append(1)
            new_strides.append(0)
            continue
        if isinstance(k, slice):
            start, stop, step = k.indices(shape[axis])
            new_shape.append(len(range(start, stop, step)))
            new_strides.append(strides[axis] * step)
        axis += 1
    return tuple(new_shape), tuple(new_strides)


def _broadcast(
    shape: tuple[int, ...], strides: Strides, new: tuple[int, ...]
) -> tuple[tuple[int, ...], Strides]:
    extra = len(new) - len(shape)
    old = zip(shape, strides, new[extra:], strict=True)
    return new, (0,) * extra + tuple(0 if n == 1 != m else s for n, s, m in old)


def diagonal_cells(m: int, n: int, offset: int) -> slice:
    """Return where a diagonal of an (m, n) matrix lies among its elements in C order.

    Examples
    --------
    >>> diagonal_cells(3, 4, 1)
    slice(1, 12, 5)
    """
    row, column = max(0, -offset), max(0, offset)
    length = max(0, min(m - row, n - column))
    start = row * n + column
    return slice(start, min(start + length * (n + 1), m * n), n + 1) if length else slice(0, 0, 1)


def _diagonal(
    shape: tuple[int, ...], strides: Strides, offset: int
) -> tuple[tuple[int, ...], Strides]:
    *lead, m, n = shape
    length = len(range(*diagonal_cells(m, n, offset).indices(m * n)))
    return (*lead, length), (*strides[:-2], strides[-2] + strides[-1])

"""NumPy's indexing in terms of the standard's, which has integers, slices and lone masks only.

The rules are those of NumPy's manual, "Indexing on ndarrays": arrays of integers and masks are *advanced*
indices, are broadcast against each other, and put their axes where they stand if they stand side by side,
else in front.
"""

from __future__ import annotations

import math
import operator
from types import EllipsisType
from typing import Any

from tinyxp import dtypes

__all__ = ["getitem", "scatter", "setitem"]

Array = Any


class _Key:
    """A key taken apart: ``x[basic]``, then `flipped` axes of it, then `arrays` of integers for its `axes`.

    Attributes
    ----------
    basic : list of int, slice and None
        What the standard understands, and no negative steps, for PyTorch has none.
    flipped : list of int
        Axes of ``x[basic]`` to reverse.
    axes, arrays : list
        Axes of ``x[basic]``, and the array of integers that indexes each.
    places : list of int
        Where in the key the arrays stand.
    """

    __slots__ = ("arrays", "axes", "basic", "flipped", "places")

    def __init__(self) -> None:
        self.basic: list[Any] = []
        self.flipped: list[int] = []
        self.axes: list[int] = []
        self.arrays: list[Array] = []
        self.places: list[int] = []

    def add_slice(self, item: slice, length: int) -> None:
        """Add `item` with the bounds that the standard promises to understand."""
        chosen = range(*item.indices(length))
        if chosen.step < 0:
            self.flipped.append(sum(not isinstance(b, int) for b in self.basic))
            chosen = chosen[::-1]
        stop = min(chosen.stop, length)
        self.basic.append(slice(chosen.start, stop, chosen.step) if chosen else slice(0, 0, 1))

    def add_arrays(self, found: tuple[Array, ...], width: int, place: int) -> None:
        """Add index arrays for `width` axes of the array, or for a new one where that is 0."""
        self.axes += range(len(self.basic), len(self.basic) + len(found))
        self.basic += [slice(None)] * width or [None]
        self.arrays += found
        self.places.append(place)

    @property
    def side_by_side(self) -> bool:
        """Whether nothing stands between the arrays."""
        return self.places[-1] - self.places[0] == len(self.places) - 1

    def view(self, xp: Any, x: Array) -> Array:
        """Return the part of `x` that slices, integers and None choose."""
        y = x[tuple(self.basic)]
        return xp.flip(y, axis=tuple(self.flipped)) if self.flipped else y


def _is_array(item: Any) -> bool:
    return hasattr(item, "dtype") and hasattr(item, "shape")


def _is_mask(item: Any) -> bool:
    return isinstance(item, bool) or (_is_array(item) and dtypes.of(item.dtype).kind == "b")


def _width(item: Any) -> int:
    """Return how many axes of the array `item` speaks for."""
    if item is None or isinstance(item, bool | EllipsisType):
        return 0
    return len(item.shape) if _is_mask(item) else 1


def _items(x: Array, key: Any) -> list[Any]:
    """Return the key as a list that speaks for every axis of `x`; an Ellipsis for none stays, as a gap."""
    items = list(key) if isinstance(key, tuple) else [key]
    dots = [i for i, item in enumerate(items) if isinstance(item, EllipsisType)]
    if len(dots) > 1:
        raise IndexError(f"an index can only have a single ellipsis ('...'); got {len(dots)}")
    missing = x.ndim - sum(_width(item) for item in items)
    if missing < 0:
        named = x.ndim - missing
        raise IndexError(f"too many indices: the array has {x.ndim} axes, the key names {named}")
    at = dots[0] if dots else len(items)
    return items[:at] + ([slice(None)] * missing or items[at : at + 1]) + items[at + 1 :]


def _integer(item: Any, length: int, axis: int) -> int:
    index = operator.index(item)
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of bounds for axis {axis} with size {length}")
    return index


def _wrapped(xp: Any, index: Array, length: int, axis: int, *, check: bool) -> Array:
    """Return `index` without negative numbers; refuse what is out of bounds."""
    size = math.prod(index.shape)
    if check and size and not bool(xp.all((index >= -length) & (index < length))):
        raise IndexError(f"an index array is out of bounds for axis {axis} with size {length}")
    index = xp.astype(index, xp.int64)
    return xp.where(index < 0, index + length, index)


def _advanced(xp: Any, x: Array, item: Any, axis: int, *, check: bool) -> tuple[Array, ...]:
    if isinstance(item, bool):
        return tuple(xp.nonzero(xp.full((1,), item, dtype=xp.bool, device=x.device)))
    if not _is_array(item):
        index = _integer(item, x.shape[axis], axis)
        return (xp.asarray(index % max(x.shape[axis], 1), dtype=xp.int64, device=x.device),)
    if not _is_mask(item):
        return (_wrapped(xp, item, x.shape[axis], axis, check=check),)
    if item.ndim == 0:
        return tuple(xp.nonzero(xp.reshape(item, (1,))))
    expected = tuple(x.shape[axis : axis + item.ndim])
    if any(n not in (m, 0) for n, m in zip(item.shape, expected, strict=True)):
        raise IndexError(f"a mask over axes of shape {expected} has shape {tuple(item.shape)}")
    return tuple(xp.nonzero(item))


def _parse(xp: Any, x: Array, key: Any, *, check: bool = True) -> _Key:
    items = _items(x, key)
    fancy = any(_is_array(item) or isinstance(item, bool) for item in items)
    parsed, axis = _Key(), 0
    for place, item in enumerate(items):
        if item is None:
            parsed.basic.append(None)
        elif isinstance(item, slice):
            parsed.add_slice(item, x.shape[axis])
        elif fancy and not isinstance(item, EllipsisType):
            found = _advanced(xp, x, item, axis, check=check)
            parsed.add_arrays(found, _width(item), place)
        elif not isinstance(item, EllipsisType):
            parsed.basic.append(_integer(item, x.shape[axis], axis))
        axis += _width(item)
    return parsed


def _broadcast(xp: Any, arrays: list[Array]) -> list[Array]:
    try:
        return list(xp.broadcast_arrays(*arrays))
    except (ValueError, RuntimeError):  # what libraries raise for shapes that do not fit
        shapes = ", ".join(str(tuple(a.shape)) for a in arrays)
        raise IndexError(f"index arrays must broadcast together; got shapes {shapes}") from None


def _flat(arrays: list[Array], lengths: list[int]) -> Array:
    """Return the number that the index arrays together give an element, in C order."""
    flat = arrays[0]
    for length, index in zip(lengths[1:], arrays[1:], strict=True):
        flat = flat * length + index
    return flat


def _order(y: Array, parsed: _Key, depth: int) -> tuple[list[int], list[int]]:
    """Return the axes of `y` that stay, and how the result's axes stand with the indexed ones in front.

    The second is the permutation that puts the `depth` axes of the index arrays where NumPy has them.
    """
    rest = [a for a in range(y.ndim) if a not in parsed.axes]
    before = sum(a < parsed.axes[0] for a in rest) if parsed.side_by_side else 0
    front = [*range(depth, depth + before), *range(depth)]
    return rest, [*front, *range(len(front), depth + len(rest))]


def getitem(xp: Any, x: Array, key: Any) -> Array:
    """Return ``x[key]`` by NumPy's rules with nothing but the standard's functions."""
    parsed = _parse(xp, x, key)
    y = parsed.view(xp, x)
    if not parsed.arrays:
        return y
    arrays = _broadcast(xp, parsed.arrays)
    shape = tuple(arrays[0].shape)
    rest, order = _order(y, parsed, len(shape))
    lengths, kept = [y.shape[a] for a in parsed.axes], tuple(y.shape[a] for a in rest)
    table = xp.reshape(xp.permute_dims(y, (*parsed.axes, *rest)), (math.prod(lengths), *kept))
    flat = xp.reshape(_flat(arrays, lengths), (-1,))
    return xp.permute_dims(xp.reshape(xp.take(table, flat, axis=0), (*shape, *kept)), tuple(order))


def _fit(xp: Any, x: Array, value: Any, shape: tuple[int, ...]) -> Array:
    """Return `value` as an array of the dtype of `x` and of `shape`."""
    if not _is_array(value):
        value = xp.asarray(value, dtype=x.dtype, device=x.device)
    extra = value.ndim - len(shape)
    if extra > 0 and all(n == 1 for n in value.shape[:extra]):
        value = xp.reshape(value, value.shape[extra:])
    return xp.broadcast_to(xp.astype(value, x.dtype), shape)


def _write(xp: Any, x: Array, parsed: _Key, value: Any) -> None:
    """Write where there are no arrays; the standard does not promise None in an assignment."""
    places = tuple(item for item in parsed.basic if item is not None)
    fitted = _fit(xp, x, value, tuple(x[tuple(parsed.basic)].shape))
    if parsed.flipped:
        fitted = xp.flip(fitted, axis=tuple(parsed.flipped))
    x[places] = xp.reshape(fitted, tuple(x[places].shape))


def setitem(xp: Any, x: Array, key: Any, value: Any) -> None:
    """Write `value` to ``x[key]`` by NumPy's rules with nothing but the standard's functions."""
    parsed = _parse(xp, x, key)
    if not parsed.arrays:
        _write(xp, x, parsed, value)
        return
    size = math.prod(x.shape)
    cells = xp.arange(size, dtype=xp.int64, device=x.device)
    written = getitem(xp, xp.reshape(cells, x.shape), key)
    fitted = xp.reshape(_fit(xp, x, value, tuple(written.shape)), (-1,))
    if math.prod(written.shape):
        new = _last_written(xp, xp.reshape(x, (-1,)), cells, xp.reshape(written, (-1,)), fitted)
        x[...] = xp.reshape(new, x.shape)


def _last_written(xp: Any, old: Array, cells: Array, written: Array, values: Array) -> Array:
    """Return `old` with each cell that occurs in `written` replaced by its last value."""
    order = xp.argsort(written, stable=True)
    where = xp.take(written, order)
    last = xp.searchsorted(where, cells, side="right") - 1
    found = xp.clip(last, 0)
    hit = (last >= 0) & (xp.take(where, found) == cells)
    return xp.where(hit, xp.take(values, xp.take(order, found)), old)


def scatter(xp: Any, x: Array, key: Any, value: Any, *, check: bool = True) -> None:
    """Write `value` to ``x[key]`` by NumPy's rules, where the library itself can assign to index arrays.

    What the standard does not promise but most libraries give: slices and permutations are views, and
    ``x[i, j] = v`` takes integer arrays. Their order of writing is open, so where an element is named
    twice, every write carries the last value.

    Parameters
    ----------
    xp, x, key, value
        As for `setitem`; the time does not depend on the size of `x`.
    check : bool
        Whether to refuse index arrays out of bounds, for which the host must wait for the device.
    """
    parsed = _parse(xp, x, key, check=check)
    if not parsed.arrays:
        _write(xp, x, parsed, value)
        return
    y, arrays = x[tuple(parsed.basic)], _broadcast(xp, parsed.arrays)
    shape = tuple(arrays[0].shape)
    rest, order = _order(y, parsed, len(shape))
    lengths, kept = [y.shape[a] for a in parsed.axes], tuple(y.shape[a] for a in rest)
    inverse = tuple(sorted(range(len(order)), key=order.__getitem__))
    sizes = (*shape, *kept)
    fitted = xp.permute_dims(_fit(xp, x, value, tuple(sizes[a] for a in order)), inverse)
    rows = xp.reshape(fitted, (math.prod(shape), *kept))
    if parsed.flipped:
        rows = xp.flip(rows, axis=tuple(1 + rest.index(a) for a in parsed.flipped))
    places = [xp.reshape(a, (-1,)) for a in arrays]
    last = _last(xp, _flat(places, lengths))
    xp.permute_dims(y, (*parsed.axes, *rest))[tuple(places)] = xp.take(rows, last, axis=0)


def _last(xp: Any, written: Array) -> Array:
    """Return for each element of `written` the position of the last one equal to it."""
    order = xp.argsort(written, stable=True)
    where = xp.take(written, order)
    return xp.take(order, xp.searchsorted(where, written, side="right") - 1)

"""Indexing and assignment, in all of NumPy's forms, and the standard's indexing functions."""

from __future__ import annotations

import operator
from types import EllipsisType
from typing import Any

from tinyxp import dtypes
from tinyxp._core import (
    MODE,
    TENSORS,
    Alias,
    Tensor,
    fresh,
    is_leaf,
    own,
    root_of,
    save_mark,
    wrap,
    written,
)
from tinyxp.autograd._record import op, record
from tinyxp.errors import LEAF_WRITE, DTypeError, GraphError, ShapeError
from tinyxp.ops import _dispatch
from tinyxp.ops._dispatch import as_tensor

__all__ = ["take", "take_along_axis"]

_BASIC = frozenset({int, slice, EllipsisType, type(None)})


# ---------------------------------------------------------------- keys
def _is_basic(key: Any) -> bool:
    if type(key) is tuple:
        return all(type(k) in _BASIC and (type(k) is not slice or _plain_slice(k)) for k in key)
    return type(key) in _BASIC and (type(key) is not slice or _plain_slice(key))


def _plain_slice(k: slice) -> bool:
    return (
        (k.start is None or type(k.start) is int)
        and (k.stop is None or type(k.stop) is int)
        and (k.step is None or type(k.step) is int)
    )


def freeze(key: Any, x: Tensor) -> tuple[Any, bool]:
    """Return a key with arrays in place of Tensors and lists, and whether it is a basic one."""
    if _is_basic(key):
        return key, True
    items = key if isinstance(key, tuple) else (key,)
    frozen = tuple(_freeze_item(k, x) for k in items)
    basic = all(type(k) in _BASIC for k in frozen)
    return (frozen if isinstance(key, tuple) else frozen[0]), basic


def _freeze_item(k: Any, x: Tensor) -> Any:
    kind = type(k)
    if kind is slice:
        return slice(*(None if v is None else operator.index(v) for v in (k.start, k.stop, k.step)))
    if kind in _BASIC or kind is bool:
        return k
    if kind in TENSORS:
        return _freeze_tensor(fresh(k), x)
    if isinstance(k, (list, tuple)) and not k:
        return x._device.backend.asarray([], dtype=dtypes.dtype("int64"), device=x._device)
    if isinstance(k, (list, tuple)) or hasattr(k, "dtype"):
        return _freeze_tensor(_dispatch.operand(k, x._device), x)
    if hasattr(k, "__index__"):
        return operator.index(k)
    raise IndexError(
        "an index is an integer, a slice, None, ..., or an array of integers or booleans; "
        f"got {type(k).__name__} {k!r}"
    )


def _freeze_tensor(k: Tensor, x: Tensor) -> Any:
    d = dtypes.of(k._raw.dtype)
    if d.kind not in "iub":
        raise IndexError(f"an index array must hold integers or booleans; got dtype {d}")
    if k._device is not x._device:
        raise _dispatch.mismatch("indexing", (x, k))
    if d.kind != "b" and tuple(k._raw.shape) == ():
        return int(k._raw)
    save_mark(k, [])  # a node may keep the key: writes into it copy first
    return k._raw


# ---------------------------------------------------------------- reading
def getitem(x: Tensor, key: Any) -> Tensor:
    """Return ``x[key]``: a view for integers, slices, None and ``...``; a new Tensor for arrays.

    Parameters
    ----------
    x : Tensor
    key : int, slice, None, Ellipsis, integer or bool array, or a tuple of these

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.arange(6)
    >>> x[1:4:2].tolist(), x[xp.Tensor([5, 0])].tolist(), x[x > 3].tolist()
    ([1, 3], [5, 0], [4, 5])
    """
    if x._alias is not None:
        fresh(x)
    frozen, basic = freeze(key, x)
    if basic:
        return _dispatch.view("getitem", x, x._device.xp.getitem, getitem, (frozen,))
    out: Tensor = _dispatch.apply("getitem", (x, frozen))
    return out


def unindex(g: Tensor, key: Any, shape: tuple[int, ...]) -> Tensor:
    """Return zeros of `shape` with `g` added at `key`: the transpose of `getitem`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> unindex(xp.Tensor([5.0]), slice(1, 2), (3,)).tolist()
    [0.0, 5.0, 0.0]
    """
    out: Tensor = _dispatch.apply("unindex", (as_tensor(g), key, shape))
    return out


def take(x: Tensor, indices: Tensor, /, *, axis: int | None = None) -> Tensor:
    """Return the elements of `x` at `indices` along an axis.

    Parameters
    ----------
    x : Tensor, shape (..., n, ...)
    indices : integer Tensor, shape (m,)
        Of any other shape, where the standard has none, its axes take the place of `axis`.
    axis : int, optional
        May be left out for one-dimensional `x`.

    Returns
    -------
    Tensor, shape (..., m, ...)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.take(xp.Tensor([1.0, 2.0, 3.0]), xp.Tensor([2, 0])).tolist()
    [3.0, 1.0]
    """
    from tinyxp.ops._manipulation import normalize_axis, reshape

    x = as_tensor(x)
    indices = _dispatch.operand(indices, x._device)
    shape, places = tuple(x._raw.shape), tuple(indices._raw.shape)
    if axis is None:
        if len(shape) != 1:
            raise ValueError(f"take needs an axis for {len(shape)} axes; got None")
        axis = 0
    axis = normalize_axis(axis, len(shape), "take")
    flat = indices if len(places) == 1 else reshape(indices, (-1,))
    out: Tensor = _dispatch.apply("take", (x, flat), {"axis": axis})
    return out if flat is indices else reshape(out, (*shape[:axis], *places, *shape[axis + 1 :]))


def take_along_axis(x: Tensor, indices: Tensor, /, *, axis: int = -1) -> Tensor:
    """Return, for each line along `axis`, the elements at that line's `indices`.

    Parameters
    ----------
    x : Tensor, shape (..., n, ...)
    indices : integer Tensor, shape (..., m, ...)
        Broadcasts with `x` in the other axes.
    axis : int

    Returns
    -------
    Tensor, shape (..., m, ...)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.take_along_axis(xp.Tensor([[1.0, 2.0], [3.0, 4.0]]), xp.Tensor([[1], [0]]), axis=1).tolist()
    [[2.0], [3.0]]
    """
    from tinyxp.ops._manipulation import broadcast_to, normalize_axis

    x = as_tensor(x)
    indices = _dispatch.operand(indices, x._device)
    ndim = len(x._raw.shape)
    axis = normalize_axis(axis, ndim, "take_along_axis")
    if len(indices._raw.shape) != ndim:
        raise ShapeError(
            f"take_along_axis expects indices with {ndim} axes like x; got shape {tuple(indices._raw.shape)}"
        )
    lead = list(
        _dispatch.broadcast_shapes(
            [1 if a == axis else n for a, n in enumerate(x._raw.shape)],
            [1 if a == axis else n for a, n in enumerate(indices._raw.shape)],
        )
    )
    wide = [*lead[:axis], x._raw.shape[axis], *lead[axis + 1 :]]
    if tuple(wide) != tuple(x._raw.shape):
        x = broadcast_to(x, tuple(wide))
    wide[axis] = indices._raw.shape[axis]
    if tuple(wide) != tuple(indices._raw.shape):
        indices = broadcast_to(indices, tuple(wide))
    out: Tensor = _dispatch.apply("take_along_axis", (x, indices), {"axis": axis})
    return out


def segment_sum(values: Tensor, indices: Tensor, size: int, /, *, axis: int = 0) -> Tensor:
    """Add slices of `values` into zeros, at `indices` along `axis`; repeated indices accumulate.

    Parameters
    ----------
    values : Tensor, shape (..., n, ...)
    indices : integer Tensor, shape (n,)
    size : int
        Length of the result along `axis`.
    axis : int

    Returns
    -------
    Tensor, shape (..., size, ...)

    Examples
    --------
    >>> import tinyxp as xp
    >>> segment_sum(xp.Tensor([1.0, 2.0, 4.0]), xp.Tensor([0, 2, 0]), 3).tolist()
    [5.0, 0.0, 2.0]
    """
    values = as_tensor(values)
    out: Tensor = _dispatch.apply(
        "segment_sum", (values, _dispatch.operand(indices, values._device), size), {"axis": axis}
    )
    return out


def threefry2x32(
    key0: int, key1: int, counter0: Tensor, counter1: Tensor, /
) -> tuple[Tensor, Tensor]:
    """Encrypt counters with the block cipher that random numbers are made of.

    Examples
    --------
    >>> import tinyxp as xp
    >>> [w.item() for w in threefry2x32(0, 0, xp.asarray(0), xp.asarray(0))] == [0x6B200159, 0x99BA4EFE]
    True
    """
    out: tuple[Tensor, Tensor] = _dispatch.untracked(
        "threefry2x32", (key0, key1, counter0, counter1)
    )
    return out


# ---------------------------------------------------------------- writing
def setitem(x: Tensor, key: Any, value: Any) -> None:
    """Write `value` to ``x[key]``: views of `x` and its base see it, saved values do not change.

    Parameters
    ----------
    x : Tensor
        What is written. While recording it must not be a leaf that requires grad.
    key : as for `getitem`
    value : Tensor or number
        Broadcasts to the shape of ``x[key]``.

    Raises
    ------
    GraphError
        For a leaf that requires grad, while recording.

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.zeros(3)
    >>> x[1:] = xp.Tensor([1.0, 2.0])
    >>> x.tolist()
    [0.0, 1.0, 2.0]
    """
    _own_if_broadcast(fresh(x))
    frozen, _ = freeze(key, x)
    value = _value(x, value)
    raw = value._raw if type(value) in TENSORS else value
    if type(value) in TENSORS and root_of(value)._raw is root_of(x)._raw:
        raw = x._device.xp.copy(raw)  # not every library can write an array into itself
    if MODE.grad and _reaches_leaf(x):
        raise GraphError(LEAF_WRITE.format(operation="x[...] = ..."))
    tracked = type(value) in TENSORS and value._node is not None
    if MODE.grad and (tracked or x._node is not None):
        _write_recorded(x, frozen, value, raw)
    else:
        _write(x, frozen, raw, value)


def _value(x: Tensor, value: Any) -> Any:
    """Return what is to be written as a Tensor of the dtype of `x`, or as a number that fits it."""
    d = dtypes.of(x._raw.dtype)
    if type(value) not in TENSORS:
        value = _dispatch.plain(value)
        kind = dtypes.KIND_OF_SCALAR.get(type(value))
        if kind is not None:
            if dtypes.RANK[kind] > dtypes.RANK[d.kind]:
                raise DTypeError(
                    f"cannot write the number {value!r} into a Tensor of dtype {d}; cast it first"
                )
            return value
        value = as_tensor(value, x._device)
    fresh(value)
    if value._device is not x._device:
        raise _dispatch.mismatch("assignment", (x, value))
    have = dtypes.of(value._raw.dtype)
    if have is not d:
        if dtypes.RANK[have.kind] > dtypes.RANK[d.kind]:
            raise DTypeError(
                f"cannot write dtype {have} into a Tensor of dtype {d}; cast it with x.to({d.name!r}) first"
            )
        from tinyxp.ops._data_types import astype

        value = astype(value, d)
    return value


def _reaches_leaf(x: Tensor) -> bool:
    """Whether a recorded write into `x` would write into a leaf."""
    alias = x._alias
    return is_leaf(x) or (type(alias) is Alias and alias.over_leaf())


def _own_if_broadcast(x: Tensor) -> None:
    """Make a broadcast view, whose elements share memory, a root before it is written."""
    alias = x._alias
    if type(alias) is Alias and any(s.step.__name__ == "broadcast_to" for s in alias.steps()):
        x._raw, x._alias = x._device.xp.copy(x._raw), None


def _write(x: Tensor, key: Any, raw: Any, value: Any) -> None:
    """Write without recording."""
    alias = x._alias
    xp = x._device.xp
    try:
        if type(alias) is not Alias:
            own(x)
            xp.setitem(x._raw, key, raw)
        else:
            own(alias.root)
            fresh(x)
            if x._device.backend.shares_memory(x._raw, alias.root._raw):
                xp.setitem(x._raw, key, raw)
            else:
                _write_through(x, alias, key, raw)
    except Exception as e:  # noqa: BLE001 - every error is given its context
        raise _dispatch.explain("assignment", (x, value), e, of_shapes=True) from None
    written(x)


def _write_through(x: Tensor, alias: Alias, key: Any, raw: Any) -> None:
    """Write into the root where the library made the view by copying."""
    from tinyxp.ops._creation import arange
    from tinyxp.ops._manipulation import reshape

    root, xp = alias.root, x._device.xp
    shape = tuple(root._raw.shape)
    cells = alias.replay(reshape(arange(_dispatch.size_of(shape), device=x._device), shape))
    flat = xp.reshape(xp.copy(root._raw), (-1,))
    places = xp.getitem(cells._raw, key)
    xp.setitem(x._raw, key, raw)
    xp.setitem(flat, (xp.reshape(places, (-1,)),), xp.reshape(xp.getitem(x._raw, key), (-1,)))
    root._raw = xp.reshape(flat, shape)


def _write_recorded(x: Tensor, key: Any, value: Any, raw: Any) -> None:
    """Write as a new step of the graph: the base becomes the result of a `setitem`."""
    alias = x._alias
    root = root_of(x)
    if type(alias) is Alias and alias.recorded is not True:
        raise GraphError(
            "cannot write a Tensor that requires grad into a detached view: the gradient would be lost; "
            "write into a copy, +x, or detach the value"
        )
    before = wrap(root._raw, root._device)
    before._node, before._index = root._node, root._index
    value = before if value is root else value
    steps = tuple((s.step, s.args) for s in alias.steps()) if type(alias) is Alias else ()
    _write(x, key, raw, value)
    where = (steps, key)
    root._node, root._index = None, 0
    record(op("setitem"), root, (before, value, where), (before._raw, raw, where), {})
    if root is not x:
        root._version += 1
        fresh(x)


def locate(x: Tensor, where: tuple[Any, Any]) -> Tensor:
    """Return the part of `x` that a recorded write replaced; zero for values that it wrote over itself."""
    from tinyxp import ops

    steps, key = where
    for step, args in steps:
        x = step(x, *args)
    part = getitem(x, key)
    return ops.where(_stayed(x, key, part.shape), part, 0.0) if _may_repeat(key) else part


def _may_repeat(key: Any) -> bool:
    """Whether a key can name an element twice: whether it has arrays of integers."""
    items = key if isinstance(key, tuple) else (key,)
    return any(hasattr(k, "dtype") and dtypes.of(k.dtype).kind != "b" for k in items)


def _stayed(x: Tensor, key: Any, shape: tuple[int, ...]) -> Tensor:
    """Return for each of the values that were written to ``x[key]`` whether no later one replaced it."""
    from tinyxp import ops

    order = ops.reshape(ops.arange(_dispatch.size_of(shape), device=x._device), shape)
    last = ops.zeros(x.shape, dtype="int64", device=x._device)
    setitem(last, key, order)
    return ops.equal(getitem(last, key), order)


def erase(x: Tensor, where: tuple[Any, Any]) -> Tensor:
    """Return a copy of `x` with zeros where a recorded write replaced it."""
    from tinyxp.ops._manipulation import expand_copy

    steps, key = where
    x = expand_copy(x)
    part = x
    for step, args in steps:
        part = step(part, *args)
    setitem(part, key, 0)
    return fresh(x)


_SYMBOLS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "floor_divide": "//", "remainder": "%",
    "pow": "**", "matmul": "@", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^",
    "bitwise_left_shift": "<<", "bitwise_right_shift": ">>",
}  # fmt: skip


def inplace(name: str, x: Tensor, y: Any) -> Tensor:
    """Compute ``x OP= y`` and return `x`, with the semantics of `setitem`."""
    from tinyxp import ops

    _own_if_broadcast(fresh(x))
    if MODE.grad and _reaches_leaf(x):
        raise GraphError(LEAF_WRITE.format(operation=f"x {_SYMBOLS[name]}= y"))
    result: Tensor = getattr(ops, name)(x, y)
    have, want = dtypes.of(result._raw.dtype), dtypes.of(x._raw.dtype)
    if have.kind == want.kind and have is not want:
        result, have = ops.astype(result, want), want
    if have is not want:
        raise DTypeError(
            f"x {_SYMBOLS[name]}= y would change the dtype from {want} to {have}; write x = x {_SYMBOLS[name]} y instead"
        )
    if tuple(result._raw.shape) != tuple(x._raw.shape):
        raise ShapeError(
            f"x {_SYMBOLS[name]}= y would change the shape from {tuple(x._raw.shape)} to {tuple(result._raw.shape)}"
        )
    if result._node is None or type(x._alias) is Alias:
        setitem(x, ..., result)
        return x
    x._raw, x._node, x._index, x._shared = result._raw, result._node, result._index, result._shared
    written(x)
    return x

"""Manipulation functions of the standard.

`permute_dims`, `reshape`, `broadcast_to` and basic indexing make views; the others are made of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp._core import TENSORS, Alias, Tensor, fresh
from tinyxp.errors import ShapeError
from tinyxp.ops import _dispatch, _layout
from tinyxp.ops._dispatch import as_tensor, broadcast_shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "broadcast_arrays", "broadcast_shapes", "broadcast_to", "concat", "expand_dims", "flip", "moveaxis",
    "permute_dims", "repeat", "reshape", "roll", "squeeze", "stack", "tile", "unstack",
]  # fmt: skip


def normalize_axis(axis: int, ndim: int, name: str) -> int:
    """Return `axis` counted from the front; refuse what is out of range."""
    try:
        index = axis.__index__()
    except AttributeError:
        raise TypeError(f"{name} expects an integer axis; got {axis!r}") from None
    if not -ndim <= index < ndim:
        raise IndexError(f"{name}: axis {axis} is out of range for {ndim} axes")
    return index % ndim


def normalize_axes(axis: Any, ndim: int, name: str) -> tuple[int, ...]:
    """Return one axis or several, counted from the front; None means all."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    found = tuple(normalize_axis(a, ndim, name) for a in axes)
    if len(set(found)) != len(found):
        raise ValueError(f"{name}: axes must differ; got {axis}")
    return found


# ---------------------------------------------------------------- views
def reshape(x: Tensor, /, shape: int | Sequence[int], *, copy: bool | None = None) -> Tensor:
    """Return the elements of `x`, in C order, in another shape.

    A view, as in NumPy: writes go both ways, unless the order of the elements demands a copy.

    Parameters
    ----------
    x : Tensor, shape (...)
    shape : int or tuple of int
        One length may be -1: it follows from the others.
    copy : bool, optional
        True: copy always. False: never, and raise if that cannot be done.

    Raises
    ------
    ShapeError
        If the number of elements differs.
    ValueError
        If `copy` is False and a copy is needed.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.reshape(xp.arange(4), (2, 2)).tolist()
    [[0, 1], [2, 3]]
    """
    if type(x) not in TENSORS:
        x = as_tensor(x)
    if type(shape) is not tuple:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if type(x._alias) is Alias and copy is not True:
        fresh(x)
        copies = not _layout.reshapes_in_place(x, shape)
        if copies and copy is False:
            raise ValueError(
                f"reshape of shape {tuple(x._raw.shape)} to {shape} needs a copy; copy is False"
            )
        copy = copies
    if copy:
        out: Tensor = _dispatch.apply("reshape", (x, shape), forward=_reshape_copy)
        return out
    return _dispatch.view("reshape", x, x._device.xp.reshape, reshape, (shape,))


def _reshape_copy(xp: Any, raw: Any, shape: tuple[int, ...]) -> Any:
    return xp.reshape(raw, shape, copy=True)


def permute_dims(x: Tensor, /, axes: Sequence[int]) -> Tensor:
    """Return a view of `x` with its axes in another order.

    Parameters
    ----------
    x : Tensor, shape (...)
    axes : tuple of int
        Axis ``axes[i]`` of `x` becomes axis ``i``.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.permute_dims(xp.ones((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    if type(x) not in TENSORS:
        x = as_tensor(x)
    if type(axes) is not tuple:
        axes = tuple(axes)
    return _dispatch.view("permute_dims", x, x._device.xp.permute_dims, permute_dims, (axes,))


def matrix_transpose(x: Tensor, /) -> Tensor:
    """Return a view of `x` with its last two axes swapped.

    Parameters
    ----------
    x : Tensor, shape (..., M, N)

    Returns
    -------
    Tensor, shape (..., N, M)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.matrix_transpose(xp.ones((2, 3))).shape
    (3, 2)
    """
    x = as_tensor(x)
    n = len(x._raw.shape)
    if n < 2:  # noqa: PLR2004 - a matrix has two axes
        raise ShapeError(
            f"matrix_transpose expects at least 2 axes; got shape {tuple(x._raw.shape)}"
        )
    return permute_dims(x, (*range(n - 2), n - 1, n - 2))


def moveaxis(x: Tensor, source: Any, destination: Any, /) -> Tensor:
    """Return a view of `x` with axes moved to other places.

    Parameters
    ----------
    x : Tensor
    source, destination : int or tuple of int
        The axes to move, and where each goes.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.moveaxis(xp.ones((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    x = as_tensor(x)
    n = len(x._raw.shape)
    start = normalize_axes(source, n, "moveaxis")
    end = normalize_axes(destination, n, "moveaxis")
    if len(start) != len(end):
        raise ValueError(
            f"moveaxis expects as many sources as destinations; got {source} and {destination}"
        )
    order = [a for a in range(n) if a not in start]
    for d, s in sorted(zip(end, start, strict=True)):
        order.insert(d, s)
    return permute_dims(x, order)


def expand_dims(x: Tensor, /, axis: Any = 0) -> Tensor:
    """Return a view of `x` with axes of length 1 inserted.

    Parameters
    ----------
    x : Tensor
    axis : int or tuple of int
        Where the new axes stand in the result.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.expand_dims(xp.ones(3), axis=0).shape
    (1, 3)
    """
    x = as_tensor(x)
    shape = list(x._raw.shape)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    for a in sorted(normalize_axes(axis, len(shape) + count, "expand_dims")):
        shape.insert(a, 1)
    return _dispatch.view("reshape", x, x._device.xp.reshape, reshape, (tuple(shape),))


def squeeze(x: Tensor, /, axis: Any) -> Tensor:
    """Return a view of `x` without axes of length 1.

    Parameters
    ----------
    x : Tensor
    axis : int or tuple of int
        The axes to remove.

    Raises
    ------
    ValueError
        If one of them is not of length 1.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.squeeze(xp.ones((1, 3)), axis=0).shape
    (3,)
    """
    x = as_tensor(x)
    shape = tuple(x._raw.shape)
    axes = normalize_axes(axis, len(shape), "squeeze")
    if any(shape[a] != 1 for a in axes):
        raise ValueError(f"squeeze expects axes of length 1; got axis {axis} of shape {shape}")
    kept = tuple(n for a, n in enumerate(shape) if a not in axes)
    return _dispatch.view("reshape", x, x._device.xp.reshape, reshape, (kept,))


def flip(x: Tensor, /, *, axis: Any = None) -> Tensor:
    """Return a view of `x` with the order along axes reversed.

    Parameters
    ----------
    x : Tensor
    axis : int, tuple of int or None
        None means all axes.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.flip(xp.arange(3)).tolist()
    [2, 1, 0]
    """
    from tinyxp.ops._indexing import getitem

    x = as_tensor(x)
    n = len(x._raw.shape)
    axes = normalize_axes(axis, n, "flip")
    return getitem(x, tuple(slice(None, None, -1) if a in axes else slice(None) for a in range(n)))


def broadcast_to(x: Tensor, /, shape: Sequence[int]) -> Tensor:
    """Return a view of `x` repeated to a larger shape; a write into it copies first.

    Parameters
    ----------
    x : Tensor
    shape : tuple of int
        A shape that `x` broadcasts to.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.broadcast_to(xp.arange(2), (2, 2)).tolist()
    [[0, 1], [0, 1]]
    """
    x = as_tensor(x)
    return _dispatch.view(
        "broadcast_to", x, x._device.xp.broadcast_to, broadcast_to, (tuple(shape),)
    )


def broadcast_arrays(*arrays: Tensor) -> tuple[Tensor, ...]:
    """Return the arguments broadcast to their common shape.

    Examples
    --------
    >>> import tinyxp as xp
    >>> [a.shape for a in xp.broadcast_arrays(xp.ones((3, 1)), xp.ones(4))]
    [(3, 4), (3, 4)]
    """
    tensors = [as_tensor(a) for a in arrays]
    shape = broadcast_shapes(*(tuple(t._raw.shape) for t in tensors))
    return tuple(t if tuple(t._raw.shape) == shape else broadcast_to(t, shape) for t in tensors)


def expand_copy(x: Tensor) -> Tensor:
    """Return `x` as an array of its own."""
    from tinyxp.ops._data_types import astype

    return astype(x, x._raw.dtype, copy=True)


def unstack(x: Tensor, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """Return views of `x`, one for each index along `axis`.

    Parameters
    ----------
    x : Tensor, shape (..., n, ...)
    axis : int

    Returns
    -------
    tuple of n Tensors, each without `axis`

    Examples
    --------
    >>> import tinyxp as xp
    >>> [t.tolist() for t in xp.unstack(xp.reshape(xp.arange(4), (2, 2)))]
    [[0, 1], [2, 3]]
    """
    from tinyxp.ops._indexing import getitem

    x = as_tensor(x)
    axis = normalize_axis(axis, len(x._raw.shape), "unstack")
    before = (slice(None),) * axis
    return tuple(getitem(x, (*before, i)) for i in range(x._raw.shape[axis]))


# ---------------------------------------------------------------- new arrays
def _promoted(arrays: Sequence[Any], name: str) -> list[Tensor]:
    from tinyxp.ops._data_types import astype, result_type

    tensors = list(arrays)
    if not tensors:
        raise ValueError(f"{name} expects at least one array; got an empty sequence")
    first = next((t for t in tensors if _dispatch.is_tensor(t)), None)
    device = None if first is None else first._device
    tensors = [as_tensor(t, device) for t in tensors]
    d = result_type(*tensors)
    return [astype(t, d, copy=False) for t in tensors]


def concat(arrays: Sequence[Tensor], /, *, axis: int | None = 0) -> Tensor:
    """Join Tensors along an axis that they have.

    Parameters
    ----------
    arrays : sequence of Tensor
        Of one shape but for `axis`.
    axis : int or None
        None flattens the arguments first.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.concat([xp.arange(2), xp.arange(3)]).tolist()
    [0, 1, 0, 1, 2]
    """
    tensors = _promoted(arrays, "concat")
    if axis is None:
        tensors, axis = [reshape(t, (-1,)) for t in tensors], 0
    axis = normalize_axis(axis, len(tensors[0]._raw.shape), "concat")
    return _dispatch.variadic("concat", tensors, {"axis": axis})


def stack(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """Join Tensors of one shape along a new axis.

    Parameters
    ----------
    arrays : sequence of Tensor, each of shape (...)
    axis : int
        Where the new axis stands in the result.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.stack([xp.arange(2), xp.arange(2)]).shape
    (2, 2)
    """
    tensors = _promoted(arrays, "stack")
    axis = normalize_axis(axis, len(tensors[0]._raw.shape) + 1, "stack")
    return _dispatch.variadic("stack", tensors, {"axis": axis})


def roll(x: Tensor, /, shift: Any, *, axis: Any = None) -> Tensor:
    """Return `x` with its elements shifted along axes; what leaves at the end enters at the front.

    Parameters
    ----------
    x : Tensor
    shift : int or tuple of int
        By how many places; for each axis, or the same for all of them.
    axis : int, tuple of int or None
        None: shift the flattened elements.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.roll(xp.arange(4), 1).tolist()
    [3, 0, 1, 2]
    """
    if isinstance(axis, (tuple, list)):
        axis = tuple(axis)
        shift = tuple(shift) if isinstance(shift, (tuple, list)) else (shift,) * len(axis)
    if axis == () == shift:
        from tinyxp.ops._creation import asarray

        return asarray(x, copy=True)
    out: Tensor = _dispatch.apply(
        "roll", (as_tensor(x),), {"shift": shift, "axis": axis}, forward=_roll
    )
    return out


def _roll(xp: Any, raw: Any, *, shift: Any, axis: Any) -> Any:
    return xp.roll(raw, shift, axis=axis)


def repeat(x: Tensor, repeats: Any, /, *, axis: int | None = None) -> Tensor:
    """Return `x` with each element repeated.

    Parameters
    ----------
    x : Tensor
    repeats : int or integer Tensor
        How often, for all elements or for each along `axis`.
    axis : int or None
        None: repeat the flattened elements.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.repeat(xp.arange(2), 2).tolist()
    [0, 0, 1, 1]
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = normalize_axis(axis, len(x._raw.shape), "repeat")
    repeats = _dispatch.plain(repeats)
    if type(repeats) is not int:
        repeats = _dispatch.operand(repeats, x._device)
    out: Tensor = _dispatch.apply("repeat", (x, repeats), {"axis": axis})
    return out


def tile(x: Tensor, repetitions: Sequence[int], /) -> Tensor:
    """Return `x` repeated as a whole along each axis.

    Parameters
    ----------
    x : Tensor
    repetitions : tuple of int
        How often along each axis; missing ones in front count as 1.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.tile(xp.arange(2), (2,)).tolist()
    [0, 1, 0, 1]
    """
    x = as_tensor(x)
    times = tuple(repetitions)
    n = max(len(times), len(x._raw.shape))
    times = (1,) * (n - len(times)) + times
    shape = (1,) * (n - len(x._raw.shape)) + tuple(x._raw.shape)
    between = reshape(x, tuple(k for s in shape for k in (1, s)))
    wide = broadcast_to(
        between, tuple(k for r, s in zip(times, shape, strict=True) for k in (r, s))
    )
    return reshape(wide, tuple(r * s for r, s in zip(times, shape, strict=True)), copy=True)

"""Searching, sorting and set functions of the standard."""

from __future__ import annotations

from typing import Any, NamedTuple

from tinyxp import dtypes
from tinyxp._core import TENSORS, Tensor, fresh, wrap
from tinyxp.ops import _dispatch
from tinyxp.ops._dispatch import as_tensor
from tinyxp.ops._manipulation import normalize_axis

__all__ = [
    "argmax", "argmin", "argsort", "count_nonzero", "isin", "nonzero", "searchsorted", "sort", "unique_all",
    "unique_counts", "unique_inverse", "unique_values", "where",
]  # fmt: skip


# ---------------------------------------------------------------- searching
def where(condition: Tensor, x1: Any, x2: Any, /) -> Tensor:
    """Return elements of `x1` where `condition` is true, else of `x2`.

    Parameters
    ----------
    condition : bool Tensor
    x1, x2 : Tensor or number
        All three broadcast; at least one of the two is a Tensor.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.where(xp.Tensor([True, False]), xp.Tensor([1.0, 2.0]), 0.0).tolist()
    [1.0, 0.0]
    """
    condition = as_tensor(condition)
    device = condition._device
    if type(x1) not in TENSORS and type(x2) not in TENSORS:
        x1 = as_tensor(_dispatch.plain(x1), device)
    x1, x2, a, b, _ = _operands(x1, x2, device)
    if condition._device is not x1._device:
        raise _dispatch.mismatch("where", (condition, x1))
    tensors = (condition, x1, x2)
    out: Tensor = _dispatch.apply("where", tensors, forward=lambda xp, c, _a, _b: xp.where(c, a, b))
    return out


def _operands(x1: Any, x2: Any, device: Any) -> tuple[Tensor, Tensor, Any, Any, Any]:
    if type(x1) in TENSORS and type(x2) in TENSORS:
        _dispatch.device_of("where", (x1, x2))
        a, b = fresh(x1)._raw, fresh(x2)._raw
        if a.dtype != b.dtype:
            a, b = _dispatch._promote_pair(a, b, device)
        return x1, x2, a, b, device
    x1, x2, a, b, home = _dispatch._mixed("where", x1, x2)
    tensors = [x if type(x) in TENSORS else None for x in (x1, x2)]
    raws = [a, b]
    for i, t in enumerate(tensors):
        if t is None:  # a number: libraries do not all take one here
            other = raws[1 - i]
            d = dtypes.of(other.dtype)
            raws[i] = home.backend.asarray(raws[i], dtype=d, device=home)
            tensors[i] = wrap(raws[i], home)
    return tensors[0], tensors[1], raws[0], raws[1], home  # type: ignore[return-value]  # two Tensors, counted by the caller


def _arg(name: str, x: Tensor, axis: int | None, *, keepdims: bool) -> Tensor:
    x = as_tensor(x)
    if axis is not None:
        axis = normalize_axis(axis, len(x._raw.shape), name)
    out: Tensor = _dispatch.untracked(name, (x,), {"axis": axis, "keepdims": keepdims})
    return out


def argmax(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return the index of the first largest element, in C order or along an axis.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.argmax(xp.Tensor([1.0, 3.0, 2.0])).item()
    1
    """
    return _arg("argmax", x, axis, keepdims=keepdims)


def argmin(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return the index of the first smallest element, in C order or along an axis.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.argmin(xp.Tensor([1.0, 3.0, 2.0])).item()
    0
    """
    return _arg("argmin", x, axis, keepdims=keepdims)


def count_nonzero(x: Tensor, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Return the number of elements that are not zero, over axes.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.count_nonzero(xp.Tensor([0.0, 2.0])).item()
    1
    """
    out: Tensor = _dispatch.untracked(
        "count_nonzero", (as_tensor(x),), {"axis": axis, "keepdims": keepdims}
    )
    return out


def nonzero(x: Tensor, /) -> tuple[Tensor, ...]:
    """Return the indices of the elements that are not zero, one Tensor for each axis.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.nonzero(xp.Tensor([0.0, 2.0]))[0].tolist()
    [1]
    """
    out: tuple[Tensor, ...] = _dispatch.untracked("nonzero", (as_tensor(x),))
    return out


def searchsorted(
    x1: Tensor, x2: Tensor, /, *, side: str = "left", sorter: Tensor | None = None
) -> Tensor:
    """Return where the elements of `x2` belong in the sorted `x1`.

    Parameters
    ----------
    x1 : Tensor, shape (n,)
    x2 : Tensor, shape (...)
    side : {"left", "right"}
        Before or after equal elements.
    sorter : integer Tensor, shape (n,), optional
        Indices that sort `x1`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.searchsorted(xp.Tensor([1.0, 3.0]), xp.Tensor([2.0])).tolist()
    [1]
    """
    x1 = as_tensor(x1)
    x2 = as_tensor(x2, x1._device)
    if sorter is not None:
        from tinyxp.ops._indexing import take

        x1 = take(x1, sorter)
    out: Tensor = _dispatch.untracked("searchsorted", (x1, x2), {"side": side})
    return out


# ---------------------------------------------------------------- sorting
def _kwargs(x: Tensor, axis: int, name: str, *, descending: bool, stable: bool) -> dict[str, Any]:
    axis = normalize_axis(axis, len(x._raw.shape), name)
    return {"axis": axis, "descending": descending, "stable": stable}


def sort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Return `x` sorted along an axis.

    Parameters
    ----------
    x : Tensor, shape (..., n, ...)
        A real Tensor.
    axis : int
    descending : bool
    stable : bool
        Whether equal elements keep their order.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.sort(xp.Tensor([2.0, 1.0])).tolist()
    [1.0, 2.0]
    """
    x = as_tensor(x)
    if len(x._raw.shape) == 0:
        from tinyxp.ops._elementwise import positive

        return positive(x)
    out: Tensor = _dispatch.apply(
        "sort", (x,), _kwargs(x, axis, "sort", descending=descending, stable=stable)
    )
    return out


def argsort(
    x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True
) -> Tensor:
    """Return the indices that sort `x` along an axis; the parameters are those of `sort`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.argsort(xp.Tensor([2.0, 1.0])).tolist()
    [1, 0]
    """
    x = as_tensor(x)
    kwargs = _kwargs(x, axis, "argsort", descending=descending, stable=stable)
    out: Tensor = _dispatch.untracked("argsort", (x,), kwargs)
    return out


# ---------------------------------------------------------------- sets
class UniqueAllResult(NamedTuple):
    """What `unique_all` returns."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCountsResult(NamedTuple):
    """What `unique_counts` returns."""

    values: Tensor
    counts: Tensor


class UniqueInverseResult(NamedTuple):
    """What `unique_inverse` returns."""

    values: Tensor
    inverse_indices: Tensor


def _unique(x: Tensor) -> UniqueAllResult:
    x = as_tensor(x)
    found = UniqueAllResult(*_dispatch.untracked("unique_all", (x,)))
    if x._node is None:
        return found
    from tinyxp.ops._indexing import take
    from tinyxp.ops._manipulation import reshape

    return found._replace(values=take(reshape(x, (-1,)), found.indices, axis=0))


def unique_all(x: Tensor, /) -> UniqueAllResult:
    """Return the distinct elements of `x`, where each occurs first, which is which, and how often.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.unique_all(xp.Tensor([2, 1, 2])).counts.tolist()
    [1, 2]
    """
    return _unique(x)


def unique_counts(x: Tensor, /) -> UniqueCountsResult:
    """Return the distinct elements of `x`, and how often each occurs.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.unique_counts(xp.Tensor([2, 1, 2])).counts.tolist()
    [1, 2]
    """
    found = _unique(x)
    return UniqueCountsResult(found.values, found.counts)


def unique_inverse(x: Tensor, /) -> UniqueInverseResult:
    """Return the distinct elements of `x`, and for each element which of them it is.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.unique_inverse(xp.Tensor([2, 1, 2])).inverse_indices.tolist()
    [1, 0, 1]
    """
    found = _unique(x)
    return UniqueInverseResult(found.values, found.inverse_indices)


def unique_values(x: Tensor, /) -> Tensor:
    """Return the distinct elements of `x`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.unique_values(xp.Tensor([2, 1, 2])).tolist()
    [1, 2]
    """
    return _unique(x).values


def isin(x1: Any, x2: Any, /, *, invert: bool = False) -> Tensor:
    """Return for each element of `x1` whether it is among those of `x2`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.isin(xp.Tensor([1, 5]), xp.Tensor([5, 6])).tolist()
    [False, True]
    """
    _, _, a, b, device = _operands(x1, x2, None if type(x1) not in TENSORS else x1._device)
    tensors = (wrap(a, device), wrap(b, device))
    out: Tensor = _dispatch.untracked("isin", tensors, {"invert": invert})
    return out

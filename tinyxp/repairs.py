"""Corrections of what libraries do differently from the standard, written once in the standard's terms.

A backend names the repairs that its library needs; `tinyxp.backend.Namespace` puts them in the place of
the library's functions. What a backend does not name costs it nothing.

A repair is a function ``repair(xp, library, *args)``: the namespace, the library's own function, and the
arguments of that function. The cases are those that the standard lists under "Special cases".
"""

from __future__ import annotations

from functools import update_wrapper
from itertools import product
from math import inf, nan
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyxp import dtypes
from tinyxp.errors import DTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["REPAIRS", "apply"]

Array = Any


def _kind(x: Array) -> str:
    return dtypes.of(x.dtype).kind


def _set(xp: Any, out: Array, mask: Array, value: complex) -> Array:
    """Return `out` with the constant `value` where `mask` is true."""
    return xp.where(mask, xp.asarray(value, dtype=out.dtype, device=out.device), out)


def _floor_divide(xp: Any, library: Callable[..., Array], x1: Any, x2: Any, /) -> Array:
    """Give the quotient itself where one operand is infinite: ±infinity or ±0.

    Libraries that derive the result from ``fmod`` give NaN for ``inf // 1`` and -1 for ``-1 // inf``.
    """
    out = library(x1, x2)
    if _kind(out) != "f":
        return out
    like = {"dtype": out.dtype, "device": getattr(out, "device", None)}
    one, two = (x if hasattr(x, "dtype") else xp.asarray(x, **like) for x in (x1, x2))
    return xp.where(xp.isinf(one) != xp.isinf(two), xp.divide(x1, x2), out)


def _expm1(xp: Any, library: Callable[..., Array], x: Array, /) -> Array:
    """Correct complex results on the real axis and at infinite real parts."""
    out = library(x)
    if _kind(x) != "c":
        return out
    a, b = xp.real(x), xp.imag(x)
    for negative, zero in ((False, 0.0), (True, -0.0)):
        half = xp.signbit(b) == negative
        for mask, value in ((a == 0, 0.0), (a == inf, inf), (xp.isnan(a), nan)):
            out = _set(xp, out, (b == 0) & half & mask, complex(value, zero))
        out = _set(xp, out, (a == -inf) & ~xp.isfinite(b) & half, complex(-1.0, zero))
    return _set(xp, out, (a == inf) & ~xp.isfinite(b), complex(inf, nan))


def _sign(xp: Any, library: Callable[..., Array], x: Array, /) -> Array:
    """Give 0 for every complex zero, also where a part of it is -0."""
    out = library(x)
    return _set(xp, out, x == 0, 0j) if _kind(x) == "c" else out


def _tanh(xp: Any, library: Callable[..., Array], x: Array, /) -> Array:
    """Correct complex results at infinite real parts: ±1, with a zero of the sign of the imaginary part."""
    out = library(x)
    if _kind(x) != "c":
        return out
    a, b = xp.real(x), xp.imag(x)
    for one, zero in product((1.0, -1.0), (0.0, -0.0)):
        limit = (a == one * inf) & (xp.signbit(b) == (str(zero) == "-0.0"))
        out = _set(xp, out, limit, complex(one, zero))
    return out


def _can_cast(xp: Any, _library: Callable[..., bool], from_: Any, to: Any, /) -> bool:  # noqa: ARG001
    """Answer by the standard's promotion table, which never loses a value."""
    target = dtypes.dtype(to)
    try:
        source = dtypes.dtype(from_)
    except DTypeError:
        if not hasattr(from_, "dtype"):
            raise
        source = dtypes.of(from_.dtype)
    try:
        return dtypes.promote(source, target) is target
    except DTypeError:
        return False


def _isin(
    xp: Any, library: Callable[..., Array], x1: Any, x2: Any, /, *, invert: bool = False
) -> Array:
    """Invert where the library forgets to."""
    found = library(x1, x2)
    return xp.logical_not(found) if invert else found


class UniqueAll(NamedTuple):
    """What `unique_all` returns."""

    values: Array
    indices: Array
    inverse_indices: Array
    counts: Array


def _unique_all(xp: Any, _library: Callable[..., Any], x: Array, /) -> UniqueAll:
    """Find unique elements by sorting, for libraries that do not find where they are.

    Of equal elements the first is named; every NaN is an element of its own.
    """
    flat = xp.reshape(x, (-1,))
    size = flat.shape[0]
    order = xp.argsort(flat, stable=True)
    ordered = xp.take(flat, order)
    starts = xp.ones((size,), dtype=xp.bool, device=x.device)
    if size:
        starts = xp.concat([starts[:1], ordered[1:] != ordered[:-1]])
    first = xp.nonzero(starts)[0]
    rank = xp.cumulative_sum(xp.astype(starts, xp.int64)) - 1
    inverse = xp.reshape(xp.take(rank, xp.argsort(order)), x.shape)
    end = xp.full((1,), size, dtype=first.dtype, device=x.device)
    counts = xp.concat([first[1:], end]) - first if size else first
    return UniqueAll(xp.take(ordered, first), xp.take(order, first), inverse, counts)


REPAIRS: dict[str, Callable[..., Any]] = {
    "can_cast": _can_cast,
    "expm1": _expm1,
    "floor_divide": _floor_divide,
    "isin": _isin,
    "sign": _sign,
    "tanh": _tanh,
    "unique_all": _unique_all,
}


def apply(name: str, namespace: Any) -> None:
    """Put the repaired function `name` in the place of the library's in `namespace`.

    Parameters
    ----------
    name : str
        A key of `REPAIRS`.
    namespace : Namespace
        Where the library's function is, and where the repaired one goes.

    Examples
    --------
    >>> import tinyxp
    >>> xp = tinyxp.device("cpu").xp  # NumPy's backend names "floor_divide" among its repairs
    >>> float(xp.floor_divide(xp.asarray(7.0), xp.asarray(2.0)))
    3.0
    """
    repair, library = REPAIRS[name], getattr(namespace, name)

    def repaired(*args: Any, **kwargs: Any) -> Any:
        return repair(namespace, library, *args, **kwargs)

    setattr(namespace, name, update_wrapper(repaired, library))

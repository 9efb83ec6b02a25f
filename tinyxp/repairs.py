"""Corrections of what libraries do differently from the standard, written once in the standard's terms.

A backend names the repairs that its library needs; `tinyxp.backend.Namespace` puts them in the place of
the library's functions. What a backend does not name costs it nothing.

A repair is a function ``repair(xp, library, *args)``: the namespace, the library's own function, and the
arguments of that function. The cases are those that the standard lists under "Special cases".
"""

from __future__ import annotations

from functools import update_wrapper
from itertools import product
from math import inf, nan, pi
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


def _arrays(xp: Any, out: Array, *operands: Any) -> list[Array]:
    """Return the operands that gave `out`, numbers as arrays of its dtype."""
    like = {"dtype": out.dtype, "device": getattr(out, "device", None)}
    return [x if hasattr(x, "dtype") else xp.asarray(x, **like) for x in operands]


def _width(x: Array) -> int:
    """Return the number of bits of an element."""
    return 8 * dtypes.of(x.dtype).itemsize


def _bitwise_left_shift(xp: Any, library: Callable[..., Array], x1: Any, x2: Any, /) -> Array:
    """Give 0 for shifts by the width of the integer and more, which C leaves to the machine."""
    out = library(x1, x2)
    (two,) = _arrays(xp, out, x2)
    return _set(xp, out, two >= _width(out), 0)


def _bitwise_right_shift(xp: Any, library: Callable[..., Array], x1: Any, x2: Any, /) -> Array:
    """Give the sign, 0 or -1, for shifts by the width of the integer and more."""
    out = library(x1, x2)
    one, two = _arrays(xp, out, x1, x2)
    out = _set(xp, out, two >= _width(out), 0)
    return _set(xp, out, (two >= _width(out)) & (one < 0), -1) if _kind(out) == "i" else out


def _floor_divide(xp: Any, library: Callable[..., Array], x1: Any, x2: Any, /) -> Array:
    """Give the quotient itself where one operand is infinite: ±infinity or ±0.

    Libraries that derive the result from ``fmod`` give NaN for ``inf // 1`` and -1 for ``-1 // inf``.
    """
    out = library(x1, x2)
    if _kind(out) != "f":
        return out
    one, two = _arrays(xp, out, x1, x2)
    return xp.where(xp.isinf(one) != xp.isinf(two), xp.divide(x1, x2), out)


def _remainder(xp: Any, library: Callable[..., Array], x1: Any, x2: Any, /) -> Array:
    """Give a zero the sign of the divisor; of an infinite divisor x1, or x2 where their signs differ."""
    out = library(x1, x2)
    if _kind(out) != "f":
        return out
    one, two = _arrays(xp, out, x1, x2)
    alike = (one == 0) | ((one < 0) == (two < 0))
    out = xp.where(xp.isinf(two) & xp.isfinite(one), xp.where(alike, one, two), out)
    return xp.where(out == 0, xp.copysign(out, two), out)


def _acos(xp: Any, library: Callable[..., Array], x: Array, /) -> Array:
    """Give the imaginary part the sign that the argument's has not, that of a zero too."""
    out = library(x)
    if _kind(x) != "c":
        return out
    wrong = xp.signbit(xp.imag(out)) == xp.signbit(xp.imag(x))
    return xp.where(wrong, xp.conj(out), out)


def _acosh(xp: Any, library: Callable[..., Array], x: Array, /) -> Array:
    """Give NaN + πi/2 for a complex zero with a NaN for the imaginary part."""
    out = library(x)
    if _kind(x) != "c":
        return out
    return _set(xp, out, (xp.real(x) == 0) & xp.isnan(xp.imag(x)), complex(nan, pi / 2))


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


def _log(xp: Any, library: Callable[..., Array], x: Array, /) -> Array:
    """Correct complex results at -0, and where one part is infinite and the other NaN."""
    out = _log1p(xp, library, x)
    if _kind(x) != "c":
        return out
    a, b = xp.real(x), xp.imag(x)
    for negative, angle in ((False, pi), (True, -pi)):
        zero = (x == 0) & xp.signbit(a) & (xp.signbit(b) == negative)
        out = _set(xp, out, zero, complex(-inf, angle))
    return out


def _log1p(xp: Any, library: Callable[..., Array], x: Array, /) -> Array:
    """Give infinity + NaN i where one part of the argument is infinite and the other NaN."""
    out = library(x)
    if _kind(x) != "c":
        return out
    a, b = xp.real(x), xp.imag(x)
    mixed = (xp.isinf(a) & xp.isnan(b)) | (xp.isnan(a) & xp.isinf(b))
    return _set(xp, out, mixed, complex(inf, nan))


def _sign(xp: Any, library: Callable[..., Array], x: Array, /) -> Array:
    """Give 0 for every complex zero, also where a part of it is -0."""
    out = library(x)
    return _set(xp, out, x == 0, 0j) if _kind(x) == "c" else out


def _tanh(xp: Any, library: Callable[..., Array], x: Array, /) -> Array:
    """Correct complex results at infinite real parts: ±1, with a zero of the sign of the imaginary part.

    On the imaginary axis, where the tangent of the imaginary part is NaN, the real part stays a zero.
    """
    out = library(x)
    if _kind(x) != "c":
        return out
    a, b = xp.real(x), xp.imag(x)
    for one, zero in product((1.0, -1.0), (0.0, -0.0)):
        limit = (a == one * inf) & (xp.signbit(b) == (str(zero) == "-0.0"))
        out = _set(xp, out, limit, complex(one, zero))
    for zero in (0.0, -0.0):
        axis = (a == 0) & (xp.signbit(a) == (str(zero) == "-0.0")) & ~xp.isfinite(b)
        out = _set(xp, out, axis, complex(zero, nan))
    return out


def _can_cast(xp: Any, _library: Callable[..., bool], from_: Any, to: Any, /) -> bool:  # noqa: ARG001 - one signature for all
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


def _order(xp: Any, x: Array) -> Array:
    """Return the places of the elements of `x` in order: complex ones by their real parts first."""
    if _kind(x) != "c":
        return xp.argsort(x, stable=True)
    order = xp.argsort(xp.imag(x), stable=True)
    return xp.take(order, xp.argsort(xp.take(xp.real(x), order), stable=True))


def _unique_all(xp: Any, _library: Callable[..., Any], x: Array, /) -> UniqueAll:
    """Find unique elements by sorting, for libraries that do not find where they are.

    Of equal elements the first is named; every NaN is an element of its own.
    """
    flat = xp.reshape(x, (-1,))
    size = flat.shape[0]
    order = _order(xp, flat)
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
    "acos": _acos,
    "acosh": _acosh,
    "bitwise_left_shift": _bitwise_left_shift,
    "bitwise_right_shift": _bitwise_right_shift,
    "can_cast": _can_cast,
    "expm1": _expm1,
    "floor_divide": _floor_divide,
    "isin": _isin,
    "log": _log,
    "log1p": _log1p,
    "remainder": _remainder,
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

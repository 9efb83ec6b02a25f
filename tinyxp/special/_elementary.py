"""Functions made of exponentials, logarithms and powers; most need no library of special functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp import ops
from tinyxp.autograd._rules_special import _polynomial, near_zero
from tinyxp.ops._elementwise import expm1 as expm1
from tinyxp.ops._elementwise import log1p as log1p
from tinyxp.special._define import document, floating, make

if TYPE_CHECKING:
    from tinyxp._core import Tensor

Array = Any


# ---------------------------------------------------------------- definitions, on arrays of a library
def _expit(xp: Any, x: Array) -> Array:
    e = xp.exp(-xp.abs(x))  # never overflows
    return xp.where(x < 0, e, xp.ones_like(e)) / (1 + e)


def _logit(xp: Any, x: Array) -> Array:
    """By logarithms near 1 where x is near 1/2: there the plain ones cancel."""
    s = 2 * x - 1
    middle = xp.log1p(s) - xp.log1p(-s)
    return xp.where(xp.abs(s) < 0.5, middle, xp.log(x) - xp.log1p(-x))  # noqa: PLR2004 - the middle


def _log_expit(xp: Any, x: Array) -> Array:
    zero = xp.zeros_like(x)
    return xp.where(x < 0, x, zero) - xp.log1p(xp.exp(-xp.abs(x)))


def _times_log(xp: Any, x: Array, log: Array, y: Array) -> Array:
    """Return ``x * log``, 0 where x is 0 unless y is NaN."""
    return xp.where((x == 0) & ~xp.isnan(y), xp.zeros_like(x * y), x * log)


def _xlogy(xp: Any, x: Array, y: Array) -> Array:
    return _times_log(xp, x, xp.log(y), y)


def _xlog1py(xp: Any, x: Array, y: Array) -> Array:
    return _times_log(xp, x, xp.log1p(y), y)


def _entr(xp: Any, x: Array) -> Array:
    inside = -_times_log(xp, x, xp.log(x), x)
    return xp.where(x < 0, xp.full_like(x, -math.inf), inside)


def _relative(xp: Any, x: Array, y: Array) -> tuple[Array, Array]:
    """Return x log(x / y) and where that is not the function: both are defined for x, y >= 0 alone."""
    ratio = x / y
    split = (ratio == 0) | (xp.isinf(ratio) & (y != 0))  # under- or overflow
    log = xp.where(split, xp.log(x) - xp.log(y), xp.log(ratio))
    outside = (x < 0) | (y < 0) | ((y == 0) & (x > 0))
    return _times_log(xp, x, log, y), outside


def _rel_entr(xp: Any, x: Array, y: Array) -> Array:
    inside, outside = _relative(xp, x, y)
    return xp.where(outside, xp.full_like(inside, math.inf), inside)


def _kl_div(xp: Any, x: Array, y: Array) -> Array:
    inside, outside = _relative(xp, x, y)
    return xp.where(outside, xp.full_like(inside, math.inf), inside - x + y)


def _power_of(base: float) -> Any:
    return lambda xp, x: xp.full_like(x, base) ** x


expit = make(
    "expit",
    "x",
    "the logistic function, 1 / (1 + exp(-x))",
    "xp.Tensor(1.0)",
    0.7311,
    forward=_expit,
)
logit = make(
    "logit",
    "x",
    "the inverse of `expit`, log(x / (1 - x))",
    "xp.Tensor(0.75)",
    1.0986,
    forward=_logit,
)
log_expit = make(
    "log_expit",
    "x",
    "the logarithm of `expit`, without underflow",
    "xp.Tensor(-1.0)",
    -1.3133,
    forward=_log_expit,
)
xlogy = make(
    "xlogy",
    "x y",
    "x log(y), 0 where x is 0 (the derivative by x at x = y = 0, where none exists, is 0)",
    "xp.Tensor(2.0), 3.0",
    2.1972,
    forward=_xlogy,
)
xlog1py = make(
    "xlog1py",
    "x y",
    "x log(1 + y), 0 where x is 0 (the derivative by x at x = 0, y = -1, where none exists, is 0)",
    "xp.Tensor(2.0), 3.0",
    2.7726,
    forward=_xlog1py,
)
entr = make(
    "entr",
    "x",
    "the elements of an entropy, -x log(x), 0 at 0, -inf below (the derivative at 0 is inf)",
    "xp.Tensor(0.5)",
    0.3466,
    forward=_entr,
)
rel_entr = make(
    "rel_entr",
    "x y",
    "the elements of a relative entropy, x log(x / y) (the derivatives at x = y = 0 are 1 and 0)",
    "xp.Tensor(0.5), 0.25",
    0.3466,
    forward=_rel_entr,
)
kl_div = make(
    "kl_div",
    "x y",
    "the elements of a Kullback-Leibler divergence, x log(x / y) - x + y (the derivatives at x = y = 0 are 0 and 1)",
    "xp.Tensor(0.5), 0.25",
    0.0966,
    forward=_kl_div,
)
exp2 = make("exp2", "x", "2 to the power of x", "xp.Tensor(3.0)", 8.0, forward=_power_of(2.0))
exp10 = make("exp10", "x", "10 to the power of x", "xp.Tensor(2.0)", 100.0, forward=_power_of(10.0))
cbrt = make("cbrt", "x", "the real cube root", "xp.Tensor(-8.0)", -2.0)
sindg = make("sindg", "x", "the sine of an angle in degrees", "xp.Tensor(30.0)", 0.5)
cosdg = make("cosdg", "x", "the cosine of an angle in degrees", "xp.Tensor(60.0)", 0.5)
tandg = make("tandg", "x", "the tangent of an angle in degrees", "xp.Tensor(45.0)", 1.0)
cotdg = make("cotdg", "x", "the cotangent of an angle in degrees", "xp.Tensor(45.0)", 1.0)
exprel = make("exprel", "x", "(exp(x) - 1) / x, 1 at 0", "xp.Tensor(1.0)", 1.7183)
boxcox = make(
    "boxcox", "x y", "Box and Cox's (x**y - 1) / y, log(x) for y = 0", "xp.Tensor(4.0), 0.5", 2.0
)
boxcox1p = make("boxcox1p", "x y", "`boxcox` of 1 + x", "xp.Tensor(3.0), 0.5", 2.0)
inv_boxcox = make("inv_boxcox", "x y", "the inverse of `boxcox` in x", "xp.Tensor(2.0), 0.5", 4.0)
inv_boxcox1p = make(
    "inv_boxcox1p", "x y", "the inverse of `boxcox1p` in x", "xp.Tensor(2.0), 0.5", 3.0
)


# ---------------------------------------------------------------- made of Tensors
def sinc(x: Any, /) -> Tensor:
    (x,) = floating("sinc", (x,))
    terms = [(-1) ** k / math.factorial(2 * k + 1) for k in range(10)]
    out: Tensor = near_zero(
        ops, math.pi * x, 0.7, lambda y: _polynomial(terms, y * y), lambda y, _: ops.sin(y) / y
    )
    return out


def cosm1(x: Any, /) -> Tensor:
    (x,) = floating("cosm1", (x,))
    s = ops.sin(x / 2)
    return -2 * s * s


def huber(delta: Any, r: Any, /) -> Tensor:
    delta, r = floating("huber", (delta, r))
    size = ops.abs(r)
    inside = ops.where(size <= delta, r * r / 2, delta * (size - delta / 2))
    return ops.where(delta < 0, math.inf, inside)


def pseudo_huber(delta: Any, r: Any, /) -> Tensor:
    """By u / (1 + sqrt(1 + u)) for sqrt(1 + u) - 1, which would cancel for a small u."""
    delta, r = floating("pseudo_huber", (delta, r))
    scale = ops.where(delta == 0, 1.0, delta)
    ratio = r / scale
    u = ratio * ratio
    return ops.where(delta < 0, math.inf, delta * delta * u / (1 + ops.sqrt(1 + u)))


document(sinc, "sinc", "x", "sin(pi x) / (pi x), 1 at 0", "xp.Tensor(0.5)", result=0.6366)
document(cosm1, "cosm1", "x", "cos(x) - 1, exact also near 0", "xp.Tensor(1.0)", result=-0.4597)
document(
    huber,
    "huber",
    "delta r",
    "Huber's loss: r² / 2 for abs(r) <= delta, delta (abs(r) - delta / 2) beyond",
    "1.0, xp.Tensor(3.0)",
    result=2.5,
)
document(
    pseudo_huber,
    "pseudo_huber",
    "delta r",
    "the smooth Huber loss, delta² (sqrt(1 + (r / delta)²) - 1)",
    "1.0, xp.Tensor(3.0)",
    result=2.1623,
)


def radian(d: Any, m: Any, s: Any, /) -> Tensor:
    d, m, s = floating("radian", (d, m, s))
    total: Tensor = ((d * 60 + m) * 60 + s) * (math.pi / 648000)
    return total


document(
    radian,
    "radian",
    "d m s",
    "an angle in degrees, minutes and seconds as radians",
    "xp.Tensor(30.0), 0.0, 0.0",
    result=0.5236,
)


# ---------------------------------------------------------------- over an axis
def logsumexp(x: Any, /, axis: Any = None, b: Any = None, *, keepdims: bool = False) -> Tensor:
    """Return the logarithm of the sum of exponentials over axes, without overflow.

    Parameters
    ----------
    x : Tensor, shape (...)
        Real.
    axis : int, tuple of int or None
        None: all axes.
    b : Tensor or number, optional
        Factors of the exponentials, whose shape broadcasts to that of `x`.
    keepdims : bool
        Keep the summed axes with length 1.

    Returns
    -------
    Tensor
        -inf over nothing but -inf, and the gradient is 0 there; elements that are inf share it.

    Examples
    --------
    >>> import tinyxp as xp
    >>> round(xp.special.logsumexp(xp.Tensor([1000.0, 1000.0])).item(), 3)
    1000.693
    """
    return ops.logsumexp(x, axis=axis, b=b, keepdims=keepdims)


def softmax(x: Any, /, axis: Any = None) -> Tensor:
    """Return exponentials divided by their sum over axes.

    Parameters
    ----------
    x : Tensor, shape (...)
    axis : int, tuple of int or None
        None: all axes.

    Returns
    -------
    Tensor, shape (...)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.special.softmax(xp.Tensor([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """
    (x,) = floating("softmax", (x,))
    if isinstance(axis, int):
        return ops.softmax(x, axis=axis)
    return ops.exp(x - ops.logsumexp(x, axis=axis, keepdims=True))


def log_softmax(x: Any, /, axis: Any = None) -> Tensor:
    """Return the logarithm of `softmax`, without underflow; the parameters are its own.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.special.log_softmax(xp.Tensor([0.0, -1000.0])).tolist()
    [0.0, -1000.0]
    """
    (x,) = floating("log_softmax", (x,))
    if isinstance(axis, int):
        return ops.log_softmax(x, axis=axis)
    out: Tensor = x - ops.logsumexp(x, axis=axis, keepdims=True)
    return out


__all__ = [
    "boxcox", "boxcox1p", "cbrt", "cosdg", "cosm1", "cotdg", "entr", "exp2", "exp10", "expit", "expm1",
    "exprel", "huber", "inv_boxcox", "inv_boxcox1p", "kl_div", "log1p", "log_expit", "log_softmax", "logit",
    "logsumexp", "pseudo_huber", "radian", "rel_entr", "sinc", "sindg", "softmax", "tandg", "xlog1py", "xlogy",
]  # fmt: skip

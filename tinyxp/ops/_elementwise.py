"""Elementwise functions of the standard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._core import TENSORS, Tensor
from tinyxp.autograd._record import op as table_line
from tinyxp.ops import _dispatch
from tinyxp.ops._dispatch import as_tensor, binary, unary

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "abs",
    "acos",
    "acosh",
    "add",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "ceil",
    "clip",
    "conj",
    "copysign",
    "cos",
    "cosh",
    "divide",
    "equal",
    "erf",
    "exp",
    "expm1",
    "floor",
    "floor_divide",
    "greater",
    "greater_equal",
    "hypot",
    "imag",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "nextafter",
    "not_equal",
    "positive",
    "pow",
    "real",
    "reciprocal",
    "remainder",
    "round",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "trunc",
]

_DOC = """Return {what}, element by element.

Parameters
----------
{parameters}

Returns
-------
Tensor, shape {shape}

Examples
--------
>>> import tinyxp as xp
>>> xp.{name}({example}).tolist()
{result}
"""


def _finish(function: Any, name: str, **parts: str) -> Any:
    function.__doc__ = _DOC.format(name=name, **parts)
    function.__module__ = __name__
    table_line(name).elementwise = True
    return function


def _unary(name: str, what: str, example: str, result: str) -> Callable[[Any], Tensor]:
    """Make a function of one argument; `example` and `result` are the lists of its doctest."""
    made: Callable[[Any], Tensor] = _finish(
        unary(name),
        name,
        what=what,
        parameters="x : Tensor, shape (...)",
        shape="(...)",
        example=f"xp.Tensor({example})",
        result=result,
    )
    return made


def _binary(name: str, what: str, example: str, result: str) -> Callable[[Any, Any], Tensor]:
    """Make a function of two arguments; `example` holds both lists of its doctest."""
    first, second = example.split("], [")
    made: Callable[[Any, Any], Tensor] = _finish(
        binary(name),
        name,
        what=what,
        parameters="x1, x2 : Tensor or number\n    Shapes that broadcast; at least one a Tensor.",
        shape="of x1 and x2 broadcast",
        example=f"xp.Tensor({first}]), xp.Tensor([{second})",
        result=result,
    )
    return made


abs = _unary("abs", "the absolute value", "[-1.5, 2.0]", "[1.5, 2.0]")  # noqa: A001 - the standard's name
acos = _unary("acos", "the inverse cosine, in radians", "[1.0]", "[0.0]")
acosh = _unary("acosh", "the inverse hyperbolic cosine", "[1.0]", "[0.0]")
asin = _unary("asin", "the inverse sine, in radians", "[0.0]", "[0.0]")
asinh = _unary("asinh", "the inverse hyperbolic sine", "[0.0]", "[0.0]")
atan = _unary("atan", "the inverse tangent, in radians", "[0.0]", "[0.0]")
atanh = _unary("atanh", "the inverse hyperbolic tangent", "[0.0]", "[0.0]")
bitwise_invert = _unary("bitwise_invert", "the bitwise complement", "[0, 5]", "[-1, -6]")
ceil = _unary("ceil", "the smallest integer that is not smaller", "[1.2, -1.2]", "[2.0, -1.0]")
conj = _unary("conj", "the complex conjugate", "[1.0]", "[1.0]")
cos = _unary("cos", "the cosine of an angle in radians", "[0.0]", "[1.0]")
cosh = _unary("cosh", "the hyperbolic cosine", "[0.0]", "[1.0]")
exp = _unary("exp", "e to the power of the element", "[0.0]", "[1.0]")
expm1 = _unary("expm1", "exp(x) - 1, exact also near 0", "[0.0]", "[0.0]")
floor = _unary("floor", "the largest integer that is not larger", "[1.8, -1.2]", "[1.0, -2.0]")
isfinite = _unary("isfinite", "whether the element is finite", "[1.0]", "[True]")
isinf = _unary("isinf", "whether the element is infinite", "[1.0]", "[False]")
isnan = _unary("isnan", "whether the element is NaN", "[1.0]", "[False]")
log = _unary("log", "the natural logarithm", "[1.0]", "[0.0]")
log10 = _unary("log10", "the logarithm to base 10", "[1.0]", "[0.0]")
log1p = _unary("log1p", "log(1 + x), exact also near 0", "[0.0]", "[0.0]")
log2 = _unary("log2", "the logarithm to base 2", "[8.0]", "[3.0]")
logical_not = _unary("logical_not", "the logical complement", "[True]", "[False]")
negative = _unary("negative", "the element with its sign turned", "[1.0]", "[-1.0]")
positive = _unary("positive", "the element itself, in a new array", "[1.0]", "[1.0]")
reciprocal = _unary("reciprocal", "one over the element", "[4.0]", "[0.25]")
round = _unary("round", "the nearest integer, the even one of two", "[1.5, 2.5]", "[2.0, 2.0]")  # noqa: A001 - the standard's name
sign = _unary("sign", "-1, 0 or 1 (complex: x / |x|)", "[-3.0, 0.0]", "[-1.0, 0.0]")
signbit = _unary("signbit", "whether the sign bit is set", "[-0.0]", "[True]")
sin = _unary("sin", "the sine of an angle in radians", "[0.0]", "[0.0]")
sinh = _unary("sinh", "the hyperbolic sine", "[0.0]", "[0.0]")
sqrt = _unary("sqrt", "the principal square root", "[9.0]", "[3.0]")
square = _unary("square", "the square", "[3.0]", "[9.0]")
tan = _unary("tan", "the tangent of an angle in radians", "[0.0]", "[0.0]")
tanh = _unary("tanh", "the hyperbolic tangent", "[0.0]", "[0.0]")
trunc = _unary("trunc", "the integer part", "[-1.8]", "[-1.0]")
erf = _unary(
    "erf",
    "the error function, 2/sqrt(pi) times the integral of exp(-t²) from 0 to x",
    "[0.0]",
    "[0.0]",
)

add = _binary("add", "the sum", "[1.0], [2.0]", "[3.0]")
atan2 = _binary("atan2", "the angle of the point (x2, x1), in radians", "[0.0], [1.0]", "[0.0]")
bitwise_and = _binary("bitwise_and", "the bitwise conjunction", "[6], [3]", "[2]")
bitwise_left_shift = _binary("bitwise_left_shift", "x1 shifted left by x2 bits", "[1], [3]", "[8]")
bitwise_or = _binary("bitwise_or", "the bitwise disjunction", "[6], [3]", "[7]")
bitwise_right_shift = _binary(
    "bitwise_right_shift", "x1 shifted right by x2 bits", "[8], [3]", "[1]"
)
bitwise_xor = _binary("bitwise_xor", "the bitwise exclusive disjunction", "[6], [3]", "[5]")
copysign = _binary("copysign", "x1 with the sign of x2", "[1.0], [-2.0]", "[-1.0]")
divide = _binary("divide", "the quotient", "[1.0], [4.0]", "[0.25]")
equal = _binary("equal", "whether the elements are equal", "[1], [1]", "[True]")
floor_divide = _binary("floor_divide", "the quotient rounded down", "[7.0], [2.0]", "[3.0]")
greater = _binary("greater", "whether x1 > x2", "[1], [2]", "[False]")
greater_equal = _binary("greater_equal", "whether x1 >= x2", "[1], [1]", "[True]")
hypot = _binary("hypot", "sqrt(x1² + x2²) without overflow", "[3.0], [4.0]", "[5.0]")
less = _binary("less", "whether x1 < x2", "[1], [2]", "[True]")
less_equal = _binary("less_equal", "whether x1 <= x2", "[1], [1]", "[True]")
logaddexp = _binary(
    "logaddexp", "log(exp(x1) + exp(x2)) without overflow", "[0.0], [-1000.0]", "[0.0]"
)
logical_and = _binary("logical_and", "the logical conjunction", "[True], [False]", "[False]")
logical_or = _binary("logical_or", "the logical disjunction", "[True], [False]", "[True]")
logical_xor = _binary(
    "logical_xor", "the logical exclusive disjunction", "[True], [True]", "[False]"
)
maximum = _binary("maximum", "the larger one", "[1.0], [2.0]", "[2.0]")
minimum = _binary("minimum", "the smaller one", "[1.0], [2.0]", "[1.0]")
multiply = _binary("multiply", "the product", "[2.0], [3.0]", "[6.0]")
nextafter = _binary("nextafter", "the number next to x1 towards x2", "[0.0], [0.0]", "[0.0]")
not_equal = _binary("not_equal", "whether the elements differ", "[1], [1]", "[False]")
pow = _binary("pow", "x1 to the power of x2", "[2.0], [3.0]", "[8.0]")  # noqa: A001 - the standard's name
remainder = _binary(
    "remainder", "the remainder of floor division, with the sign of x2", "[-7.0], [2.0]", "[1.0]"
)
subtract = _binary("subtract", "the difference", "[3.0], [1.0]", "[2.0]")


def clip(x: Any, /, min: Any = None, max: Any = None) -> Tensor:  # noqa: A002 - the standard's names
    """Return `x` with elements below `min` or above `max` replaced by the bound.

    Parameters
    ----------
    x : Tensor, shape (...)
        A real Tensor.
    min, max : Tensor, number or None
        Bounds whose shapes broadcast to that of `x`; None leaves a side open.

    Returns
    -------
    Tensor, shape (...)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.clip(xp.Tensor([-2.0, 0.5, 3.0]), 0.0, 1.0).tolist()
    [0.0, 0.5, 1.0]
    """
    x = as_tensor(x)
    bounds = [b if b is None or type(b) in TENSORS else _dispatch.plain(b) for b in (min, max)]
    bounds = [_dispatch.operand(b, x._device) if hasattr(b, "shape") else b for b in bounds]
    tensors = [t for t in (x, *bounds) if type(t) in TENSORS]
    from tinyxp.ops._data_types import astype, result_type

    if all(t._raw.dtype == x._raw.dtype for t in tensors):
        out: Tensor = _dispatch.apply("clip", (x, *bounds))
        return (
            out if out._raw.dtype == x._raw.dtype else astype(out, x.dtype)
        )  # numbers widen bfloat16

    wide = result_type(*tensors)
    both = [astype(b, wide, copy=False) if type(b) in TENSORS else b for b in (x, *bounds)]
    return astype(_dispatch.apply("clip", both), x.dtype)


def real(x: Any, /) -> Tensor:
    """Return the real part of each element; a view of `x`, or `x` itself where it is real.

    Parameters
    ----------
    x : Tensor, shape (...)
        Any numeric Tensor.

    Returns
    -------
    Tensor, shape (...)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.real(xp.Tensor([1.0 + 2.0j])).tolist()
    [1.0]
    """
    x = as_tensor(x)
    if dtypes.of(x._raw.dtype).kind != "c":
        return x  # type: ignore[no-any-return]  # arrays and modules are Any to the type checker
    return _dispatch.view("real", x, x._device.xp.real, real, ())


def imag(x: Any, /) -> Tensor:
    """Return the imaginary part of each element; a view of `x`, or zeros where it is real.

    Parameters
    ----------
    x : Tensor, shape (...)
        Any numeric Tensor.

    Returns
    -------
    Tensor, shape (...)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.imag(xp.Tensor([1.0 + 2.0j])).tolist()
    [2.0]
    """
    x = as_tensor(x)
    if dtypes.of(x._raw.dtype).kind != "c":
        from tinyxp.ops._creation import zeros_like

        return zeros_like(x)
    return _dispatch.view("imag", x, x._device.xp.imag, imag, ())

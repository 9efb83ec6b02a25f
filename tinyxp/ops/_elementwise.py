"""Elementwise functions of the standard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._core import TENSORS, Tensor
from tinyxp.ops import _dispatch
from tinyxp.ops._dispatch import as_tensor, binary, unary

if TYPE_CHECKING:
    from collections.abc import Callable

# name: (what it computes, an example's argument, its result as a list)
_UNARY = {
    "abs": ("the absolute value", "[-1.5, 2.0]", "[1.5, 2.0]"),
    "acos": ("the inverse cosine, in radians", "[1.0]", "[0.0]"),
    "acosh": ("the inverse hyperbolic cosine", "[1.0]", "[0.0]"),
    "asin": ("the inverse sine, in radians", "[0.0]", "[0.0]"),
    "asinh": ("the inverse hyperbolic sine", "[0.0]", "[0.0]"),
    "atan": ("the inverse tangent, in radians", "[0.0]", "[0.0]"),
    "atanh": ("the inverse hyperbolic tangent", "[0.0]", "[0.0]"),
    "bitwise_invert": ("the bitwise complement", "[0, 5]", "[-1, -6]"),
    "ceil": ("the smallest integer that is not smaller", "[1.2, -1.2]", "[2.0, -1.0]"),
    "conj": ("the complex conjugate", "[1.0]", "[1.0]"),
    "cos": ("the cosine of an angle in radians", "[0.0]", "[1.0]"),
    "cosh": ("the hyperbolic cosine", "[0.0]", "[1.0]"),
    "exp": ("e to the power of the element", "[0.0]", "[1.0]"),
    "expm1": ("exp(x) - 1, exact also near 0", "[0.0]", "[0.0]"),
    "floor": ("the largest integer that is not larger", "[1.8, -1.2]", "[1.0, -2.0]"),
    "isfinite": ("whether the element is finite", "[1.0]", "[True]"),
    "isinf": ("whether the element is infinite", "[1.0]", "[False]"),
    "isnan": ("whether the element is NaN", "[1.0]", "[False]"),
    "log": ("the natural logarithm", "[1.0]", "[0.0]"),
    "log10": ("the logarithm to base 10", "[1.0]", "[0.0]"),
    "log1p": ("log(1 + x), exact also near 0", "[0.0]", "[0.0]"),
    "log2": ("the logarithm to base 2", "[8.0]", "[3.0]"),
    "logical_not": ("the logical complement", "[True]", "[False]"),
    "negative": ("the element with its sign turned", "[1.0]", "[-1.0]"),
    "positive": ("the element itself, in a new array", "[1.0]", "[1.0]"),
    "reciprocal": ("one over the element", "[4.0]", "[0.25]"),
    "round": ("the nearest integer, the even one of two", "[1.5, 2.5]", "[2.0, 2.0]"),
    "sign": ("-1, 0 or 1 (complex: x / |x|)", "[-3.0, 0.0]", "[-1.0, 0.0]"),
    "signbit": ("whether the sign bit is set", "[-0.0]", "[True]"),
    "sin": ("the sine of an angle in radians", "[0.0]", "[0.0]"),
    "sinh": ("the hyperbolic sine", "[0.0]", "[0.0]"),
    "sqrt": ("the principal square root", "[9.0]", "[3.0]"),
    "square": ("the square", "[3.0]", "[9.0]"),
    "tan": ("the tangent of an angle in radians", "[0.0]", "[0.0]"),
    "tanh": ("the hyperbolic tangent", "[0.0]", "[0.0]"),
    "trunc": ("the integer part", "[-1.8]", "[-1.0]"),
    "erf": ("the error function, 2/sqrt(pi) times the integral of exp(-t²) from 0 to x", "[0.0]", "[0.0]"),
}
_BINARY = {
    "add": ("the sum", "[1.0], [2.0]", "[3.0]"),
    "atan2": ("the angle of the point (x2, x1), in radians", "[0.0], [1.0]", "[0.0]"),
    "bitwise_and": ("the bitwise conjunction", "[6], [3]", "[2]"),
    "bitwise_left_shift": ("x1 shifted left by x2 bits", "[1], [3]", "[8]"),
    "bitwise_or": ("the bitwise disjunction", "[6], [3]", "[7]"),
    "bitwise_right_shift": ("x1 shifted right by x2 bits", "[8], [3]", "[1]"),
    "bitwise_xor": ("the bitwise exclusive disjunction", "[6], [3]", "[5]"),
    "copysign": ("x1 with the sign of x2", "[1.0], [-2.0]", "[-1.0]"),
    "divide": ("the quotient", "[1.0], [4.0]", "[0.25]"),
    "equal": ("whether the elements are equal", "[1], [1]", "[True]"),
    "floor_divide": ("the quotient rounded down", "[7.0], [2.0]", "[3.0]"),
    "greater": ("whether x1 > x2", "[1], [2]", "[False]"),
    "greater_equal": ("whether x1 >= x2", "[1], [1]", "[True]"),
    "hypot": ("sqrt(x1² + x2²) without overflow", "[3.0], [4.0]", "[5.0]"),
    "less": ("whether x1 < x2", "[1], [2]", "[True]"),
    "less_equal": ("whether x1 <= x2", "[1], [1]", "[True]"),
    "logaddexp": ("log(exp(x1) + exp(x2)) without overflow", "[0.0], [-1000.0]", "[0.0]"),
    "logical_and": ("the logical conjunction", "[True], [False]", "[False]"),
    "logical_or": ("the logical disjunction", "[True], [False]", "[True]"),
    "logical_xor": ("the logical exclusive disjunction", "[True], [True]", "[False]"),
    "maximum": ("the larger one", "[1.0], [2.0]", "[2.0]"),
    "minimum": ("the smaller one", "[1.0], [2.0]", "[1.0]"),
    "multiply": ("the product", "[2.0], [3.0]", "[6.0]"),
    "nextafter": ("the number next to x1 towards x2", "[0.0], [0.0]", "[0.0]"),
    "not_equal": ("whether the elements differ", "[1], [1]", "[False]"),
    "pow": ("x1 to the power of x2", "[2.0], [3.0]", "[8.0]"),
    "remainder": ("the remainder of floor division, with the sign of x2", "[-7.0], [2.0]", "[1.0]"),
    "subtract": ("the difference", "[3.0], [1.0]", "[2.0]"),
}

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


def _document(
    make: Callable[[str], Any], name: str, entry: tuple[str, str, str], arguments: str
) -> Any:
    what, example, result = entry
    function = make(name)
    tensors = ", ".join(f"xp.Tensor({e})" for e in example.split(", [") if e.startswith("["))
    if arguments != "x":
        first, second = example.split("], [")
        tensors = f"xp.Tensor({first}]), xp.Tensor([{second})"
    else:
        tensors = f"xp.Tensor({example})"
    parameters = f"{arguments} : Tensor, shape (...)"
    if arguments != "x":
        parameters = "x1, x2 : Tensor or number\n    Shapes that broadcast; at least one a Tensor."
    function.__doc__ = _DOC.format(
        what=what,
        parameters=parameters,
        shape="(...)" if arguments == "x" else "of x1 and x2 broadcast",
        name=name,
        example=tensors,
        result=result,
    )
    function.__module__ = __name__
    return function


_made = {n: _document(unary, n, e, "x") for n, e in _UNARY.items()}
_made |= {n: _document(binary, n, e, "x1, x2") for n, e in _BINARY.items()}
_divide, _reciprocal = _made["divide"], _made["reciprocal"]
globals().update(_made)


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
    if all(t._raw.dtype == x._raw.dtype for t in tensors):
        return _dispatch.apply("clip", (x, *bounds))  # type: ignore[no-any-return]
    from tinyxp.ops._data_types import astype, result_type

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
        return x
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


__all__ = [*_made, "clip", "imag", "real"]  # noqa: PLE0604 - names of the two tables above

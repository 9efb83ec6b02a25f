"""The operators of `Tensor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import ops
from tinyxp._core import TENSORS, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBERS = (bool, int, float, complex)
_PLAIN = frozenset(
    {Tensor, *_NUMBERS}
)  # the types of most operands: one look-up says that they will do


def _takes(other: Any) -> bool:
    """Whether an operator works with `other`: a Tensor, a number, or an array of a library.

    ``__array_ufunc__ = None`` says that an operand wants to answer itself (NumPy's NEP 13).
    """
    if type(other) in TENSORS or isinstance(other, _NUMBERS):
        return True
    return hasattr(other, "dtype") and getattr(other, "__array_ufunc__", True) is not None


def operator(name: str, *, reflected: bool = False) -> Callable[[Tensor, Any], Tensor]:
    """Make the operator that calls the function `name` of the namespace."""
    if not reflected and name != "matmul":  # which first looks at the shapes
        return ops._dispatch.binary(name, _takes)
    function = getattr(ops, name)

    def forward(self: Tensor, other: Any, /) -> Any:
        if type(other) in _PLAIN or _takes(other):
            return function(self, other)
        return NotImplemented

    def backward(self: Tensor, other: Any, /) -> Any:
        if type(other) in _PLAIN or _takes(other):
            return function(other, self)
        return NotImplemented

    return backward if reflected else forward


def in_place(name: str) -> Callable[[Tensor, Any], Tensor]:
    """Make the operator that writes what the function `name` gives into its left operand."""

    def method(self: Tensor, other: Any, /) -> Any:
        return ops.inplace(name, self, other) if _takes(other) else NotImplemented

    return method


def elementwise(name: str) -> Callable[[Tensor], Tensor]:
    """Make the method, or the unary operator, that calls the function `name` of the namespace."""
    function = getattr(ops, name)

    def method(self: Tensor) -> Tensor:
        out: Tensor = function(self)
        return out

    method.__name__ = name
    method.__doc__ = f"Return ``tinyxp.{name}`` of this Tensor."
    return method


class Operators:
    """Arithmetic, comparison and logic between Tensors, and with numbers and arrays."""

    __slots__ = ()
    __add__ = operator("add")
    __sub__ = operator("subtract")
    __mul__ = operator("multiply")
    __truediv__ = operator("divide")
    __floordiv__ = operator("floor_divide")
    __mod__ = operator("remainder")
    __pow__ = operator("pow")
    __matmul__ = operator("matmul")
    __and__ = operator("bitwise_and")
    __or__ = operator("bitwise_or")
    __xor__ = operator("bitwise_xor")
    __lshift__ = operator("bitwise_left_shift")
    __rshift__ = operator("bitwise_right_shift")

    __radd__ = operator("add", reflected=True)
    __rsub__ = operator("subtract", reflected=True)
    __rmul__ = operator("multiply", reflected=True)
    __rtruediv__ = operator("divide", reflected=True)
    __rfloordiv__ = operator("floor_divide", reflected=True)
    __rmod__ = operator("remainder", reflected=True)
    __rpow__ = operator("pow", reflected=True)
    __rmatmul__ = operator("matmul", reflected=True)
    __rand__ = operator("bitwise_and", reflected=True)
    __ror__ = operator("bitwise_or", reflected=True)
    __rxor__ = operator("bitwise_xor", reflected=True)
    __rlshift__ = operator("bitwise_left_shift", reflected=True)
    __rrshift__ = operator("bitwise_right_shift", reflected=True)

    __iadd__ = in_place("add")
    __isub__ = in_place("subtract")
    __imul__ = in_place("multiply")
    __itruediv__ = in_place("divide")
    __ifloordiv__ = in_place("floor_divide")
    __imod__ = in_place("remainder")
    __ipow__ = in_place("pow")
    __imatmul__ = in_place("matmul")
    __iand__ = in_place("bitwise_and")
    __ior__ = in_place("bitwise_or")
    __ixor__ = in_place("bitwise_xor")
    __ilshift__ = in_place("bitwise_left_shift")
    __irshift__ = in_place("bitwise_right_shift")

    __eq__ = operator("equal")  # type: ignore[assignment]  # object's gives a bool
    __ne__ = operator("not_equal")  # type: ignore[assignment]  # likewise
    __lt__ = operator("less")
    __le__ = operator("less_equal")
    __gt__ = operator("greater")
    __ge__ = operator("greater_equal")
    __hash__ = object.__hash__

    __neg__ = elementwise("negative")
    __pos__ = elementwise("positive")
    __abs__ = elementwise("abs")
    __invert__ = elementwise("bitwise_invert")

"""What layers do with mixed dtypes: promote as the standard says, and say so once."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._core import CASTING, TENSORS
from tinyxp.errors import DTypeError
from tinyxp.ops._autocast import products

if TYPE_CHECKING:
    from tinyxp._core import Tensor

__all__ = ["expect_tensors", "floating", "promoted"]

_PRODUCTS = frozenset({"MLP", "MultiHeadAttention", "attention", "linear"})
_said: set[tuple[str, str]] = set()


def expect_tensors(name: str, *arguments: Any) -> None:
    """Raise `TypeError` unless all `arguments` of the operation `name` are Tensors, or None."""
    for i, a in enumerate(arguments):
        if type(a) not in TENSORS and a is not None:
            raise TypeError(
                f"{name} expects a Tensor as argument {i}; got {type(a).__name__}: "
                "make one with tinyxp.asarray(x)"
            )


def floating(name: str, x: Tensor) -> Tensor:
    """Return `x`; raise `DTypeError` unless it is real or complex floating."""
    if type(x) not in TENSORS:
        expect_tensors(name, x)
    if x.dtype.kind not in "fc":
        raise DTypeError(
            f"{name} expects floating numbers; got {x.dtype}; convert them with x.to('float32') first"
        )
    return x


def promoted(name: str, x: Tensor, *others: Tensor | None) -> tuple[Any, ...]:
    """Return all arguments in the dtype that they promote to.

    Parameters
    ----------
    name : str
        Of the operation, for messages.
    x : Tensor
        The input.
    *others : Tensor or None
        The parameters. If they are narrower than `x` the result is wider than the module, and that is
        said once for each pair of dtypes.

    Returns
    -------
    tuple of Tensor or None
        `x` and the others, None where that was None.
    """
    d = floating(name, x).dtype
    if CASTING and name in _PRODUCTS and products((x, *others)):
        return x, *others  # which the operation converts
    found = d
    for t in others:
        if t is not None and t.dtype is not found:
            found = dtypes.promote(found, t.dtype)
    if found is d and all(t is None or t.dtype is d for t in others):
        return x, *others
    narrow = next((t.dtype for t in others if t is not None and t.dtype is not found), None)
    if narrow is not None and d is found:
        _say(name, d.name, narrow.name)
    return tuple(None if t is None else t.to(found) for t in (x, *others))


def _say(name: str, wide: str, narrow: str) -> None:
    if (wide, narrow) in _said:
        return
    _said.add((wide, narrow))
    warnings.warn(
        f"{name} got a {wide} input for {narrow} parameters and computes in {wide}, as the array API "
        f"standard promotes; convert the input with x.to({narrow!r}) for speed, or the module with "
        f"module.to({wide!r}) for precision. Said once",
        UserWarning,
        stacklevel=4,
    )

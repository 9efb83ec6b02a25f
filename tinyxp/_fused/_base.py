"""What the fused operations share: the type of `self.xp` and the undoing of broadcasting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

__all__ = ["Array", "Operations", "rows", "sum_to"]

Array = Any  # an array of any library, or a Tensor


class Operations:
    """Base of the classes that hold fused operations: methods of a backend on its own arrays."""

    if TYPE_CHECKING:

        @property
        def xp(self) -> Any:
            """The backend's extended namespace."""


def rows(xp: Any, x: Array, size: int) -> Array:
    """Return `x` as a matrix whose rows are the slices of `size` elements in C order.

    Parameters
    ----------
    xp : namespace
        Namespace of `x`.
    x : array, shape (…)
        Any array whose last axes hold `size` elements together.
    size : int
        Length of a row.
    """
    count = math.prod(x.shape) // size if size else 0
    return xp.reshape(x, (count, size))


def sum_to(xp: Any, x: Array, shape: tuple[int, ...]) -> Array:
    """Sum `x` over the axes along which `shape` was broadcast to become ``x.shape``."""
    if tuple(x.shape) == tuple(shape):
        return x
    extra = x.ndim - len(shape)
    stretched = tuple(
        i for i in range(x.ndim) if i < extra or (shape[i - extra] == 1 and x.shape[i] != 1)
    )
    return xp.reshape(xp.sum(x, axis=stretched), shape)

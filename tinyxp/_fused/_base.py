"""What the fused operations share: the type of `self.xp` and the undoing of broadcasting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

__all__ = ["Array", "Operations", "rows", "sum_to"]

Array = Any  # an array of any library, or a Tensor


class Operations:
    """Base of the classes that hold fused operations: methods of a backend on its own arrays."""

    host_visible: ClassVar[bool] = True  # whether reading a value back costs nothing; see Backend

    if TYPE_CHECKING:

        @property
        def xp(self) -> Any:
            """The backend's extended namespace."""

    def valid_indices(self, indices: Array, size: int) -> Array | None:
        """Say which of `indices` lie in ``[0, size)``, or that all do.

        Returns
        -------
        None
            All of them. Where reading back costs nothing, others raise.
        array of bool, shape of `indices`
            Where the device would have to be waited for: nothing is read.

        Raises
        ------
        IndexError
            If one is out of range.
        """
        if not self.host_visible:
            return (indices >= 0) & (indices < size)
        if math.prod(indices.shape):
            low, high = int(self.xp.min(indices)), int(self.xp.max(indices))
            if low < 0 or high >= size:
                raise IndexError(f"indices must lie in [0, {size}); they go from {low} to {high}")
        return None


def rows(xp: Any, x: Array, ndim: int = 1) -> Array:
    """Return `x` as a matrix: its last `ndim` axes joined to rows, those before to a column of them.

    Parameters
    ----------
    xp : namespace
        Namespace of `x`.
    x : array, shape (…)
        Any array of at least `ndim` axes.
    ndim : int
        How many axes make a row.
    """
    split = x.ndim - ndim
    return xp.reshape(x, (math.prod(x.shape[:split]), math.prod(x.shape[split:])))


def sum_to(xp: Any, x: Array, shape: tuple[int, ...]) -> Array:
    """Sum `x` over the axes along which `shape` was broadcast to become ``x.shape``."""
    if tuple(x.shape) == tuple(shape):
        return x
    extra = x.ndim - len(shape)
    stretched = tuple(
        i for i in range(x.ndim) if i < extra or (shape[i - extra] == 1 and x.shape[i] != 1)
    )
    return xp.reshape(xp.sum(x, axis=stretched), shape)

"""Dropout as a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyxp.nn import functional
from tinyxp.nn._module import Module

if TYPE_CHECKING:
    from tinyxp._core import Tensor

__all__ = ["Dropout"]


class Dropout(Module):
    """While training, set elements to 0 with probability `p` and divide the others by ``1 - p``.

    Parameters
    ----------
    p : float
        Probability of 0, in [0, 1].

    Examples
    --------
    >>> import tinyxp
    >>> Dropout(0.9).eval()(tinyxp.ones(3)).tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout expects a probability in [0, 1]; got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Thin `x` while training, return it as it is otherwise."""
        return functional.dropout(x, self.p, training=self.training)

    def extra_repr(self) -> str:
        """Return the probability."""
        return f"p={self.p}"

"""Activations as modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyxp._fused import GELU_FORMS
from tinyxp.nn import functional
from tinyxp.nn._module import Module

if TYPE_CHECKING:
    from tinyxp._core import Tensor

__all__ = ["GELU", "ReLU", "SiLU", "Sigmoid", "Softmax", "Tanh"]


class GELU(Module):
    """The Gaussian error linear unit (arXiv:1606.08415).

    Parameters
    ----------
    approximate : {"tanh", "none", "sigmoid"}
        See `tinyxp.nn.functional.gelu`; GPT-2 uses ``"tanh"``.

    Examples
    --------
    >>> import tinyxp
    >>> GELU()(tinyxp.asarray([0.0])).tolist()
    [0.0]
    """

    def __init__(self, approximate: str = "tanh") -> None:
        if approximate not in GELU_FORMS:
            raise ValueError(
                f"GELU expects approximate to be one of {', '.join(map(repr, GELU_FORMS))}; got "
                f"{approximate!r}"
            )
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each element of `x`."""
        return functional.gelu(x, approximate=self.approximate)

    def extra_repr(self) -> str:
        """Return the form."""
        return f"approximate={self.approximate!r}"


class ReLU(Module):
    """``max(x, 0)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each element of `x`."""
        return functional.relu(x)


class SiLU(Module):
    """``x * sigmoid(x)`` (arXiv:1710.05941)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each element of `x`."""
        return functional.silu(x)


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each element of `x`."""
        return functional.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each element of `x`."""
        return functional.tanh(x)


class Softmax(Module):
    """``exp(x) / sum(exp(x))`` along an axis.

    Parameters
    ----------
    axis : int
        The axis along which the results add up to 1.

    Examples
    --------
    >>> import tinyxp
    >>> Softmax()(tinyxp.zeros((1, 2))).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        """Apply it along the axis of `x`."""
        return functional.softmax(x, self.axis)

    def extra_repr(self) -> str:
        """Return the axis."""
        return f"axis={self.axis}"

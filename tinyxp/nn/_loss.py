"""Losses as modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyxp.nn import functional
from tinyxp.nn._module import Module

if TYPE_CHECKING:
    from tinyxp._core import Tensor

__all__ = ["CrossEntropyLoss", "MSELoss"]


class CrossEntropyLoss(Module):
    """The mean of ``-log softmax(logits)[target]``, in nats.

    Parameters
    ----------
    ignore_index : int
        Target that does not count.
    label_smoothing : float
        Share of the target probability spread over all classes, in [0, 1].

    Examples
    --------
    >>> import tinyxp
    >>> logits = tinyxp.asarray([[0.0, 0.0], [100.0, 0.0]])
    >>> round(CrossEntropyLoss()(logits, tinyxp.asarray([1, 0])).item(), 4)
    0.3466
    """

    def __init__(self, ignore_index: int = -100, label_smoothing: float = 0.0) -> None:
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compare logits of shape (…, C) with integer targets of shape (…)."""
        return functional.cross_entropy(
            logits,
            targets,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"ignore_index={self.ignore_index}, label_smoothing={self.label_smoothing}"


class MSELoss(Module):
    """The mean of the squared differences.

    Examples
    --------
    >>> import tinyxp
    >>> MSELoss()(tinyxp.asarray([1.0, 3.0]), tinyxp.asarray([1.0, 1.0])).item()
    2.0
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare two Tensors of one shape."""
        return functional.mse_loss(prediction, target)

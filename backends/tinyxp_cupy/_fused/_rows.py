"""Operations on rows: normalisations, softmax, cross-entropy."""

from __future__ import annotations

from tinyxp._fused._activations import ActivationOperations
from tinyxp._fused._loss import LossOperations
from tinyxp._fused._norm import NormOperations

__all__ = ["RowKernels"]


class RowKernels(LossOperations, ActivationOperations, NormOperations):
    """Fused operations on rows."""

"""Operations that treat each element alone, and embedding: GELU, SiLU, SwiGLU, dropout, rotary embedding."""

from __future__ import annotations

from tinyxp._fused._activations import ActivationOperations
from tinyxp._fused._dropout import DropoutOperations
from tinyxp._fused._linear import LinearOperations
from tinyxp._fused._rotary import RotaryOperations

__all__ = ["ElementKernels"]


class ElementKernels(LinearOperations, ActivationOperations, DropoutOperations, RotaryOperations):
    """Fused operations on single elements."""

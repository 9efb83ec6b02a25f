"""The third tier of a backend: operations that a library may do better in one go.

Each operation has three forms. A *composite* of the standard's functions, the definition: it runs on raw
arrays with a backend's namespace and on Tensors with `tinyxp` itself, and is then differentiable to any
order. And two methods of `Defaults`, from which every backend inherits and which it may override::

    NAME(self, *arrays, **options) -> (out, aux)
    NAME_vjp(self, g, out, aux, *arrays, needs, **options) -> one cotangent per array, None if not needed

`aux` is a tuple of arrays kept for the vjp. Neither writes into what it is given. Every override is held
to the composite, value and gradient, by the conformance suite.
"""

from __future__ import annotations

from ._activations import GELU_FORMS, ActivationOperations, gelu, log_softmax, silu, softmax, swiglu
from ._attention import AttentionOperations, attention
from ._blocks import BlockOperations, mlp, self_attention, transformer_block
from ._dropout import DropoutOperations, dropout
from ._linear import embedding, linear
from ._loss import LossOperations, cross_entropy
from ._norm import NormOperations, layer_norm, rms_norm
from ._rotary import RotaryOperations, rotary

__all__ = [
    "GELU_FORMS",
    "NAMES",
    "OPERATIONS",
    "READS_OUT",
    "Defaults",
    "attention",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "layer_norm",
    "linear",
    "log_softmax",
    "mlp",
    "rms_norm",
    "rotary",
    "self_attention",
    "silu",
    "softmax",
    "swiglu",
    "transformer_block",
]

OPERATIONS: tuple[str, ...] = (
    "linear",
    "embedding",
    "gelu",
    "silu",
    "softmax",
    "log_softmax",
    "layer_norm",
    "rms_norm",
    "cross_entropy",
    "attention",
    "dropout",
    "mlp",
    "rotary",
    "self_attention",
    "swiglu",
    "transformer_block",
)
NAMES: tuple[str, ...] = (*OPERATIONS, *(f"{name}_vjp" for name in OPERATIONS))
# The operations whose vjp reads `out`; for the others it need not be kept.
READS_OUT: frozenset[str] = frozenset({"softmax", "log_softmax", "attention"})


class Defaults(
    BlockOperations,
    LossOperations,
    ActivationOperations,
    NormOperations,
    AttentionOperations,
    DropoutOperations,
    RotaryOperations,
):
    """Every fused operation in terms of the standard: the base of all backends."""

"""The operations of a backend's third tier as differentiable functions on Tensors.

Each takes the arguments of its definition in `tinyxp._fused`, without the namespace in front.
"""

from __future__ import annotations

from tinyxp.ops._dispatch import fused

__all__ = [
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

attention = fused("attention")
cross_entropy = fused("cross_entropy")
dropout = fused("dropout")
embedding = fused("embedding")
gelu = fused("gelu")
layer_norm = fused("layer_norm")
linear = fused("linear")
log_softmax = fused("log_softmax")
mlp = fused("mlp")
rms_norm = fused("rms_norm")
rotary = fused("rotary")
self_attention = fused("self_attention")
silu = fused("silu")
softmax = fused("softmax")
swiglu = fused("swiglu")
transformer_block = fused("transformer_block")

"""The block of which transformers are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp.nn._attention import KVCache, MultiHeadAttention
from tinyxp.nn._mlp import MLP
from tinyxp.nn._module import Module
from tinyxp.nn._norm import LayerNorm

if TYPE_CHECKING:
    from tinyxp._core import Tensor
    from tinyxp.backend import Device
    from tinyxp.dtypes import DTypeLike

__all__ = ["TransformerBlock"]


class TransformerBlock(Module):
    """``x + attention(ln1(x))``, then ``x + mlp(ln2(x))``: the pre-norm block of GPT-2.

    Radford and others, "Language models are unsupervised multitask learners", 2019, section 2.3.

    Parameters
    ----------
    embed_dim : int
        Length of the last axis of input and output.
    num_heads : int
        How many attention heads; divides `embed_dim`.
    mlp_ratio : float
        Hidden size of the MLP as a multiple of `embed_dim`.
    dropout_prob : float
        Share of what each branch adds that is dropped while training.
    approximate : {"tanh", "none", "sigmoid"}
        Form of the GELU.
    eps : float
        Added to the variance in both normalisations.
    device : Device or str, optional
        Where the parameters live, by default the default device.
    dtype : DTypeLike, optional
        Of the parameters, by default the default floating dtype.

    Attributes
    ----------
    attention : MultiHeadAttention
    ln1, ln2 : LayerNorm
    mlp : MLP
        In this order they hold the 8 + 2 + 2 + 4 parameters.

    Examples
    --------
    >>> import tinyxp
    >>> TransformerBlock(16, 4)(tinyxp.ones((2, 5, 16))).shape
    (2, 5, 16)
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        mlp_ratio: float = 4,
        dropout_prob: float = 0.0,
        *,
        approximate: str = "tanh",
        eps: float = 1e-5,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.attention = MultiHeadAttention(
            embed_dim, num_heads, dropout_prob=dropout_prob, device=device, dtype=dtype
        )
        self.ln1 = LayerNorm(embed_dim, eps, device=device, dtype=dtype)
        self.ln2 = LayerNorm(embed_dim, eps, device=device, dtype=dtype)
        hidden = round(embed_dim * mlp_ratio)
        self.mlp = MLP(
            embed_dim, hidden, dropout_prob, approximate=approximate, device=device, dtype=dtype
        )

    def forward(
        self, x: Tensor, mask: Any = None, *, is_causal: bool = False, cache: KVCache | None = None
    ) -> Tensor:
        """Map `x` of shape (batch, T, embed_dim) to the same; see `MultiHeadAttention.forward`."""
        x = x + self.attention(self.ln1(x), mask, is_causal=is_causal, cache=cache)
        y: Tensor = x + self.mlp(self.ln2(x))
        return y

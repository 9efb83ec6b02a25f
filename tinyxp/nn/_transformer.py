"""The block of which transformers are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp.nn._activation import GELU
from tinyxp.nn._attention import KVCache, MultiHeadAttention
from tinyxp.nn._dropout import Dropout
from tinyxp.nn._linear import Linear
from tinyxp.nn._mlp import MLP
from tinyxp.nn._module import Module, is_plain
from tinyxp.nn._norm import LayerNorm
from tinyxp.ops import fused

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
        if mask is None and cache is None and self._is_plain(x):
            norms = [(m.gamma, m.beta) for m in (self.ln1, self.ln2)]
            attention = [t for m in self.attention.projections for t in (m.weight, m.bias)]
            mlp = [t for m in (self.mlp.linear1, self.mlp.linear2) for t in (m.weight, m.bias)]
            parameters = (*norms[0], *attention, *norms[1], *mlp)
            fast: Tensor = fused.transformer_block(
                x, *parameters, num_heads=self.attention.num_heads, is_causal=is_causal, eps=self.ln1.eps,
                approximate=self.mlp.gelu.approximate,
            )  # fmt: skip
            return fast
        x = x + self.attention(self.ln1(x), mask, is_causal=is_causal, cache=cache)
        y: Tensor = x + self.mlp(self.ln2(x))
        return y

    def _is_plain(self, x: Tensor) -> bool:
        """Whether all parts are as they were made, with biases, no dropout, one dtype, and `x` fits."""
        attention, mlp = self.attention, self.mlp
        if not (
            is_plain(attention, MultiHeadAttention)
            and is_plain(mlp, MLP)
            and is_plain(mlp.gelu, GELU)
            and is_plain(attention.dropout, Dropout)
            and is_plain(mlp.dropout, Dropout)
        ):
            return False
        norms, linears = (self.ln1, self.ln2), (*attention.projections, mlp.linear1, mlp.linear2)
        if not all(is_plain(m, LayerNorm) for m in norms) or not all(
            is_plain(m, Linear) for m in linears
        ):
            return False
        dropping = any(m.training and m.p for m in (attention.dropout, mlp.dropout))
        return (
            self.ln1.eps == self.ln2.eps
            and not dropping
            and x.ndim == 3  # noqa: PLR2004 - batch, time, channels
            and x.shape[2] == attention.embed_dim
            and all(m.bias is not None and m.weight.dtype is x.dtype for m in linears)
            and all(m.gamma.dtype is x.dtype for m in norms)
        )

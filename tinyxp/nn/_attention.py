"""Multi-head attention, and the cache of keys and values that generation keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tinyxp
from tinyxp.errors import ShapeError
from tinyxp.nn import functional
from tinyxp.nn._dropout import Dropout
from tinyxp.nn._linear import Linear
from tinyxp.nn._masks import as_mask
from tinyxp.nn._module import Module, is_plain
from tinyxp.nn._promotion import promoted
from tinyxp.ops import fused

if TYPE_CHECKING:
    from tinyxp._core import Tensor
    from tinyxp.backend import Device
    from tinyxp.dtypes import DTypeLike

__all__ = ["KVCache", "MultiHeadAttention"]


class KVCache:
    """Keys and values of one attention layer, in arrays that are large enough from the start.

    Parameters
    ----------
    shape : tuple of int
        (batch, heads, capacity, head_dim).
    device : Device or str, optional
        Where it lives, by default the default device.
    dtype : DTypeLike, optional
        Of the keys and values, by default the default floating dtype.

    Attributes
    ----------
    length : int
        How many positions are filled.

    Examples
    --------
    >>> import tinyxp
    >>> cache = KVCache((1, 2, 8, 4))
    >>> k, v = cache.extend(tinyxp.ones((1, 2, 3, 4)), tinyxp.ones((1, 2, 3, 4)))
    >>> k.shape, cache.length
    ((1, 2, 3, 4), 3)
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        *,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.capacity, self.length = shape[2], 0
        self.keys = tinyxp.zeros(shape, device=device, dtype=dtype)
        self.values = tinyxp.zeros(shape, device=device, dtype=dtype)

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values of shape (batch, heads, T, head_dim); return all so far."""
        start, stop = self.length, self.length + k.shape[2]
        if stop > self.capacity:
            raise ShapeError(
                f"the cache holds {self.capacity} positions, {start} are filled, and {k.shape[2]} more do "
                "not fit"
            )
        self.keys[:, :, start:stop, :] = k
        self.values[:, :, start:stop, :] = v
        self.length = stop
        return self.keys[:, :, :stop, :], self.values[:, :, :stop, :]


class MultiHeadAttention(Module):
    """Self-attention in several heads (arXiv:1706.03762, section 3.2.2).

    Parameters
    ----------
    embed_dim : int
        Length of the last axis of input and output.
    num_heads : int
        How many heads; divides `embed_dim`.
    bias : bool
        Whether the four projections have biases.
    dropout_prob : float
        Share of the output that is dropped while training; the attention weights are not dropped.
    device : Device or str, optional
        Where the parameters live, by default the default device.
    dtype : DTypeLike, optional
        Of the parameters, by default the default floating dtype.

    Attributes
    ----------
    q_proj, k_proj, v_proj, out_proj : Linear
        Their weights and biases, in this order, are the parameters. The gradient of ``k_proj.bias`` is 0
        but for rounding: it moves all scores of a query alike, and softmax does not see that.

    Examples
    --------
    >>> import tinyxp
    >>> MultiHeadAttention(16, 4)(tinyxp.ones((2, 5, 16)), is_causal=True).shape
    (2, 5, 16)
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        bias: bool = True,
        dropout_prob: float = 0.0,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        if num_heads < 1 or embed_dim % num_heads:
            raise ShapeError(
                f"embed_dim={embed_dim} cannot be split into num_heads={num_heads} heads of equal size; "
                "num_heads must divide embed_dim"
            )
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.q_proj = Linear(embed_dim, embed_dim, bias, device=device, dtype=dtype)
        self.k_proj = Linear(embed_dim, embed_dim, bias, device=device, dtype=dtype)
        self.v_proj = Linear(embed_dim, embed_dim, bias, device=device, dtype=dtype)
        self.out_proj = Linear(embed_dim, embed_dim, bias, device=device, dtype=dtype)
        self.dropout = Dropout(dropout_prob)

    def forward(
        self, x: Tensor, mask: Any = None, *, is_causal: bool = False, cache: KVCache | None = None
    ) -> Tensor:
        """Let every position look at the others.

        Parameters
        ----------
        x : Tensor, shape (batch, T, embed_dim) or (T, embed_dim)
        mask : Tensor or array, optional
            Of shape (T, S), (batch, T, S) or (batch, heads, T, S), where 1 may stand for batch, heads
            and T. Bool or 0/1: True where a position may look; floating: added to the scores. See
            `tinyxp.nn.functional.scaled_dot_product_attention`.
        is_causal : bool
            Let no position look at later ones.
        cache : KVCache, optional
            Keys and values of earlier positions; those of `x` are appended, and S counts all of them.

        Returns
        -------
        Tensor, shape of `x`
        """
        if x.ndim == 2:  # noqa: PLR2004 - a single sequence
            out = self.forward(
                tinyxp.expand_dims(x, axis=0), mask, is_causal=is_causal, cache=cache
            )
            return tinyxp.squeeze(out, axis=0)
        self._check(x)
        if mask is None and cache is None:
            parts = self.projections
            if (
                all(is_plain(p, Linear) for p in parts)
                and len({(p.weight.shape, p.bias is None) for p in parts[:3]}) == 1
            ):
                parameters = (t for p in parts for t in (p.weight, p.bias))
                arrays = promoted("MultiHeadAttention", x, *parameters)
                y: Tensor = fused.self_attention(
                    *arrays, num_heads=self.num_heads, is_causal=is_causal
                )
                return self.dropout(y)  # type: ignore[no-any-return]  # arrays and modules are Any to the type checker
        q, k, v = (self._split(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
        if cache is not None:
            k, v = cache.extend(k, v)
        if mask is not None:
            mask = self._expand(as_mask(mask, q), x.shape[0])
        out = functional.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)
        merged = tinyxp.reshape(tinyxp.permute_dims(out, (0, 2, 1, 3)), tuple(x.shape))
        return self.dropout(self.out_proj(merged))  # type: ignore[no-any-return]  # arrays and modules are Any to the type checker

    @property
    def projections(self) -> tuple[Linear, Linear, Linear, Linear]:
        """The four Linear modules, in the order of their parameters."""
        return self.q_proj, self.k_proj, self.v_proj, self.out_proj

    def _check(self, x: Tensor) -> None:
        if x.ndim != 3 or x.shape[2] != self.embed_dim:  # noqa: PLR2004 - batch, time, channels
            raise ShapeError(
                f"MultiHeadAttention expects x of shape (batch, positions, embed_dim={self.embed_dim}); got "
                f"{tuple(x.shape)}"
            )

    def _split(self, x: Tensor) -> Tensor:
        batch, time = x.shape[0], x.shape[1]
        heads = tinyxp.reshape(x, (batch, time, self.num_heads, self.head_dim))
        return tinyxp.permute_dims(heads, (0, 2, 1, 3))  # (batch, heads, time, head_dim)

    def _expand(self, mask: Tensor, batch: int) -> Tensor:
        """Give a mask of each sequence, (batch, T, S), an axis for the heads."""
        if mask.ndim != 3:  # noqa: PLR2004 - axes: batch, rows, columns
            return mask
        if mask.shape[0] not in (1, batch):
            raise ShapeError(
                f"a 3-D mask is (batch, queries, keys) with batch 1 or {batch}; got shape "
                f"{tuple(mask.shape)}. A mask for each head is 4-D: mask[None]"
            )
        return tinyxp.expand_dims(mask, axis=1)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.embed_dim}, num_heads={self.num_heads}"

"""Attention as a function, and what counts as a mask."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import tinyxp
from tinyxp._core import TENSORS
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.nn._promotion import promoted
from tinyxp.ops import fused
from tinyxp.ops._dispatch import broadcast_shapes

if TYPE_CHECKING:
    from tinyxp._core import Tensor

__all__ = ["as_mask", "scaled_dot_product_attention"]


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Any = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Compute ``softmax(q k^T scale + mask) v``, one node of the graph (arXiv:1706.03762, equation 1).

    Parameters
    ----------
    q : Tensor, shape (…, T, D)
        Queries.
    k : Tensor, shape (…, S, D)
        Keys.
    v : Tensor, shape (…, S, E)
        Values.
    mask : Tensor or array, optional
        Broadcastable to (…, T, S). Bool, or integers 0 and 1: where a query may look. Floating: added to
        the scores; but one without gradient that holds only 0 and 1, and at least one 1, means what those
        integers mean, for nobody adds that to scores.
    is_causal : bool
        Query i sees key j only if ``j <= i + S - T``, so the last query sees all keys: with T = S the
        lower triangle, and with fewer queries than keys what generation with a cache needs. A mask is
        applied as well.
    scale : float, optional
        Factor of the scores, by default ``1 / sqrt(D)``.

    Returns
    -------
    Tensor, shape (…, T, E)
        Zeros, with zero gradients, for a query that may look nowhere.

    Examples
    --------
    >>> import tinyxp
    >>> q = tinyxp.ones((1, 2, 3, 4))
    >>> scaled_dot_product_attention(q, q, q, is_causal=True).shape
    (1, 2, 3, 4)
    """
    _check_shapes(q, k, v)
    if mask is not None:
        mask = as_mask(mask, q)
        _check_mask(mask, q, k)
    q, k, v = promoted("attention", q, k, v)
    return fused.attention(q, k, v, mask, is_causal=is_causal, scale=scale)


def _check_shapes(q: Tensor, k: Tensor, v: Tensor) -> None:
    fits = (
        min(q.ndim, k.ndim, v.ndim) > 1
        and q.shape[-1] == k.shape[-1]
        and k.shape[-2] == v.shape[-2]
    )
    if not fits:
        raise ShapeError(
            "attention expects q (…, T, D), k (…, S, D) and v (…, S, E); got shapes "
            f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )


def _check_mask(mask: Tensor, q: Tensor, k: Tensor) -> None:
    scores = (*broadcast_shapes(q.shape[:-2], k.shape[:-2]), q.shape[-2], k.shape[-2])
    try:
        fits = broadcast_shapes(mask.shape, scores) == scores
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError(
            f"the attention mask must broadcast to (…, queries, keys) = {scores}; got shape "
            f"{tuple(mask.shape)}. A mask of keys alone, (batch, keys), is mask[:, None, None, :]"
        )


def as_mask(mask: Any, q: Tensor) -> Tensor:
    """Return `mask` as a bool Tensor (True: look), or as one to add to the scores of the queries `q`."""
    found: Tensor = mask if type(mask) in TENSORS else tinyxp.asarray(mask, device=q.device)
    kind = found.dtype.kind
    if kind == "b":
        return found
    if kind in "iu":
        return _integers_as_bool(found)
    if kind != "f":
        raise DTypeError(
            f"an attention mask is bool, integer (0 and 1) or floating; got {found.dtype}"
        )
    if not found.requires_grad:
        found = _zero_one_as_additive(found)
    return found.to(q.dtype)


def _integers_as_bool(mask: Tensor) -> Tensor:
    if not bool(tinyxp.all((mask == 0) | (mask == 1))):
        raise ValueError(
            f"an attention mask of {mask.dtype} holds only 0 (hidden) and 1 (visible); got other values. "
            "To add a mask to the scores make it floating: mask.to('float32')"
        )
    visible: Tensor = mask == 1
    return visible


def _zero_one_as_additive(mask: Tensor) -> Tensor:
    """Let 0 hide and 1 show if there is nothing else; decided where the mask lives, nothing is read back."""
    one = mask == 1
    binary = tinyxp.all(one | (mask == 0)) & tinyxp.any(one)
    return tinyxp.where(binary, tinyxp.where(one, 0.0, -math.inf), mask)

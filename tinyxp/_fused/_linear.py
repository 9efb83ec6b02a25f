"""Affine maps and table look-up: ``linear`` and ``embedding``."""

# ruff: noqa: PLR0917 - a vjp takes all that its operation takes, and more

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._base import Array, Operations, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LinearOperations", "embedding", "linear"]


def linear(xp: Any, x: Array, weight: Array, bias: Array | None) -> Array:
    """Compute ``x @ weight + bias``.

    Parameters
    ----------
    xp : namespace
        Namespace of the arrays.
    x : array, shape (…, in)
    weight : array, shape (in, out)
    bias : array, shape (out,), or None

    Returns
    -------
    array, shape (…, out)
    """
    out = xp.matmul(x, weight)
    return out if bias is None else out + bias


def embedding(xp: Any, indices: Array, weight: Array) -> Array:
    """Take the rows of `weight` that `indices` name.

    Parameters
    ----------
    xp : namespace
        Namespace of the arrays.
    indices : array of integers, shape (…)
        Row numbers in ``[0, size)``.
    weight : array, shape (size, dim)

    Returns
    -------
    array, shape (…, dim)
    """
    flat = xp.reshape(indices, (-1,))
    return xp.reshape(xp.take(weight, flat, axis=0), (*indices.shape, *weight.shape[1:]))


class LinearOperations(Operations):
    """Fused ``linear`` and ``embedding`` on raw arrays."""

    def linear(
        self, x: Array, weight: Array, bias: Array | None
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return ``(x @ weight + bias, ())``: one matrix product whatever the number of axes of `x`."""
        xp = self.xp
        out = xp.matmul(rows(xp, x), weight)
        if bias is not None:
            if out.dtype == bias.dtype:
                out += bias
            else:
                out = out + bias  # the sum has the wider dtype
        return xp.reshape(out, (*x.shape[:-1], weight.shape[1])), ()

    def linear_vjp(
        self,
        g: Array,
        out: Array,  # noqa: ARG002 - not read
        aux: tuple[Array, ...],  # noqa: ARG002 - not read
        x: Array,
        weight: Array,
        bias: Array | None,  # noqa: ARG002 - not read
        *,
        needs: Sequence[bool],
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of `x`, `weight` and `bias`."""
        xp = self.xp
        flat = rows(xp, g)
        gx = gw = gb = None
        if needs[0]:
            gx = xp.reshape(xp.matmul(flat, xp.matrix_transpose(weight)), x.shape)
        if needs[1]:
            gw = xp.matmul(xp.matrix_transpose(rows(xp, x)), flat)
        if needs[2]:
            gb = xp.sum(flat, axis=0)
        return gx, gw, gb

    def embedding(self, indices: Array, weight: Array) -> tuple[Array, tuple[Array, ...]]:
        """Return ``(weight[indices], ())``.

        Indices out of range raise `IndexError`, or, on a device that would have to be waited for, give
        rows of NaN.
        """
        xp = self.xp
        valid = self.valid_indices(indices, weight.shape[0])
        if valid is None:
            return embedding(xp, indices, weight), ()
        found = embedding(xp, xp.where(valid, indices, xp.zeros_like(indices)), weight)
        nan = xp.full_like(found, math.nan)
        return xp.where(xp.expand_dims(valid, axis=-1), found, nan), ()

    def embedding_vjp(
        self,
        g: Array,
        out: Array,  # noqa: ARG002 - not read
        aux: tuple[Array, ...],  # noqa: ARG002 - not read
        indices: Array,
        weight: Array,
        *,
        needs: Sequence[bool],
    ) -> tuple[Array | None, ...]:
        """Return ``(None, cotangent of weight)``: rows taken several times add up in a fixed order."""
        if not needs[1]:
            return None, None
        xp = self.xp
        flat = xp.reshape(indices, (-1,))
        if not self.host_visible:
            flat = xp.clip(flat, 0, weight.shape[0] - 1)
        return None, xp.segment_sum(rows(xp, g), flat, weight.shape[0], axis=0)

"""Dropout whose mask is a function of a key: ``dropout``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp._draw import keep_mask

from ._base import Array, Operations
from ._half import forward_in_float32, in_float32, vjp_in_float32

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DropoutOperations", "dropout"]

Key = tuple[int, int] | Array  # an array in a recorded step, of which each replay has another key


@in_float32
def dropout(xp: Any, x: Array, key: Key, *, p: float) -> Array:
    """Set elements to 0 with probability `p` and divide the others by ``1 - p``.

    Srivastava and others, "Dropout", JMLR 15 (2014), in the inverted form that keeps the expectation.

    Parameters
    ----------
    xp : namespace
        Namespace of `x`.
    x : array, shape (…)
    key : tuple of two int, or array of two int64
        Key of the counter-based generator: the same key drops the same elements.
    p : float
        Probability of 0, in [0, 1].

    Returns
    -------
    array, shape (…)
    """
    return xp.where(_kept(xp, x, key, p), x * _scale(p), xp.zeros_like(x))


def _kept(xp: Any, x: Array, key: Key, p: float) -> Array:
    k0, k1 = key if isinstance(key, tuple) else (int(key[0]), int(key[1]))
    return keep_mask(xp, (k0, k1), tuple(x.shape), p, device=x.device)


def _scale(p: float) -> float:
    return 1 / (1 - p) if p < 1 else 0.0


class DropoutOperations(Operations):
    """Fused dropout on raw arrays. The mask is kept, a byte an element: drawing it again costs more."""

    @forward_in_float32
    def dropout(self, x: Array, key: Key, *, p: float) -> tuple[Array, tuple[Array, ...]]:
        """Return the thinned array and ``(mask,)``."""
        kept = _kept(self.xp, x, key, p)
        return self._thin(x, kept, p), (kept,)

    def _thin(self, x: Array, kept: Array, p: float) -> Array:
        out = self.xp.where(kept, x, self.xp.zeros_like(x))
        out *= _scale(p)
        return out

    @vjp_in_float32
    def dropout_vjp(
        self,
        g: Array,
        out: Array,  # noqa: ARG002 - not read
        aux: tuple[Array, ...],
        x: Array,  # noqa: ARG002 - not read
        key: Key,  # noqa: ARG002 - the mask is in aux
        *,
        needs: Sequence[bool],  # noqa: ARG002 - one argument, asked for
        p: float,
    ) -> tuple[Array | None, ...]:
        """Return the thinned cotangent and None."""
        return self._thin(g, aux[0], p), None

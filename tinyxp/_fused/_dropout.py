"""Dropout whose mask is a function of a key: ``dropout``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp._draw import keep_mask

from ._base import Array, Operations

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DropoutOperations", "dropout"]


def dropout(xp: Any, x: Array, key: tuple[int, int], *, p: float) -> Array:
    """Set elements to 0 with probability `p` and divide the others by ``1 - p``.

    Srivastava and others, "Dropout", JMLR 15 (2014), in the inverted form that keeps the expectation.

    Parameters
    ----------
    xp : namespace
        Namespace of `x`.
    x : array, shape (…)
    key : tuple of two int
        Key of the counter-based generator: the same key drops the same elements.
    p : float
        Probability of 0, in [0, 1].

    Returns
    -------
    array, shape (…)
    """
    kept = keep_mask(xp, key, tuple(x.shape), p, device=x.device)
    return xp.where(kept, x * _scale(p), xp.zeros_like(x))


def _scale(p: float) -> float:
    return 1 / (1 - p) if p < 1 else 0.0


class DropoutOperations(Operations):
    """Fused dropout on raw arrays. The mask is kept, a byte an element: drawing it again costs more."""

    def dropout(
        self, x: Array, key: tuple[int, int], *, p: float
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the thinned array and ``(mask,)``."""
        kept = keep_mask(self.xp, key, tuple(x.shape), p, device=x.device)
        return self._thin(x, kept, p), (kept,)

    def _thin(self, x: Array, kept: Array, p: float) -> Array:
        out = self.xp.where(kept, x, self.xp.zeros_like(x))
        out *= _scale(p)
        return out

    def dropout_vjp(
        self,
        g: Array,
        out: Array,  # noqa: ARG002 - not read
        aux: tuple[Array, ...],
        x: Array,  # noqa: ARG002 - not read
        key: tuple[int, int],  # noqa: ARG002 - the mask is in aux
        *,
        needs: Sequence[bool],  # noqa: ARG002 - one argument, asked for
        p: float,
    ) -> tuple[Array | None, ...]:
        """Return the thinned cotangent and None."""
        return self._thin(g, aux[0], p), None

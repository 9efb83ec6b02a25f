"""Rotary position embedding: ``rotary``."""

# ruff: noqa: PLR0917 - a vjp takes all that its operation takes, and more

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._base import Array, Operations, sum_to
from ._half import forward_in_float32, in_float32, vjp_in_float32

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RotaryOperations", "rotary"]


@in_float32
def rotary(xp: Any, x: Array, cos: Array, sin: Array) -> Array:
    """Turn each pair of elements of `x` by the angle of its position and frequency.

    J. Su and others, "RoFormer: enhanced transformer with rotary position embedding", arXiv:2104.09864,
    equation 34, where the pairs are ``x[i]`` and ``x[i + D / 2]``, as in Llama's weights.

    Parameters
    ----------
    xp : namespace
        Namespace of the arrays.
    x : array, shape (…, T, D)
        D is even.
    cos, sin : arrays, shape (T, D / 2), or broadcastable to (…, T, D / 2)
        Of the angles.

    Returns
    -------
    array, shape (…, T, D)
    """
    a, b = _halves(x)
    return xp.concat([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _halves(x: Array) -> tuple[Array, Array]:
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


class RotaryOperations(Operations):
    """Fused rotary embedding on raw arrays: nothing is kept."""

    @forward_in_float32
    def rotary(self, x: Array, cos: Array, sin: Array) -> tuple[Array, tuple[Array, ...]]:
        """Return ``(turned, ())``."""
        return rotary(self.xp, x, cos, sin), ()

    @vjp_in_float32
    def rotary_vjp(
        self,
        g: Array,
        out: Array,  # noqa: ARG002 - not read
        aux: tuple[Array, ...],  # noqa: ARG002 - nothing kept
        x: Array,
        cos: Array,
        sin: Array,
        *,
        needs: Sequence[bool],
    ) -> tuple[Array | None, ...]:
        """Return the cotangent of `x`, turned back, and those of `cos` and `sin`."""
        xp = self.xp
        gx = self.rotary(g, cos, -sin)[0] if needs[0] else None
        gcos = gsin = None
        if needs[1] or needs[2]:
            (a, b), (ga, gb) = _halves(x), _halves(g)
            gcos = sum_to(xp, ga * a + gb * b, cos.shape) if needs[1] else None
            gsin = sum_to(xp, gb * a - ga * b, sin.shape) if needs[2] else None
        return gx, gcos, gsin

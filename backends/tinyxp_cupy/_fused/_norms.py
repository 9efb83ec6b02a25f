"""Normalisation over the last axes, with the residual connection that goes with it."""

# ruff: noqa: PLR0917 - a vjp takes all that its operation takes, and more

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy
import numpy as np

from tinyxp._fused._norm import NormOperations
from tinyxp_cupy._modules import kernel, launch, multiprocessors, name_of

from ._arguments import Array, aligned, native

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NormKernels"]

Arrays = tuple[Array, ...]
Cotangents = tuple[Array | None, ...]
_WARP = 32
_LONGEST = 4096  # elements of a row: what one block holds
_HELD = {
    True: 32,
    False: 8,
}  # elements that a thread holds in the forward pass, by 16 bytes and one by one
_HELD_BACK = 8  # and in the backward pass
_FEW = 1024  # rows that leave the GPU idle unless many threads share each
_TEAM = 256  # threads of a block where that many are no more than its rows need
_ROUNDS = 3  # blocks a multiprocessor in the backward pass, each of which takes many rows
_COLUMNS = 32  # of a block that adds up


class NormKernels(NormOperations):
    """Fused normalisations. What is kept is one array: ``(mean, 1 / deviation)`` of each row, in float32."""

    def layer_norm(
        self, x: Array, gamma: Array, beta: Array | None, *, eps: float
    ) -> tuple[Array, Arrays]:
        """Return the normalised rows and ``(statistics,)``."""
        if not (_fits(x, gamma, beta) and native(x, gamma, beta)):
            return super().layer_norm(x, gamma, beta, eps=eps)
        _, out, stats = _forward(x, None, gamma, beta, eps, x.dtype)
        return out, (stats,)

    def layer_norm_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        gamma: Array,
        beta: Array | None,
        *,
        needs: Sequence[bool],
        eps: float,
    ) -> Cotangents:
        """Return the cotangents of `x`, `gamma` and `beta`."""
        if not _ours(aux):
            return super().layer_norm_vjp(g, out, aux, x, gamma, beta, needs=needs, eps=eps)
        return _backward(g, None, aux[0], x, gamma, beta, needs)[:3]

    def rms_norm(self, x: Array, gamma: Array, *, eps: float) -> tuple[Array, Arrays]:
        """Return the normalised rows and ``(1 / root mean square,)`` of each, in float32."""
        if not (_fits(x, gamma, None) and native(x, gamma)):
            return super().rms_norm(x, gamma, eps=eps)
        x, gamma = cupy.ascontiguousarray(x), cupy.ascontiguousarray(gamma)
        n, dtype = gamma.size, name_of(x.dtype)
        rows = x.size // n
        out, stats = cupy.empty(x.shape, x.dtype), cupy.empty(rows, np.float32)
        vectors = _wide(n, x, gamma)
        blocks, threads, lanes = _teams(rows, n, vectors=vectors)
        name = "rms_norm" if vectors else "rms_norm_by_one"
        launch(
            kernel("norms", name, dtype), blocks, threads, x, gamma, out, stats, rows, n, lanes, float(eps)
        )  # fmt: skip
        return out, (stats,)

    def rms_norm_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        gamma: Array,
        *,
        needs: Sequence[bool],
        eps: float,
    ) -> Cotangents:
        """Return the cotangents of `x` and `gamma`."""
        if not _ours(aux):
            return super().rms_norm_vjp(g, out, aux, x, gamma, needs=needs, eps=eps)
        return _backward(g, None, aux[0], x, gamma, None, needs)[:2]

    # ------------------------------------------------------------ with a residual connection
    def add_layer_norm(
        self,
        x: Array,
        y: Array | None,
        gamma: Array,
        beta: Array | None,
        *,
        eps: float,
        dtype: Any = None,
    ) -> tuple[Array, Array, Arrays]:
        """Add what a layer computed to its input, and normalise the sum for the next, in one launch.

        Parameters
        ----------
        x : array, shape (…, *normalized)
        y : array, shape of `x`, or None
            In the dtype of `x` or in `dtype`; None adds nothing.
        gamma : array, shape (*normalized)
        beta : array, shape (*normalized), or None
        eps : float
            Added to the variance.
        dtype : dtype, optional
            Of the normalised rows; without it that of `x`. Half precision where `x` is float32.

        Returns
        -------
        sum : array, shape of `x`
            ``x + y`` in the dtype of `x`; `x` itself if `y` is None.
        normal : array, shape of `x`
            The sum normalised, in `dtype`.
        aux : tuple of arrays
            For `layer_norm_vjp_add`.
        """
        dtype = x.dtype if dtype is None else np.dtype(dtype)
        if _fits(x, gamma, beta) and native(x, gamma, beta) and _pairs(x, dtype, y):
            total, normal, stats = _forward(x, y, gamma, beta, eps, dtype)
            return total, normal, (stats,)
        total = x if y is None else (x + y).astype(x.dtype, copy=False)
        normal, aux = self.layer_norm(total, gamma, beta, eps=eps)
        return total, normal.astype(dtype, copy=False), aux

    def layer_norm_vjp_add(
        self,
        g: Array,
        add: Array | None,
        aux: Arrays,
        x: Array,
        gamma: Array,
        beta: Array | None,
        *,
        needs: Sequence[bool] = (True, True, True),
        copy: bool = False,
    ) -> Cotangents:
        """Return the cotangents of a normalisation, that of its input added to the residual connection's.

        Parameters
        ----------
        g : array, shape of `x`
            Cotangent of the normalised rows, in their dtype.
        add : array, shape of `x`, or None
            What is added to the cotangent of `x`: that of the sum, in the dtype of `x`.
        aux : tuple of arrays
            From `add_layer_norm` or `layer_norm`.
        x : array, shape (…, *normalized)
            What was normalised: the sum.
        gamma, beta : array, shape (*normalized)
        needs : sequence of bool
            Whether the cotangents of `x`, `gamma` and `beta` are asked for.
        copy : bool
            Whether that of `x` is wanted in the dtype of `g` too.

        Returns
        -------
        tuple of four arrays or None
            The cotangents of `x`, `gamma` and `beta`, and the one of `x` in the dtype of `g`: itself where
            that is its own.
        """
        if _ours(aux) and native(x, add):
            return _backward(g, add, aux[0], x, gamma, beta, needs, copy=copy)
        gx, *others = self.layer_norm_vjp(
            g.astype(x.dtype, copy=False), None, aux, x, gamma, beta, needs=needs, eps=0.0
        )
        if gx is not None and add is not None:
            gx = gx + add
        return gx, *others, gx.astype(g.dtype, copy=False) if copy and gx is not None else None


def _fits(x: Array, gamma: Array, beta: Array | None) -> bool:
    """Whether both parameters have the shape of the last axes of `x`, which a block can hold."""
    tail = x.shape[max(x.ndim - gamma.ndim, 0) :]
    return (
        0 < gamma.size <= _LONGEST and gamma.shape == tail and (beta is None or beta.shape == tail)
    )


def _ours(aux: Arrays) -> bool:
    """Whether a kernel has left `aux`: the defaults keep columns, whose shape ends in 1."""
    return len(aux) == 1 and aux[0].ndim == 1


def _pairs(x: Array, dtype: Any, y: Array | None) -> bool:
    """Whether the kernels are compiled for `x` beside `dtype`, and `y` is of one of both."""
    return (dtype == x.dtype or (name_of(x.dtype) == "float32" and _half(dtype))) and (
        y is None
        or (
            y.shape == x.shape
            and y.data.device_id == x.data.device_id
            and y.dtype in {dtype, x.dtype}
        )
    )


def _half(dtype: Any) -> bool:
    """Whether `dtype` is one of those with 16 bits that kernels know."""
    return name_of(dtype) in {"float16", "bfloat16"}


def _wide(n: int, *arrays: Array | None) -> bool:
    """Whether rows of `n` elements of all `arrays` can be read by 16 bytes."""
    return aligned(*arrays) and all(a is None or n % (16 // a.itemsize) == 0 for a in arrays)


def _teams(rows: int, n: int, *, vectors: bool) -> tuple[int, int, int]:
    """Return the blocks, their threads, and how many of these share a row, in the forward pass."""
    held = _HELD[vectors]
    if rows <= _FEW:
        held = 4 if vectors else 1
    lanes = min(max(_WARP, -(-n // (held * _WARP)) * _WARP), 512)
    if lanes > _WARP:
        return rows, lanes, lanes
    teams = min(rows, 4)
    return -(-rows // teams), teams * _WARP, _WARP


def _forward(
    x: Array, y: Array | None, gamma: Array, beta: Array | None, eps: float, dtype: Any
) -> Arrays:
    """Return ``x + y``, that normalised, and the mean and 1 / deviation of each row."""
    x, gamma, y, beta = (
        None if a is None else cupy.ascontiguousarray(a) for a in (x, gamma, y, beta)
    )
    n = gamma.size
    rows = x.size // n
    total = x if y is None else cupy.empty(x.shape, x.dtype)
    out, stats = cupy.empty(x.shape, dtype), cupy.empty(2 * rows, np.float32)
    vectors = _wide(n, x, y, gamma, beta, out)
    blocks, threads, lanes = _teams(rows, n, vectors=vectors)
    function = kernel(
        "norms", "layer_norm" if vectors else "layer_norm_by_one", name_of(x.dtype), name_of(dtype)
    )
    launch(
        function, blocks, threads,
        x, y, gamma, beta, None if y is None else total, out, stats, rows, n, lanes,
        y is not None and y.dtype == x.dtype, float(eps),
    )  # fmt: skip
    return total, out, stats


def _backward(
    g: Array,
    add: Array | None,
    stats: Array,
    x: Array,
    gamma: Array,
    beta: Array | None,
    needs: Sequence[bool],
    *,
    copy: bool = False,
) -> Cotangents:
    """Return the cotangents of `x`, `gamma` and `beta`, and the first in the dtype of `g`."""
    g, x, gamma, add = (
        None if a is None else cupy.ascontiguousarray(a) for a in (g, x, gamma, add)
    )
    n = gamma.size
    rows = x.size // n
    centred = stats.size != rows
    params = (needs[1], len(needs) > 2 and needs[2] and beta is not None)  # noqa: PLR2004 - x, gamma, beta
    gx = cupy.empty(x.shape, x.dtype) if needs[0] else None
    second = None
    if copy and needs[0]:
        second = gx if g.dtype == x.dtype else cupy.empty(x.shape, g.dtype)
    lanes = -(-n // (_HELD_BACK * _WARP)) * _WARP
    teams = max(min(_TEAM // lanes, rows), 1)
    blocks = min(-(-rows // teams), _ROUNDS * multiprocessors(x.data.device_id))
    width = n * (2 if centred else 1)
    parts = cupy.empty((blocks, width), np.float32) if any(params) else None
    name = "layer_norm_vjp" if centred else "rms_norm_vjp"
    if not _wide(n, g, add, x, gamma):
        name += "_by_one"
    types = name_of(x.dtype), name_of(g.dtype)
    launch(
        kernel("norms", name, *types), blocks, teams * lanes,
        g, add, x, gamma, stats, gx, None if second is gx else second, parts, rows, n, lanes,
        shared=4 * width if teams > 1 else 0,
    )  # fmt: skip
    ggamma, gbeta = (cupy.empty(gamma.shape, gamma.dtype) if need else None for need in params)
    if any(params):
        launch(
            kernel("norms", "sum_columns", *types), -(-width // _COLUMNS), min(blocks, _WARP) * _WARP,
            parts, ggamma, gbeta, blocks, width, n,
        )  # fmt: skip
    return gx, ggamma, gbeta, second

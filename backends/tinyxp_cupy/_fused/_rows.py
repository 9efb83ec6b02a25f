"""Operations on rows: softmax, cross-entropy, and the normalisations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cupy
import numpy as np

from tinyxp._fused._activations import ActivationOperations
from tinyxp._fused._loss import LossOperations
from tinyxp_cupy._modules import kernel, launch, name_of

from ._arguments import Array, aligned, native, whole_warps
from ._norms import NormKernels

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RowKernels"]

Arrays = tuple[Array, ...]
Cotangents = tuple[Array | None, ...]
_FILE, _WARP, _TEAMS = "rows", 32, 8
_SHORT = 1024  # elements of a row that a warp does alone, unless rows are few
_FEW = 1024
_SHARE, _MOST = 16, 512  # elements that a thread of a block takes at least, and threads
_COLUMNS = 128  # threads of a block whose threads have a column each
_SUMMING = 1024  # threads at most of the block that adds up losses


class RowKernels(LossOperations, ActivationOperations, NormKernels):
    """Fused operations on rows."""

    # ------------------------------------------------------------ softmax
    def softmax(self, x: Array, *, axis: int) -> tuple[Array, Arrays]:
        """Return ``(softmax of x along axis, ())``."""
        if not (-x.ndim <= axis < x.ndim and native(x)):
            return super().softmax(x, axis=axis)
        return _along("softmax", axis, x), ()

    def softmax_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        *,
        needs: Sequence[bool],
        axis: int,
    ) -> Cotangents:
        """Return ``(out * (g - sum(g * out)),)``."""
        if not (-out.ndim <= axis < out.ndim and native(g, out)):
            return super().softmax_vjp(g, out, aux, x, needs=needs, axis=axis)
        return (_along("softmax_vjp", axis, g, out),)

    def log_softmax(self, x: Array, *, axis: int) -> tuple[Array, Arrays]:
        """Return ``(log of softmax of x along axis, ())``."""
        if not (-x.ndim <= axis < x.ndim and native(x)):
            return super().log_softmax(x, axis=axis)
        return _along("softmax", axis, x, logarithm=True), ()

    def log_softmax_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        *,
        needs: Sequence[bool],
        axis: int,
    ) -> Cotangents:
        """Return ``(g - softmax * sum(g),)``."""
        if not (-out.ndim <= axis < out.ndim and native(g, out)):
            return super().log_softmax_vjp(g, out, aux, x, needs=needs, axis=axis)
        return (_along("softmax_vjp", axis, g, out, logarithm=True),)

    # ------------------------------------------------------------ loss
    def cross_entropy(
        self, logits: Array, targets: Array, *, ignore_index: int, label_smoothing: float
    ) -> tuple[Array, Arrays]:
        """Return the loss and ``(largest logit and 1 / sum of exponentials of each row, count)``."""
        if not (
            native(logits)
            and targets.shape == logits.shape[:1]
            and targets.dtype.kind in "iu"
            and abs(ignore_index) < 1 << 63
        ):
            return super().cross_entropy(
                logits, targets, ignore_index=ignore_index, label_smoothing=label_smoothing
            )
        logits, targets = cupy.ascontiguousarray(logits), _words(targets)
        rows, n = logits.shape
        stats, losses = cupy.empty(2 * rows, np.float32), cupy.empty(rows, np.float32)
        out, count = cupy.empty((), np.float32), cupy.empty((), np.float32)
        function, blocks, threads, lanes = _teams("cross_entropy", n, rows, logits)
        launch(
            function, blocks, threads,
            logits, targets, stats, losses, rows, n, lanes, ignore_index, float(label_smoothing),
        )  # fmt: skip
        launch(
            kernel(_FILE, "mean_loss", name_of(logits.dtype)), 1, whole_warps(rows, _SUMMING),
            losses, targets, out, count, rows, ignore_index,
        )  # fmt: skip
        return out, (stats, count)

    def cross_entropy_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        logits: Array,
        targets: Array,
        *,
        needs: Sequence[bool],
        ignore_index: int,
        label_smoothing: float,
    ) -> Cotangents:
        """Return ``(softmax - target distribution) * g / count`` and None."""
        if len(aux) == 1 or not needs[0]:
            return super().cross_entropy_vjp(
                g, out, aux, logits, targets,
                needs=needs, ignore_index=ignore_index, label_smoothing=label_smoothing,
            )  # fmt: skip
        logits, targets = cupy.ascontiguousarray(logits), _words(targets)
        rows, n = logits.shape
        gx = cupy.empty(logits.shape, logits.dtype)
        function, blocks, threads, lanes = _teams("cross_entropy_vjp", n, rows, logits)
        launch(
            function, blocks, threads,
            logits, targets, *aux, g.astype(np.float32, copy=False), gx,
            rows, n, lanes, ignore_index, float(label_smoothing),
        )  # fmt: skip
        return gx, None


def _words(targets: Array) -> Array:
    return cupy.ascontiguousarray(targets, np.int64)


def _teams(name: str, n: int, rows: int, *arrays: Array) -> tuple[Any, int, int, int]:
    """Return the kernel for rows of `n` elements, the blocks, their threads, and how many of these share a row."""
    name = name if aligned(*arrays) else f"{name}_by_one"
    function = kernel(_FILE, name, name_of(arrays[0].dtype))
    if n <= _SHORT and rows > _FEW:
        return function, -(-rows // _TEAMS), _TEAMS * _WARP, _WARP
    lanes = whole_warps(-(-n // _SHARE), _MOST)
    return function, rows, lanes, lanes


def _along(name: str, axis: int, *arrays: Array, logarithm: bool = False) -> Array:
    """Return what the kernel `name` makes of `arrays` along `axis`."""
    shape, dtype = arrays[0].shape, arrays[0].dtype
    axis %= len(shape)
    arrays = tuple(map(cupy.ascontiguousarray, arrays))
    out, n = cupy.empty(shape, dtype), shape[axis]
    inner = math.prod(shape[axis + 1 :])
    if inner == 1:
        rows = out.size // n
        function, blocks, threads, lanes = _teams(name, n, rows, *arrays)
        launch(function, blocks, threads, *arrays, out, rows, n, lanes, logarithm)
        return out
    outer = out.size // (n * inner)
    function = kernel(_FILE, f"{name}_columns", name_of(dtype))
    blocks = -(-outer * inner // _COLUMNS)
    launch(function, blocks, _COLUMNS, *arrays, out, outer, n, inner, logarithm)
    return out

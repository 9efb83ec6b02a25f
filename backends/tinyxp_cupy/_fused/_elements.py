"""Operations that treat each element alone, and embedding: GELU, SiLU, SwiGLU, dropout, rotary embedding."""

# ruff: noqa: PLR0917 - a vjp takes all that its operation takes, and more

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy
import numpy as np

from tinyxp._fused._activations import ActivationOperations
from tinyxp._fused._dropout import DropoutOperations
from tinyxp._fused._linear import LinearOperations
from tinyxp._fused._rotary import RotaryOperations
from tinyxp_cupy import _kernels
from tinyxp_cupy._modules import kernel, launch, name_of

from ._arguments import Array, aligned, native, whole_warps

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ElementKernels"]

Arrays = tuple[Array, ...]
Key = tuple[int, int] | Array
Cotangents = tuple[Array | None, ...]
_FILE, _THREADS, _WARP = "elements", 256, 32
_FORMS = {
    form: np.int32(i) for i, form in enumerate(("tanh", "none", "sigmoid", "silu"))
}  # as in elements.cu


class ElementKernels(LinearOperations, ActivationOperations, DropoutOperations, RotaryOperations):
    """Fused operations on single elements. Nothing is kept: what a vjp needs, its kernel computes again."""

    # ------------------------------------------------------------ activations
    def gelu(self, x: Array, *, approximate: str) -> tuple[Array, Arrays]:
        """Return ``(x * gate, ())``."""
        if not native(x):
            return super().gelu(x, approximate=approximate)
        return _mapped("gelu", x, _FORMS[approximate]), ()

    def gelu_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        *,
        needs: Sequence[bool],
        approximate: str,
    ) -> Cotangents:
        """Return ``(g * (gate + x * gate'),)``."""
        if aux:
            return super().gelu_vjp(g, out, aux, x, needs=needs, approximate=approximate)
        return (_mapped("gelu_vjp", _like(g, x), x, _FORMS[approximate]),)

    def silu(self, x: Array) -> tuple[Array, Arrays]:
        """Return ``(x * sigmoid(x), ())``."""
        if not native(x):
            return super().silu(x)
        return _mapped("gelu", x, _FORMS["silu"]), ()

    def silu_vjp(
        self, g: Array, out: Array, aux: Arrays, x: Array, *, needs: Sequence[bool]
    ) -> Cotangents:
        """Return the cotangent of `x`."""
        if aux:
            return super().silu_vjp(g, out, aux, x, needs=needs)
        return (_mapped("gelu_vjp", _like(g, x), x, _FORMS["silu"]),)

    def swiglu(self, x: Array, y: Array) -> tuple[Array, Arrays]:
        """Return ``(x * sigmoid(x) * y, ())``."""
        if not (x.shape == y.shape and native(x, y)):
            return super().swiglu(x, y)
        return _mapped("swiglu", x, y), ()

    def swiglu_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        y: Array,
        *,
        needs: Sequence[bool],
    ) -> Cotangents:
        """Return the cotangents of `x` and `y`."""
        if aux:
            return super().swiglu_vjp(g, out, aux, x, y, needs=needs)
        given = tuple(map(cupy.ascontiguousarray, (_like(g, x), x, y)))
        gx, gy = (cupy.empty(x.shape, x.dtype) if need else None for need in needs)
        _launch("swiglu_vjp", given, (gx, gy))
        return gx, gy

    # ------------------------------------------------------------ dropout
    def dropout(self, x: Array, key: Key, *, p: float) -> tuple[Array, Arrays]:
        """Return ``(thinned, ())``."""
        if not native(x):
            return super().dropout(x, key, p=p)
        return _thinned(x, key, p), ()

    def dropout_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        key: Key,
        *,
        needs: Sequence[bool],
        p: float,
    ) -> Cotangents:
        """Return the cotangent thinned by the same key, and None."""
        if aux:
            return super().dropout_vjp(g, out, aux, x, key, needs=needs, p=p)
        return _thinned(_like(g, x), key, p), None

    # ------------------------------------------------------------ rotation
    def rotary(self, x: Array, cos: Array, sin: Array) -> tuple[Array, Arrays]:
        """Return ``(turned, ())``."""
        if not _turns(x, cos, sin):
            return super().rotary(x, cos, sin)
        return _turned(x, cos, sin, 1.0), ()

    def rotary_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        cos: Array,
        sin: Array,
        *,
        needs: Sequence[bool],
    ) -> Cotangents:
        """Return the cotangent of `x`, turned back, and those of `cos` and `sin`."""
        if needs[1] or needs[2] or not (g.dtype == x.dtype and _turns(g, cos, sin)):
            return super().rotary_vjp(g, out, aux, x, cos, sin, needs=needs)
        return _turned(g, cos, sin, -1.0), None, None

    # ------------------------------------------------------------ embedding
    def embedding(self, indices: Array, weight: Array) -> tuple[Array, Arrays]:
        """Return ``(weight[indices], ())``; indices out of range give rows of NaN."""
        if not (indices.size and _is_table(weight)):
            return super().embedding(indices, weight)
        size, width = weight.shape
        weight, (numbers, wide) = cupy.ascontiguousarray(weight), _kernels.numbers(indices)
        out = cupy.empty((*indices.shape, width), weight.dtype)
        vectors = width % (16 // weight.itemsize) == 0 and aligned(weight)
        name = "embedding" if vectors else "embedding_by_one"
        threads = whole_warps(indices.size * _WARP, _THREADS)
        launch(
            kernel("embedding", name, name_of(weight.dtype)), -(-indices.size * _WARP // threads), threads,
            numbers, weight, out, indices.size, size, width, wide,
        )  # fmt: skip
        return out, ()

    def embedding_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        indices: Array,
        weight: Array,
        *,
        needs: Sequence[bool],
    ) -> Cotangents:
        """Return ``(None, cotangent of weight)``: rows taken several times add up in a fixed order."""
        kernels = indices.size and _is_table(weight) and weight.shape[1] <= _kernels.WIDEST
        if not (needs[1] and kernels):
            return super().embedding_vjp(g, out, aux, indices, weight, needs=needs)
        gw = _kernels.sum_rows(_like(g, weight), indices, weight.shape[0], wraps=False)
        return None, gw


def _like(g: Array, x: Array) -> Array:
    return g if g.dtype == x.dtype else g.astype(x.dtype)


def _launch(name: str, given: Arrays, made: Cotangents, *options: Any) -> None:
    """Start the kernel `name` on arrays of one size in C order."""
    first = given[0]
    if aligned(*given):
        per_thread = 16 // first.itemsize
    else:
        name, per_thread = f"{name}_by_one", 1
    packs = -(-first.size // per_thread)
    threads = whole_warps(packs, _THREADS)
    launch(
        kernel(_FILE, name, name_of(first.dtype)), -(-packs // threads), threads, *given, *made, first.size, *options
    )  # fmt: skip


def _mapped(name: str, *args: Array) -> Array:
    """Return what the kernel `name` makes of arrays of one shape, which options may follow."""
    arrays = tuple(cupy.ascontiguousarray(a) for a in args if isinstance(a, cupy.ndarray))
    out = cupy.empty(
        args[0].shape, args[0].dtype
    )  # not the copy's, which has one axis where x has none
    _launch(name, arrays, (out,), *args[len(arrays) :])
    return out


def _thinned(x: Array, key: Key, p: float) -> Array:
    scale = 1 / (1 - p) if p < 1 else 0.0
    numbers, drawn = (key, None) if isinstance(key, tuple) else ((0, 0), key)
    out = cupy.empty(x.shape, x.dtype)
    _launch(
        "dropout", (cupy.ascontiguousarray(x),), (out,), *map(np.uint32, numbers), drawn, round(p * 2**32), scale
    )  # fmt: skip
    return out


def _turns(x: Array, cos: Array, sin: Array) -> bool:
    """Whether the kernel takes these: angles of the last two axes alone."""
    return (
        native(x, cos, sin)
        and x.ndim > 1
        and x.shape[-1] % 2 == 0
        and cos.shape == sin.shape == (x.shape[-2], x.shape[-1] // 2)
    )


def _turned(x: Array, cos: Array, sin: Array, sign: float) -> Array:
    x, cos, sin = map(cupy.ascontiguousarray, (x, cos, sin))
    out = cupy.empty(x.shape, x.dtype)
    positions, half = cos.shape
    pack = 16 // x.itemsize
    vectors = half % pack == 0 and aligned(x, cos, sin)
    pairs = out.size // 2 // (pack if vectors else 1)
    name = "rotary" if vectors else "rotary_by_one"
    threads = whole_warps(pairs, _THREADS)
    launch(
        kernel(_FILE, name, name_of(x.dtype)), -(-pairs // threads), threads,
        x, cos, sin, out, out.size // (2 * half), positions, half, sign,
    )  # fmt: skip
    return out


def _is_table(weight: Array) -> bool:
    return weight.ndim == 2 and native(weight)  # noqa: PLR2004 - a matrix

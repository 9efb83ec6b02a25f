"""Affine maps, gated activations, dropout, and what consists of them."""

# ruff: noqa: PLR0917 - a vjp takes all that its operation takes, and more

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinyxp._fused import Defaults
from tinyxp_numpy import _extras, _pool
from tinyxp_numpy._kernels import _activations, _dropout, _products, _steps
from tinyxp_numpy._kernels._blas import product

from ._arguments import (
    Array,
    Arrays,
    addresses,
    cost,
    in_order,
    is_affine,
    multiply,
    native,
    rows_of,
    run_program,
    total,
    vector,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AffineKernels", "form"]

_EAGER = 4  # programs are shared by threads from a quarter of the work on that other kernels are


class AffineKernels(Defaults):
    """Fused operations around matrix products of parameters."""

    # ------------------------------------------------------------ affine
    def linear(self, x: Array, weight: Array, bias: Array | None) -> tuple[Array, Arrays]:
        """Return ``(x @ weight + bias, ())``."""
        if not (_maps(x, weight, bias) and native(x, weight, bias) and product(x.dtype)):
            return super().linear(x, weight, bias)
        return _affine(x, weight, bias).reshape(*x.shape[:-1], weight.shape[1]), ()

    def linear_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        weight: Array,
        bias: Array | None,
        *,
        needs: Sequence[bool],
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of `x`, `weight` and `bias`."""
        if not (_maps(x, weight, bias) and native(g, x, weight, bias) and product(g.dtype)):
            return super().linear_vjp(g, out, aux, x, weight, bias, needs=needs)
        flat, kind = rows_of(x, x.shape[-1]), x.dtype
        found = [
            np.empty(a.shape, kind) if need else None
            for a, need in zip((x, weight, bias), needs, strict=True)
        ]
        held = [in_order(a) for a in (flat, weight, rows_of(g, g.shape[-1]))]
        sizes = _sizes(flat, weight)
        sums = np.empty((sizes[3] if needs[2] else 0, weight.shape[1]), kind)
        run_program(
            _products.affine_vjp, sizes[4], [*sizes, *addresses([*held, sums, *found])], kind
        )
        return tuple(found)

    def embedding_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        indices: Array,
        weight: Array,
        *,
        needs: Sequence[bool],
    ) -> tuple[Array | None, ...]:
        """Return ``(None, cotangent of weight)``, rows added up in the order of `indices`."""
        if not (needs[1] and native(g, weight)):
            return super().embedding_vjp(g, out, aux, indices, weight, needs=needs)
        return None, self.segment_sum(rows_of(g, g.shape[-1]), indices.reshape(-1), weight.shape[0])

    def segment_sum(self, values: Array, indices: Array, size: int) -> Array:
        """Add the rows of `values`, a matrix in C order, into zeros at `indices`."""
        indices = _extras.checked(indices, size)
        n, dim = values.shape
        total = np.zeros((size, dim), values.dtype)
        _pool.run(_steps.scatter_rows, dim, n, values, indices, total)
        return total

    # ------------------------------------------------------------ activations
    def gelu(self, x: Array, *, approximate: str) -> tuple[Array, Arrays]:
        """Return ``(x * gate, ())``: the gate is computed again in the backward pass."""
        if not native(x):
            return super().gelu(x, approximate=approximate)
        return _gate(x, None, approximate), ()

    def gelu_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        *,
        needs: Sequence[bool],
        approximate: str,
    ) -> tuple[Array | None, ...]:
        """Return the cotangent of `x`."""
        if aux or not native(g, x):
            return super().gelu_vjp(g, out, aux, x, needs=needs, approximate=approximate)
        return (_gate_vjp(g.copy(), x, None, approximate)[0],)  # g is not ours to write into

    def swiglu(self, x: Array, y: Array) -> tuple[Array, Arrays]:
        """Return ``(x * sigmoid(x) * y, ())``: the gate is computed again in the backward pass."""
        if not (native(x, y) and x.shape == y.shape):
            return super().swiglu(x, y)
        out = np.empty(x.size, x.dtype)
        _pool.run(_activations.swiglu, x.size, 4, _flat(x), _flat(y), out)
        return out.reshape(x.shape), ()

    def swiglu_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        y: Array,
        *,
        needs: Sequence[bool],
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of `x` and `y`."""
        if aux:
            return super().swiglu_vjp(g, out, aux, x, y, needs=needs)
        found = tuple(np.empty(x.size, x.dtype) for _ in range(2))
        _pool.run(
            _activations.swiglu_vjp, x.size, 8, _flat(g.astype(x.dtype)), _flat(x), _flat(y), *found
        )
        return tuple(
            a.reshape(x.shape) if need else None for a, need in zip(found, needs, strict=True)
        )

    # ------------------------------------------------------------ dropout
    def dropout(self, x: Array, key: tuple[int, int], *, p: float) -> tuple[Array, Arrays]:
        """Return the thinned array and nothing: the mask is drawn again in the backward pass."""
        if not (native(x) and 0 < p < 1):
            return super().dropout(x, key, p=p)
        return _thin(x, key, p), ()

    def dropout_vjp(
        self,
        g: Array,
        out: Array,
        aux: Arrays,
        x: Array,
        key: tuple[int, int],
        *,
        needs: Sequence[bool],
        p: float,
    ) -> tuple[Array | None, ...]:
        """Return the thinned cotangent and None."""
        if aux:
            return super().dropout_vjp(g, out, aux, x, key, needs=needs, p=p)
        return _thin(g, key, p), None

    # ------------------------------------------------------------ feed-forward
    def mlp(
        self,
        x: Array,
        weight1: Array,
        bias1: Array | None,
        weight2: Array,
        bias2: Array | None,
        *,
        approximate: str,
        compute: str | None = None,
    ) -> tuple[Array, tuple[Any, ...]]:
        """Return the output and ``(before bias and GELU, behind them)``."""
        if compute is not None or not _is_mlp(x, weight1, bias1, weight2, bias2):
            return super().mlp(
                x, weight1, bias1, weight2, bias2, approximate=approximate, compute=compute
            )
        flat, kind = rows_of(x, x.shape[-1]), x.dtype
        n, hidden = len(flat), weight1.shape[1]
        weight1, weight2 = np.ascontiguousarray(weight1), np.ascontiguousarray(weight2)
        before, behind = np.empty((n, hidden), kind), np.empty((n, hidden), kind)
        out = np.empty((n, weight2.shape[1]), kind)
        added = np.empty(0, kind) if bias2 is None else np.ascontiguousarray(bias2)
        items = _pool.items_of(_pool.parts_of(n, 2 * cost(weight1)))
        multiply(
            _products.mlp, n, items, product(kind), flat, weight1, vector(bias1, hidden, kind), weight2,
            added, before, behind, out, *form(approximate, kind),
        )  # fmt: skip
        return out.reshape(*x.shape[:-1], out.shape[1]), (before, behind)

    def mlp_vjp(
        self,
        g: Array,
        out: Array,
        aux: tuple[Any, ...],
        x: Array,
        weight1: Array,
        bias1: Array | None,
        weight2: Array,
        bias2: Array | None,
        *,
        needs: Sequence[bool],
        approximate: str,
        compute: str | None = None,
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of all five arrays."""
        if compute is not None or not _is_mlp(x, weight1, bias1, weight2, bias2):
            return super().mlp_vjp(
                g, out, aux, x, weight1, bias1, weight2, bias2, needs=needs, approximate=approximate,
                compute=compute,
            )  # fmt: skip
        before, behind = aux
        flat, kind = rows_of(x, x.shape[-1]), x.dtype
        at = rows_of(g.astype(kind, copy=False), g.shape[-1])
        n, width = at.shape
        hidden, each = weight1.shape[1], 2 * cost(weight1)
        weight1, weight2 = np.ascontiguousarray(weight1), np.ascontiguousarray(weight2)
        blocks, none = _pool.parts_of(n, each), np.empty((0, 0), kind)
        items = _pool.items_of(blocks)
        gh, gx = np.empty_like(before), np.empty_like(flat) if needs[0] else none
        sums1, sums2 = np.zeros((blocks, hidden), kind), np.zeros((blocks, width), kind)
        multiply(
            _products.mlp_vjp, blocks, items, product(kind), blocks, at, weight1, weight2, vector(bias1, hidden, kind), before, gh, gx,
            sums1, sums2, *form(approximate, kind),
        )  # fmt: skip
        gw1 = np.empty_like(weight1) if needs[1] else none
        gw2 = np.empty_like(weight2) if needs[3] else none
        multiply(
            _products.weights_vjp, 2 * items, 2 * items if blocks > 1 else 1, product(kind), items, behind, at, gw2, flat,
            gh, gw1,
        )  # fmt: skip
        found = (gx.reshape(x.shape) if needs[0] else None, gw1, total(sums1), gw2, total(sums2))
        return tuple(x if need else None for x, need in zip(found, needs, strict=True))


# ---------------------------------------------------------------- pieces
def _maps(x: Array, weight: Array, bias: Array | None) -> bool:
    return x.ndim > 0 and is_affine(x.shape[-1], weight, bias)


def _is_mlp(x: Array, *parameters: Array | None) -> bool:
    """Whether the kernels take both affine maps, forward and backward."""
    weight1, bias1, weight2, bias2 = parameters
    return bool(
        _maps(x, weight1, bias1)
        and is_affine(weight1.shape[1], weight2, bias2)  # type: ignore[union-attr]  # not None: looked at above
        and native(x, *parameters)
        and product(x.dtype)
    )


def _affine(x: Array, weight: Array, bias: Array | None) -> Array:
    """Return ``x @ weight + bias`` as a matrix."""
    flat, kind = rows_of(x, x.shape[-1]), x.dtype
    out, sizes = np.empty((len(flat), weight.shape[1]), kind), _sizes(flat, weight)
    held = [None if a is None else in_order(a) for a in (flat, weight, bias)]
    run_program(_products.affine, sizes[4], [*sizes, *addresses([*held, out])], kind)
    return out


def _sizes(x: Array, weight: Array) -> tuple[int, ...]:
    """Return the numbers that programs of an affine map find in front of the addresses."""
    (n, inner), each = x.shape, cost(weight)
    shares = _pool.items_of(min(n, _pool.parts_of(n, _EAGER * each)))
    return n, inner, weight.shape[1], _pool.parts_of(n, each), shares, product(x.dtype)


def form(name: str, kind: Any) -> tuple[Any, Any, Any]:
    """Return what tells a kernel which gate is meant: both coefficients, and the largest square."""
    a, b = _activations.COEFFICIENTS[name]
    return kind.type(a), kind.type(b), kind.type(1e30)


def _gate(x: Array, bias: Array | None, name: str) -> Array:
    width, kind = x.shape[-1] if x.ndim else 1, x.dtype
    flat = rows_of(x, width)
    out = np.empty_like(flat)
    added = vector(bias, width, kind)
    _pool.run(_activations.bias_gate, len(flat), 4 * width, flat, added, out, *form(name, kind))
    return out.reshape(x.shape)


def _gate_vjp(g: Array, x: Array, bias: Array | None, name: str) -> tuple[Array, Array]:
    """Turn `g`, in C order, into the cotangent of `x`; return the cotangent of `bias` too."""
    width, kind = x.shape[-1] if x.ndim else 1, x.dtype
    flat, gx = rows_of(x, width), g.reshape(-1, width)
    sums = np.zeros((_pool.parts_of(len(flat), 6 * width), width), kind)
    added = vector(bias, width, kind)
    _pool.run(
        _activations.bias_gate_vjp, len(flat), 6 * width, gx, flat, added, sums, *form(name, kind)
    )
    return gx.reshape(x.shape), total(sums)


def _flat(x: Array) -> Array:
    return np.ascontiguousarray(x).reshape(-1)


def _thin(x: Array, key: tuple[int, int], p: float) -> Array:
    flat = np.ascontiguousarray(x).reshape(-1)
    n = flat.size
    if n % 2:
        flat = np.concatenate([flat, np.zeros(1, x.dtype)])
    out = np.empty_like(flat)
    threshold = np.uint32(max(round(p * 2**32), 1) - 1)
    _pool.run(
        _dropout.dropout, flat.size // 2, 8, flat, out, np.uint32(key[0]), np.uint32(key[1]), threshold,
        x.dtype.type(1 / (1 - p)),
    )  # fmt: skip
    return out[:n].reshape(x.shape)

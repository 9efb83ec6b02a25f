"""Kernels of a whole transformer block: what stands between two attentions is done row by row, in the cache."""

from __future__ import annotations

from typing import Any

from ._activations import bias_gate, bias_gate_vjp
from ._blas import gemm
from ._compile import inline, kernel
from ._products import cut
from ._rows import column_sums, layer_norm, layer_norm_vjp

__all__ = ["norm_affine", "norm_affine_vjp", "rest", "rest_vjp"]


@inline
def _prefill(start: int, stop: int, x: Any, bias: Any, out: Any) -> None:
    """Write rows of ``x + bias``: to them a product is then added."""
    n = x.shape[1]
    for i in range(start, stop):
        row, to = x[i], out[i]
        for j in range(n):
            to[j] = row[j] + bias[j]


@kernel
def norm_affine(
    start: int, stop: int, part: int, product: int, x: Any, gamma: Any, beta: Any, weight: Any, bias: Any, mean: Any,
    rstd: Any, normal: Any, out: Any, eps: Any,
) -> None:  # fmt: skip
    """Write rows of the normalised `x`, and of ``normal @ weight + bias``."""
    one = x.dtype.type(1)
    layer_norm(start, stop, part, x, gamma, beta, normal, mean, rstd, eps)
    for i in range(start, stop):
        out[i] = bias
    gemm(product, False, False, one, normal[start:stop], weight, one, out[start:stop])


@kernel
def rest(
    start: int, stop: int, part: int, product: int, x: Any, mixed: Any, out_weight: Any, out_bias: Any, gamma: Any,
    beta: Any, weight1: Any, bias1: Any, weight2: Any, bias2: Any, middle: Any, mean: Any, rstd: Any, normal: Any,
    before: Any, behind: Any, out: Any, eps: Any, a: Any, b: Any, limit: Any,
) -> None:  # fmt: skip
    """Write rows of all that follows attention: projection, residual, normalisation, MLP, residual."""
    one, zero = x.dtype.type(1), x.dtype.type(0)
    _prefill(start, stop, x, out_bias, middle)
    gemm(product, False, False, one, mixed[start:stop], out_weight, one, middle[start:stop])
    layer_norm(start, stop, part, middle, gamma, beta, normal, mean, rstd, eps)
    gemm(product, False, False, one, normal[start:stop], weight1, zero, before[start:stop])
    bias_gate(start, stop, part, before, bias1, behind, a, b, limit)
    _prefill(start, stop, middle, bias2, out)
    gemm(product, False, False, one, behind[start:stop], weight2, one, out[start:stop])


@kernel
def rest_vjp(
    start: int, stop: int, part: int, product: int, blocks: int, g: Any, out_weight: Any, gamma: Any, weight1: Any,
    bias1: Any, weight2: Any, middle: Any, mean: Any, rstd: Any, before: Any, gh: Any, gn: Any, gmiddle: Any, gmixed: Any,
    sums: Any, sums1: Any, a: Any, b: Any, limit: Any,
) -> None:  # fmt: skip
    """Write the blocks `start` to `stop` of rows of the cotangents of `rest`, and their sums.

    ``sums``: (4, blocks, width), of `g`, of both parameters of the normalisation, and of `gmiddle`.
    """
    one, zero = g.dtype.type(1), g.dtype.type(0)
    n = g.shape[0]
    first, last = n * start // blocks, n * stop // blocks
    gemm(product, False, True, one, g[first:last], weight2, zero, gh[first:last])
    for block in range(start, stop):
        c, d = cut(n, blocks, block)
        bias_gate_vjp(c, d, block, gh, before, bias1, sums1, a, b, limit)
    gemm(product, False, True, one, gh[first:last], weight1, zero, gn[first:last])
    for block in range(start, stop):
        c, d = cut(n, blocks, block)
        column_sums(c, d, block, g, sums[0])
        layer_norm_vjp(
            c, d, block, gn, middle, gamma, mean, rstd, g, True, gmiddle, sums[1], sums[2]
        )  # fmt: skip
        column_sums(c, d, block, gmiddle, sums[3])
    gemm(product, False, True, one, gmiddle[first:last], out_weight, zero, gmixed[first:last])


@kernel
def norm_affine_vjp(
    start: int, stop: int, part: int, product: int, blocks: int, g: Any, residual: Any, x: Any, gamma: Any, weight: Any,
    mean: Any, rstd: Any, gn: Any, gx: Any, sums: Any, sums1: Any,
) -> None:  # fmt: skip
    """Write the blocks `start` to `stop` of rows of the cotangents of `norm_affine`, plus `residual`.

    ``sums``: (2, blocks, width), of both parameters of the normalisation; ``sums1`` of `g`.
    """
    one, zero = g.dtype.type(1), g.dtype.type(0)
    n = g.shape[0]
    first, last = n * start // blocks, n * stop // blocks
    gemm(product, False, True, one, g[first:last], weight, zero, gn[first:last])
    for block in range(start, stop):
        c, d = cut(n, blocks, block)
        column_sums(c, d, block, g, sums1)
        layer_norm_vjp(
            c, d, block, gn, x, gamma, mean, rstd, residual, True, gx, sums[0], sums[1]
        )  # fmt: skip

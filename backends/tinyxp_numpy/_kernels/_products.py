"""Kernels around matrix products: each thread multiplies the rows that it is given, with one thread of BLAS.

So there is one pool of threads, not a second one inside the BLAS that waits, spinning, for the first; and what
follows a product is done while its rows are in the cache.
"""

from __future__ import annotations

from typing import Any

from ._activations import bias_gate, bias_gate_vjp
from ._blas import gemm
from ._compile import inline, kernel
from ._rows import add_bias, column_sums

__all__ = ["affine", "affine_vjp", "cut", "mlp", "mlp_vjp", "weight_vjp", "weights_vjp"]


@inline
def cut(n: int, parts: int, part: int) -> tuple[int, int]:
    """Return the range of `n` rows that is the part `part`."""
    return n * part // parts, n * (part + 1) // parts


@inline
def weight_vjp(product: int, items: int, item: int, x: Any, g: Any, gw: Any) -> None:
    """Write a part of ``x.T @ g``, unless it is empty: rows or columns, whatever there are more of."""
    if gw.size == 0:
        return
    one, zero = x.dtype.type(1), x.dtype.type(0)
    if gw.shape[0] >= gw.shape[1]:
        a, b = cut(gw.shape[0], items, item)
        gemm(product, True, False, one, x[:, a:b], g, zero, gw[a:b])
    else:
        a, b = cut(gw.shape[1], items, item)
        gemm(product, True, False, one, x, g[:, a:b], zero, gw[:, a:b])


@kernel
def affine(
    start: int, stop: int, part: int, product: int, x: Any, weight: Any, bias: Any, out: Any
) -> None:  # fmt: skip
    """Write rows of ``x @ weight + bias``; without bias where that is empty."""
    one, zero = x.dtype.type(1), x.dtype.type(0)
    gemm(product, False, False, one, x[start:stop], weight, zero, out[start:stop])
    if bias.size > 0:
        add_bias(start, stop, part, out, bias)


@kernel
def affine_vjp(
    start: int, stop: int, part: int, product: int, items: int, blocks: int, g: Any, x: Any, weight: Any, gx: Any,
    gw: Any, sums: Any,
) -> None:  # fmt: skip
    """Write the cotangents of an affine map, those wanted: the others are empty.

    The first `items` are ranges of rows of `gx` and of blocks of rows of `g`, whose sums are ``sums``, (blocks,
    width); the other `items` are parts of `gw`.
    """
    one, zero = x.dtype.type(1), x.dtype.type(0)
    n = g.shape[0]
    for item in range(start, stop):
        if item >= items:
            weight_vjp(product, items, item - items, x, g, gw)
            continue
        first, last = cut(blocks, items, item)
        a, b = n * first // blocks, n * last // blocks
        if gx.size > 0:
            gemm(product, False, True, one, g[a:b], weight, zero, gx[a:b])
        if sums.size > 0:
            for block in range(first, last):
                c, d = cut(n, blocks, block)
                column_sums(c, d, block, g, sums)


@kernel
def mlp(
    start: int, stop: int, part: int, product: int, x: Any, weight1: Any, bias1: Any, weight2: Any, bias2: Any,
    before: Any, behind: Any, out: Any, a: Any, b: Any, limit: Any,
) -> None:  # fmt: skip
    """Write rows of both affine maps and of the gate between them."""
    one, zero = x.dtype.type(1), x.dtype.type(0)
    gemm(product, False, False, one, x[start:stop], weight1, zero, before[start:stop])
    bias_gate(start, stop, part, before, bias1, behind, a, b, limit)
    gemm(product, False, False, one, behind[start:stop], weight2, zero, out[start:stop])
    if bias2.size > 0:
        add_bias(start, stop, part, out, bias2)


@kernel
def mlp_vjp(
    start: int, stop: int, part: int, product: int, blocks: int, g: Any, weight1: Any, weight2: Any, bias1: Any,
    before: Any, gh: Any, gx: Any, sums1: Any, sums2: Any, a: Any, b: Any, limit: Any,
) -> None:  # fmt: skip
    """Write the blocks `start` to `stop` of rows of `gx` and of `gh`, the cotangents before the gate.

    The sums of a block of `gh` and of `g` are rows of ``sums1`` and ``sums2``.
    """
    one, zero = g.dtype.type(1), g.dtype.type(0)
    n = g.shape[0]
    first, last = n * start // blocks, n * stop // blocks
    gemm(product, False, True, one, g[first:last], weight2, zero, gh[first:last])
    for block in range(start, stop):
        c, d = cut(n, blocks, block)
        bias_gate_vjp(c, d, block, gh, before, bias1, sums1, a, b, limit)
        column_sums(c, d, block, g, sums2)
    if gx.size > 0:
        gemm(product, False, True, one, gh[first:last], weight1, zero, gx[first:last])


@kernel
def weights_vjp(
    start: int, stop: int, part: int, product: int, items: int, x1: Any, g1: Any, gw1: Any, x2: Any, g2: Any, gw2: Any,
    x3: Any, g3: Any, gw3: Any, x4: Any, g4: Any, gw4: Any,
) -> None:  # fmt: skip
    """Write the cotangents of up to four weights, each in `items` parts; those not wanted are empty."""
    for item in range(start, stop):
        which, piece = item // items, item % items
        if which == 0:
            weight_vjp(product, items, piece, x1, g1, gw1)
        elif which == 1:
            weight_vjp(product, items, piece, x2, g2, gw2)
        elif which == 2:  # noqa: PLR2004 - the third
            weight_vjp(product, items, piece, x3, g3, gw3)
        else:
            weight_vjp(product, items, piece, x4, g4, gw4)

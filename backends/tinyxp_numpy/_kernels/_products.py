"""Kernels around matrix products: each thread multiplies the rows that it is given, with one thread of BLAS.

So there is one pool of threads, not a second one inside the BLAS that waits, spinning, for the first; and what
follows a product is done while its rows are in the cache.
"""

from __future__ import annotations

from typing import Any

from numba import carray

from ._activations import bias_gate, bias_gate_vjp
from ._blas import AS_IT_IS, TURNED, gemm, multiply
from ._compile import address, inline, kernel, matrix, pointer, program, row
from ._rows import add_bias, column_sums
from ._team import finish, settle, take

__all__ = [
    "AFFINE", "AFFINE_VJP", "add_up", "affine", "affine_vjp", "cut", "mlp", "mlp_vjp", "weight_vjp", "weights_vjp",
]  # fmt: skip

_SIZES = ("n", "inner", "width", "blocks", "shares", "product")
AFFINE = (*_SIZES, "x", "weight", "bias", "out")
AFFINE_VJP = (*_SIZES, "x", "weight", "g", "sums", "g_x", "g_weight", "g_bias")


@inline
def cut(n: int, parts: int, part: int) -> tuple[int, int]:
    """Return the range of `n` rows that is the part `part`."""
    return n * part // parts, n * (part + 1) // parts


@kernel
def weight_vjp(
    product: int, pieces: int, piece: int, n: int, x: int, width: int, g: int, step: int, columns: int, out: int, one: Any
) -> None:  # fmt: skip
    """Write a piece of ``x.T @ g`` to the address `out`, unless that is 0: of its rows or columns, where there are more.

    At `x` there are n rows of `width` elements, at `g` rows of `columns` elements, `step` apart.
    """
    size, zero = carray(pointer(g, one), 1).itemsize, one - one
    if out == 0:
        return
    if width >= columns:
        a, b = cut(width, pieces, piece)
        multiply(
            product, TURNED, AS_IT_IS, b - a, columns, n, one, x + a * size, width, g, step, zero, out + a * columns * size,
            columns,
        )  # fmt: skip
    else:
        a, b = cut(columns, pieces, piece)
        multiply(
            product, TURNED, AS_IT_IS, width, b - a, n, one, x, width, g + a * size, step, zero, out + a * size, columns
        )  # fmt: skip


@kernel
def add_up(sums: Any, first: int, address: int, n: int) -> None:
    """Write the sums of columns of blocks, from the column `first` on, to a row at `address`, unless that is 0."""
    if address == 0:
        return
    out = row(address, n, sums)
    for j in range(n):
        out[j] = sums[0, first + j]
    for i in range(1, sums.shape[0]):
        more = sums[i, first : first + n]
        for j in range(n):
            out[j] += more[j]


# ---------------------------------------------------------------- affine maps
@program(*AFFINE)
def affine(board: Any, table: Any, reals: Any, run: int, member: int) -> None:
    """Write ``x @ weight + bias``; without bias where that is at 0."""
    t, numbers = carray(table, 1)[0], carray(reals, 1)
    n, shares, one = t.n, t.shares, numbers.dtype.type(1)
    if member >= shares:
        return
    x, weight = matrix(t.x, n, t.inner, numbers), matrix(t.weight, t.inner, t.width, numbers)
    bias, out = row(t.bias, t.width, numbers), matrix(t.out, n, t.width, numbers)
    while True:
        item = take(board, 0, shares, run, member)
        if item < 0:
            break
        start, stop = cut(n, shares, item)
        gemm(t.product, False, False, one, x[start:stop], weight, one - one, out[start:stop])
        if t.bias != 0:
            add_bias(start, stop, 0, out, bias)
        finish(board, 0)
    settle(board, 0, shares, run, member)


@program(*AFFINE_VJP)
def affine_vjp(board: Any, table: Any, reals: Any, run: int, member: int) -> None:
    """Write those cotangents of an affine map whose address is not 0."""
    t, numbers = carray(table, 1)[0], carray(reals, 1)
    n, inner, width, shares, one = t.n, t.inner, t.width, t.shares, numbers.dtype.type(1)
    if member >= shares:
        return
    g, weight = matrix(t.g, n, width, numbers), matrix(t.weight, inner, width, numbers)
    gx, sums = matrix(t.g_x, n, inner, numbers), matrix(t.sums, t.blocks, width, numbers)
    while True:
        item = take(board, 0, 2 * shares, run, member)
        if item < 0:
            break
        piece = item // 2
        if item % 2:
            weight_vjp(t.product, shares, piece, n, t.x, inner, t.g, width, width, t.g_weight, one)
        else:
            start, stop = cut(n, shares, piece)
            if t.g_x != 0:
                gemm(t.product, False, True, one, g[start:stop], weight, one - one, gx[start:stop])
            if t.g_bias != 0:
                first, last = cut(t.blocks, shares, piece)
                for block in range(first, last):
                    sums[block] = one - one
                    c, d = cut(n, t.blocks, block)
                    column_sums(c, d, block, g, sums)
        finish(board, 0)
    if settle(board, 0, 2 * shares, run, member):
        if take(board, 1, 1, run, member) == 0:
            add_up(sums, 0, t.g_bias, width)
            finish(board, 1)
        settle(board, 1, 1, run, member)


# ---------------------------------------------------------------- feed-forward
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
) -> None:  # fmt: skip
    """Write the cotangents of two weights, each in `items` parts; those not wanted are empty."""
    one = x1.dtype.type(1)
    for item in range(start, stop):
        piece = item % items
        if item < items:
            _weight_vjp(product, items, piece, x1, g1, gw1, one)
        else:
            _weight_vjp(product, items, piece, x2, g2, gw2, one)


@inline
def _weight_vjp(
    product: int, items: int, piece: int, x: Any, g: Any, gw: Any, one: Any
) -> None:  # fmt: skip
    if gw.size > 0:
        (n, width), columns = x.shape, g.shape[1]
        weight_vjp(
            product,
            items,
            piece,
            n,
            address(x),
            width,
            address(g),
            columns,
            columns,
            address(gw),
            one,
        )

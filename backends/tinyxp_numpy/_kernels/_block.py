"""A whole transformer block as two programs, forward and backward: see `tinyxp_numpy._kernels._team`.

What stands between two attentions is done row by row, in the cache. Rows are divided into blocks, whose sums are taken
one by one: they depend neither on who works nor on how many do. All arrays are in C order.
"""

from __future__ import annotations

from typing import Any

from numba import carray

from ._activations import bias_gate, bias_gate_vjp
from ._attention import ROWS, attend, attend_vjp
from ._blas import AS_IT_IS, TURNED, gemm, multiply
from ._compile import inline, kernel, matrix, pointer, program, row
from ._products import add_up, cut, weight_vjp
from ._rows import column_sums, layer_norm, layer_norm_vjp
from ._team import finish, settle, take

__all__ = ["BACKWARD", "FORWARD", "PARAMETERS", "backward", "forward", "scratch"]

SIZES = (
    "batch", "time", "width", "heads", "hidden", "blocks", "shares", "is_causal", "product",
)  # fmt: skip
PARAMETERS = (
    "gamma1", "beta1", "q_weight", "q_bias", "k_weight", "k_bias", "v_weight", "v_bias", "out_weight", "out_bias",
    "gamma2", "beta2", "weight1", "bias1", "weight2", "bias2",
)  # fmt: skip
KEPT = (
    "stats", "normal1", "packed", "lse", "mixed", "middle", "normal2", "before", "behind",
)  # fmt: skip
FORWARD = (*SIZES, "x", *PARAMETERS, *KEPT, "scratch", "out")
BACKWARD = (
    *SIZES, "x", *PARAMETERS, *KEPT, "scratch", "g", "gh", "gn", "gmiddle", "gmixed", "gpacked", "sums", "gx",
    *(f"g_{name}" for name in PARAMETERS),
)  # fmt: skip


def scratch(time: int) -> int:
    """Return how many elements a thread needs for attention over `time` positions forward; backward twice as many."""
    return min(ROWS, time) * (time + 1)


# ---------------------------------------------------------------- arrays at addresses
@inline
def _heads(address: int, batch: int, time: int, heads: int, dim: int, like: Any) -> Any:
    return carray(pointer(address, like), (batch, time, heads, dim))


@inline
def _three(address: int, batch: int, time: int, heads: int, dim: int, like: Any) -> Any:
    """Return q, k and v, which stand side by side in each row."""
    parts = carray(pointer(address, like), (batch, time, 3, heads, dim))
    return parts[:, :, 0], parts[:, :, 1], parts[:, :, 2]


# ---------------------------------------------------------------- pieces
@kernel
def _prefill(start: int, stop: int, x: Any, bias: Any, out: Any) -> None:
    """Write rows of ``x + bias``: to them a product is then added."""
    n = x.shape[1]
    for i in range(start, stop):
        row, to = x[i], out[i]
        for j in range(n):
            to[j] = row[j] + bias[j]


@kernel
def _project(product: int, x: Any, weight: int, bias: int, out: Any) -> None:
    """Write ``x @ weight + bias``, both at addresses."""
    (n, width), one = out.shape, x.dtype.type(1)
    added = row(bias, width, x)
    for i in range(n):
        for j in range(width):
            out[i, j] = added[j]
    gemm(product, False, False, one, x, matrix(weight, x.shape[1], width, x), one, out)


@kernel
def _times_turned(
    product: int, start: int, stop: int, g: int, step: int, weight: int, rows: int, columns: int, one: Any, beta: Any,
    out: int,
) -> None:  # fmt: skip
    """Write rows of ``g @ weight.T + beta out``; all are at addresses, and rows of `g` begin `step` elements apart."""
    size = carray(pointer(g, one), 1).itemsize
    multiply(
        product, AS_IT_IS, TURNED, stop - start, rows, columns, one, g + start * step * size, step, weight,
        columns, beta, out + start * rows * size, rows,
    )  # fmt: skip


# ---------------------------------------------------------------- forward
@kernel
def _project_rows(board: Any, t: Any, numbers: Any, run: int, member: int) -> None:
    """Do for rows the first normalisation and its projections to q, k and v, side by side."""
    n, width, shares, product, eps = t.batch * t.time, t.width, t.shares, t.product, numbers[0]
    x, stats = matrix(t.x, n, width, numbers), matrix(t.stats, 4, n, numbers)
    gamma, beta = row(t.gamma1, width, numbers), row(t.beta1, width, numbers)
    normal, packed = matrix(t.normal1, n, width, numbers), matrix(t.packed, n, 3 * width, numbers)
    while True:
        item = take(board, 0, shares, run, member)
        if item < 0:
            return
        start, stop = cut(n, shares, item)
        layer_norm(start, stop, item, x, gamma, beta, normal, stats[0], stats[1], eps)
        given, out = normal[start:stop], packed[start:stop]
        _project(product, given, t.q_weight, t.q_bias, out[:, :width])
        _project(product, given, t.k_weight, t.k_bias, out[:, width : 2 * width])
        _project(product, given, t.v_weight, t.v_bias, out[:, 2 * width :])
        finish(board, 0)


@kernel
def _attend_heads(board: Any, t: Any, numbers: Any, run: int, member: int) -> None:
    """Do for heads the attention."""
    batch, time, heads, rows = t.batch, t.time, t.heads, min(ROWS, t.time)
    q, k, v = _three(t.packed, batch, time, heads, t.width // heads, numbers)
    mixed = _heads(t.mixed, batch, time, heads, t.width // heads, numbers)
    lse = carray(pointer(t.lse, numbers), (batch, heads, time))
    size = rows * (time + 1)
    mine = row(t.scratch + member * size * numbers.itemsize, size, numbers)
    scores, inverse = mine[: rows * time].reshape((rows, time)), mine[rows * time :]
    while True:
        item = take(board, 1, batch * heads, run, member)
        if item < 0:
            return
        i, h = item // heads, item % heads
        attend(
            t.product, q[i, :, h], k[i, :, h], v[i, :, h], scores, False, t.is_causal != 0, numbers[1], scores,
            inverse, mixed[i, :, h], lse[i, h],
        )  # fmt: skip
        finish(board, 1)


@kernel
def _feed_rows(board: Any, t: Any, numbers: Any, run: int, member: int) -> None:
    """Do for rows the projection of what attention gave, the second normalisation, the MLP."""
    n, width, hidden, shares, product = t.batch * t.time, t.width, t.hidden, t.shares, t.product
    eps, a, b, limit = numbers[0], numbers[2], numbers[3], numbers[4]
    one, zero = numbers.dtype.type(1), numbers.dtype.type(0)
    x, stats = matrix(t.x, n, width, numbers), matrix(t.stats, 4, n, numbers)
    out_weight, out_bias = (
        matrix(t.out_weight, width, width, numbers),
        row(t.out_bias, width, numbers),
    )
    gamma, beta = row(t.gamma2, width, numbers), row(t.beta2, width, numbers)
    weight1, bias1 = matrix(t.weight1, width, hidden, numbers), row(t.bias1, hidden, numbers)
    weight2, bias2 = matrix(t.weight2, hidden, width, numbers), row(t.bias2, width, numbers)
    mixed, middle = matrix(t.mixed, n, width, numbers), matrix(t.middle, n, width, numbers)
    normal, out = matrix(t.normal2, n, width, numbers), matrix(t.out, n, width, numbers)
    before, behind = matrix(t.before, n, hidden, numbers), matrix(t.behind, n, hidden, numbers)
    while True:
        item = take(board, 2, shares, run, member)
        if item < 0:
            return
        start, stop = cut(n, shares, item)
        _prefill(start, stop, x, out_bias, middle)
        gemm(product, False, False, one, mixed[start:stop], out_weight, one, middle[start:stop])
        layer_norm(start, stop, item, middle, gamma, beta, normal, stats[2], stats[3], eps)
        gemm(product, False, False, one, normal[start:stop], weight1, zero, before[start:stop])
        bias_gate(start, stop, item, before, bias1, behind, a, b, limit)
        _prefill(start, stop, middle, bias2, out)
        gemm(product, False, False, one, behind[start:stop], weight2, one, out[start:stop])
        finish(board, 2)


@program(*FORWARD)
def forward(board: Any, table: Any, reals: Any, run: int, member: int) -> None:
    """Write ``y = x + attention(norm(x))`` and ``y + mlp(norm(y))``."""
    t, numbers = carray(table, 1)[0], carray(reals, 5)
    shares, heads = t.shares, t.batch * t.heads
    if member >= shares:
        return
    _project_rows(board, t, numbers, run, member)
    if settle(board, 0, shares, run, member):
        _attend_heads(board, t, numbers, run, member)
        if settle(board, 1, heads, run, member):
            _feed_rows(board, t, numbers, run, member)
            settle(board, 2, shares, run, member)


# ---------------------------------------------------------------- backward
@inline
def _sums(t: Any, blocks: int, numbers: Any) -> Any:
    """Return for each block of rows the sums of gh and of gpacked, and those of six arrays of the width, one by one.

    They are of g, of gmiddle, and of what belongs to the scale and the shift of the first and the second normalisation.
    """
    width, hidden, size = t.width, t.hidden, numbers.itemsize
    inner = matrix(t.sums, blocks, hidden, numbers)
    wide = matrix(t.sums + blocks * hidden * size, blocks, 3 * width, numbers)
    six = carray(
        pointer(t.sums + blocks * (hidden + 3 * width) * size, numbers), (6, blocks, width)
    )
    return inner, wide, six


@kernel
def _feed_rows_vjp(board: Any, t: Any, numbers: Any, run: int, member: int) -> None:
    """Go for rows back through `_feed_rows`, and take the sums for its vectors."""
    n, width, hidden, shares, product = t.batch * t.time, t.width, t.hidden, t.shares, t.product
    blocks, a, b, limit = t.blocks, numbers[2], numbers[3], numbers[4]
    one, zero = numbers.dtype.type(1), numbers.dtype.type(0)
    stats, g = matrix(t.stats, 4, n, numbers), matrix(t.g, n, width, numbers)
    sums1, wide, sums = _sums(t, blocks, numbers)
    gamma, bias1 = row(t.gamma2, width, numbers), row(t.bias1, hidden, numbers)
    middle, before = matrix(t.middle, n, width, numbers), matrix(t.before, n, hidden, numbers)
    gh, gn = matrix(t.gh, n, hidden, numbers), matrix(t.gn, n, width, numbers)
    gmiddle = matrix(t.gmiddle, n, width, numbers)
    while True:
        item = take(board, 0, shares, run, member)
        if item < 0:
            return
        first, last = cut(blocks, shares, item)
        start, stop = n * first // blocks, n * last // blocks
        sums1[first:last], wide[first:last] = zero, zero
        for i in range(6):
            sums[i, first:last] = zero
        _times_turned(product, start, stop, t.g, width, t.weight2, hidden, width, one, zero, t.gh)
        for block in range(first, last):
            c, d = cut(n, blocks, block)
            bias_gate_vjp(c, d, block, gh, before, bias1, sums1, a, b, limit)
        _times_turned(product, start, stop, t.gh, hidden, t.weight1, width, hidden, one, zero, t.gn)
        for block in range(first, last):
            c, d = cut(n, blocks, block)
            column_sums(c, d, block, g, sums[0])
            layer_norm_vjp(
                c, d, block, gn, middle, gamma, stats[2], stats[3], g, gmiddle, sums[4], sums[5]
            )  # fmt: skip
            column_sums(c, d, block, gmiddle, sums[1])
        _times_turned(
            product, start, stop, t.gmiddle, width, t.out_weight, width, width, one, zero, t.gmixed
        )
        finish(board, 0)


@kernel
def _attend_heads_vjp(board: Any, t: Any, numbers: Any, run: int, member: int) -> None:
    """Go for heads back through attention."""
    batch, time, heads, rows = t.batch, t.time, t.heads, min(ROWS, t.time)
    dim = t.width // heads
    q, k, v = _three(t.packed, batch, time, heads, dim, numbers)
    gq, gk, gv = _three(t.gpacked, batch, time, heads, dim, numbers)
    mixed, gmixed = (
        _heads(t.mixed, batch, time, heads, dim, numbers),
        _heads(t.gmixed, batch, time, heads, dim, numbers),
    )
    lse = carray(pointer(t.lse, numbers), (batch, heads, time))
    size = 2 * rows * (time + 1)
    mine = row(t.scratch + member * size * numbers.itemsize, 2 * rows * time, numbers)
    scores, slopes = (
        mine[: rows * time].reshape((rows, time)),
        mine[rows * time :].reshape((rows, time)),
    )
    while True:
        item = take(board, 1, batch * heads, run, member)
        if item < 0:
            return
        i, h = item // heads, item % heads
        attend_vjp(
            t.product, gmixed[i, :, h], mixed[i, :, h], lse[i, h], q[i, :, h], k[i, :, h], v[i, :, h], scores, False,
            t.is_causal != 0, numbers[1], scores, slopes, gq[i, :, h], gk[i, :, h], gv[i, :, h],
        )  # fmt: skip
        finish(board, 1)


@kernel
def _project_rows_vjp(board: Any, t: Any, numbers: Any, run: int, member: int) -> None:
    """Go for rows back through `_project_rows`, and take the sums for its vectors."""
    n, width, shares, product, blocks = t.batch * t.time, t.width, t.shares, t.product, t.blocks
    one, zero = numbers.dtype.type(1), numbers.dtype.type(0)
    x, stats, gamma = (
        matrix(t.x, n, width, numbers),
        matrix(t.stats, 4, n, numbers),
        row(t.gamma1, width, numbers),
    )
    gpacked, gn = matrix(t.gpacked, n, 3 * width, numbers), matrix(t.gn, n, width, numbers)
    gmiddle, gx = matrix(t.gmiddle, n, width, numbers), matrix(t.gx, n, width, numbers)
    at, part = t.gpacked, width * numbers.itemsize
    _, wide, sums = _sums(t, blocks, numbers)
    while True:
        item = take(board, 2, shares, run, member)
        if item < 0:
            return
        first, last = cut(blocks, shares, item)
        start, stop = n * first // blocks, n * last // blocks
        _times_turned(
            product, start, stop, at, 3 * width, t.q_weight, width, width, one, zero, t.gn
        )
        _times_turned(
            product, start, stop, at + part, 3 * width, t.k_weight, width, width, one, one, t.gn
        )
        _times_turned(
            product, start, stop, at + 2 * part, 3 * width, t.v_weight, width, width, one, one, t.gn
        )
        for block in range(first, last):
            c, d = cut(n, blocks, block)
            column_sums(c, d, block, gpacked, wide)
            layer_norm_vjp(
                c, d, block, gn, x, gamma, stats[0], stats[1], gmiddle, gx, sums[2], sums[3]
            )  # fmt: skip
        finish(board, 2)


@kernel
def _weights_vjp(board: Any, t: Any, numbers: Any, run: int, member: int) -> None:
    """Multiply for each weight, in as many pieces as there are shares, then add up for vectors."""
    n, width, hidden, shares, product = t.batch * t.time, t.width, t.hidden, t.shares, t.product
    one, wide, skipped = numbers.dtype.type(1), 3 * width, width * numbers.itemsize
    while True:
        item = take(board, 3, 6 * shares + 1, run, member)
        if item < 0:
            return
        p, which = item // 6, item % 6
        if p == shares:
            _vectors_vjp(t, numbers)
        elif which == 0:
            weight_vjp(product, shares, p, n, t.behind, hidden, t.g, width, width, t.g_weight2, one)
        elif which == 1:
            weight_vjp(
                product, shares, p, n, t.normal2, width, t.gh, hidden, hidden, t.g_weight1, one
            )
        elif which == 2:  # noqa: PLR2004 - the third
            weight_vjp(
                product, shares, p, n, t.mixed, width, t.gmiddle, width, width, t.g_out_weight, one
            )
        elif which == 3:  # noqa: PLR2004 - the fourth
            weight_vjp(
                product, shares, p, n, t.normal1, width, t.gpacked, wide, width, t.g_q_weight, one
            )
        elif which == 4:  # noqa: PLR2004 - the fifth
            at = t.gpacked + skipped
            weight_vjp(product, shares, p, n, t.normal1, width, at, wide, width, t.g_k_weight, one)
        else:
            at = t.gpacked + 2 * skipped
            weight_vjp(product, shares, p, n, t.normal1, width, at, wide, width, t.g_v_weight, one)
        finish(board, 3)


@kernel
def _vectors_vjp(t: Any, numbers: Any) -> None:
    width = t.width
    sums1, wide, sums = _sums(t, t.blocks, numbers)
    add_up(sums1, 0, t.g_bias1, t.hidden)
    add_up(wide, 0, t.g_q_bias, width)
    add_up(wide, width, t.g_k_bias, width)
    add_up(wide, 2 * width, t.g_v_bias, width)
    add_up(sums[0], 0, t.g_bias2, width)
    add_up(sums[1], 0, t.g_out_bias, width)
    add_up(sums[2], 0, t.g_gamma1, width)
    add_up(sums[3], 0, t.g_beta1, width)
    add_up(sums[4], 0, t.g_gamma2, width)
    add_up(sums[5], 0, t.g_beta2, width)


@program(*BACKWARD)
def backward(board: Any, table: Any, reals: Any, run: int, member: int) -> None:
    """Write the cotangents of `x` and of all parameters whose address is not 0."""
    t, numbers = carray(table, 1)[0], carray(reals, 5)
    shares, heads = t.shares, t.batch * t.heads
    if member >= shares:
        return
    _feed_rows_vjp(board, t, numbers, run, member)
    if settle(board, 0, shares, run, member):
        _attend_heads_vjp(board, t, numbers, run, member)
        if settle(board, 1, heads, run, member):
            _project_rows_vjp(board, t, numbers, run, member)
            if settle(board, 2, shares, run, member):
                _weights_vjp(board, t, numbers, run, member)
                settle(board, 3, 6 * shares + 1, run, member)

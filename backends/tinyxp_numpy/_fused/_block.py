"""A transformer block as one compiled program forward and one backward."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyxp_numpy import _pool
from tinyxp_numpy._kernels import _block, _team
from tinyxp_numpy._kernels._blas import product

from ._affine import AffineKernels, form
from ._arguments import Array, addresses, in_order, native, run_program
from ._attention import AttentionKernels

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BlockKernels"]


class BlockKernels(AffineKernels, AttentionKernels):
    """The fused transformer block."""

    def transformer_block(
        self,
        x: Array,
        *parameters: Array,
        num_heads: int,
        is_causal: bool,
        eps: float,
        approximate: str,
        compute: str | None = None,
    ) -> tuple[Array, tuple[Any, ...]]:
        """Return the output and ``(the program's table, what it kept, copies of inputs)``."""
        known = compute is None and _fits(x, parameters, num_heads) and native(x, *parameters)
        if not (known and product(x.dtype)):
            return super().transformer_block(
                x, *parameters, num_heads=num_heads, is_causal=is_causal, eps=eps, approximate=approximate,
                compute=compute,
            )  # fmt: skip
        plan = _Plan.of(x.shape, parameters[12].shape[1], num_heads, x.dtype)
        given = [x, *parameters]
        held = [in_order(a) for a in given]
        kept, out = np.empty(plan.kept.size, x.dtype), np.empty(x.shape, x.dtype)
        scratch = np.empty(plan.scratch, x.dtype)
        table = plan.table(addresses([*held, kept, scratch, out]), is_causal=is_causal)
        run_program(
            _block.forward, plan.shares, table, x.dtype, _reals(x.dtype, eps, plan.dim, approximate)
        )
        copies = tuple([a for a, like in zip(held, given, strict=True) if a is not like])
        return out, (table, kept, copies)

    def transformer_block_vjp(
        self,
        g: Array,
        out: Array,
        aux: tuple[Any, ...],
        x: Array,
        *parameters: Array,
        needs: Sequence[bool],
        num_heads: int,
        is_causal: bool,
        eps: float,
        approximate: str,
        compute: str | None = None,
    ) -> tuple[Array | None, ...]:
        """Return the cotangents of `x` and of all parameters."""
        if len(aux) != 3:  # noqa: PLR2004 - the default's forward
            return super().transformer_block_vjp(
                g, out, aux, x, *parameters, needs=needs, num_heads=num_heads, is_causal=is_causal, eps=eps,
                approximate=approximate, compute=compute,
            )  # fmt: skip
        plan = _Plan.of(x.shape, parameters[12].shape[1], num_heads, x.dtype)
        at = in_order(g.astype(x.dtype, copy=False))
        between, scratch = np.empty(plan.between.size, x.dtype), np.empty(2 * plan.scratch, x.dtype)
        gx = np.empty(x.shape, x.dtype)
        found = [
            np.empty(p.shape, p.dtype) if need else None
            for p, need in zip(parameters, needs[1:], strict=True)
        ]
        table = plan.table_vjp(aux[0], addresses([scratch, at, between, gx, *found]))
        run_program(
            _block.backward,
            plan.shares,
            table,
            x.dtype,
            _reals(x.dtype, eps, plan.dim, approximate),
        )
        return (gx if needs[0] else None, *found)


class _Layout:
    """Arrays in one piece of memory.

    Attributes
    ----------
    size : int
        Elements in all.
    offsets : array of int64
        Bytes from the beginning of the first array, which is on a boundary of a cache line, to that of each.
    """

    def __init__(self, sizes: Sequence[int], kind: Any) -> None:
        # Not at multiples of a page from each other: a processor would take them for the same address.
        line = _LINE // kind.itemsize
        ends = list(itertools.accumulate(-(-n // line) * line + 3 * line for n in sizes))
        self.size = ends[-1] + line
        self.offsets = np.array([0, *ends[:-1]], np.int64) * kind.itemsize

    def at(self, address: int) -> Array:
        """Return where the arrays are in memory that begins at `address`."""
        return -(-address // _LINE) * _LINE + self.offsets


class _Plan:
    """What programs are told of a block's shapes, and how much memory they need."""

    def __init__(
        self, shape: tuple[int, ...], hidden: int, heads: int, kind: Any, threads: int
    ) -> None:
        batch, time, width = shape
        n = batch * time
        self.dim, self.blocks = width // heads, _pool.parts_of(n, width * (width + 2 * hidden) // 8)
        self.shares = min(self.blocks, threads)
        self.sizes = np.array(
            [batch, time, width, heads, hidden, self.blocks, self.shares, 0, product(kind)]
        )
        row, wide, inner = n * width, 3 * n * width, n * hidden
        self.kept = _Layout([4 * n, row, wide, n * heads, row, row, row, inner, inner], kind)
        self.between = _Layout(
            [inner, row, row, row, wide, self.blocks * (hidden + 9 * width)], kind
        )
        self.scratch = self.shares * _block.scratch(time)

    @staticmethod
    def of(shape: tuple[int, ...], hidden: int, heads: int, kind: Any) -> _Plan:
        return _plan(shape, hidden, heads, kind, _pool.items_of(1 << 30))

    def table(self, at: list[int], *, is_causal: bool) -> Array:
        """Return the table of `_block.forward`.

        `at`: where the inputs are, the memory for what is kept, the scratch memory and the output.
        """
        table, n = np.empty(len(_block.FORWARD), np.int64), len(self.sizes)
        table[:n] = self.sizes
        table[_CAUSAL] = is_causal
        table[n:_KEPT], table[_KEPT:-2], table[-2:] = at[:-3], self.kept.at(at[-3]), at[-2:]
        return table

    def table_vjp(self, forward: Array, at: list[int]) -> Array:
        """Return the table of `_block.backward`, whose arrays include those of the `forward` table.

        `at`: where the scratch memory, the cotangent of the output and the memory for what comes in between are, and
        what is written.
        """
        table, n = np.empty(len(_block.BACKWARD), np.int64), len(self.sizes)
        table[: len(forward) - 2] = forward[:-2]
        table[:n] = self.sizes  # of today: the number of threads may have changed
        table[_CAUSAL] = forward[_CAUSAL]
        table[len(forward) - 2 : _BETWEEN] = at[:2]
        last = _BETWEEN + len(self.between.offsets)
        table[_BETWEEN:last], table[last:] = self.between.at(at[2]), at[3:]
        return table


_CAUSAL, _KEPT = map(_block.FORWARD.index, ("is_causal", "stats"))
_BETWEEN = _block.BACKWARD.index("gh")
_LINE = 64  # bytes
_plan = lru_cache(256)(_Plan)


@lru_cache(64)
def _reals(kind: Any, eps: float, dim: int, approximate: str) -> Array:
    """Return what a program computes with, in the dtype of the arrays."""
    return np.array([eps, 1 / math.sqrt(dim), *form(approximate, kind)], kind)


def _fits(x: Array, parameters: Sequence[Array | None], heads: Any) -> bool:
    """Whether all shapes are those of a block: kernels check nothing, and broadcast nothing."""
    if (
        x.ndim != 3  # noqa: PLR2004 - batch, time, channels
        or len(parameters) != len(_block.PARAMETERS)
        or any(p is None for p in parameters)
    ):
        return False
    if (
        type(heads) is not int
        or heads < 1
        or x.shape[2] % heads
        or x.shape[0] * heads >= _team.ITEMS
    ):
        return False
    row, hidden = x.shape[2:], parameters[12].shape[1:]  # type: ignore[union-attr]  # not None: looked at above
    norm, maps = (row, row), ((*row, *row), row) * 4
    expected = (*norm, *maps, *norm, (*row, *hidden), hidden, (*hidden, *row), row)
    return len(hidden) == 1 and all(p.shape == s for p, s in zip(parameters, expected, strict=True))  # type: ignore[union-attr]  # not None: looked at above

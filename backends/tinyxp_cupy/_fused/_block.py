"""Products with what goes before and behind them: linear, mlp, self_attention, transformer_block."""

from __future__ import annotations

from tinyxp._fused._blocks import BlockOperations

__all__ = ["BlockKernels"]


class BlockKernels(BlockOperations):
    """Products and the blocks made of them."""

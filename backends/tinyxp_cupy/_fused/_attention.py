"""Attention in blocks, whose memory is linear in the number of positions."""

from __future__ import annotations

from tinyxp._fused._attention import AttentionOperations

__all__ = ["AttentionKernels"]


class AttentionKernels(AttentionOperations):
    """Fused attention."""

"""Fused operations of the CuPy backend on kernels in CUDA C and on cuBLASLt.

Each method takes the kernel's way for float32, float16 and bfloat16 and the default's otherwise. What a
forward keeps tells its vjp which way it went.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._attention import AttentionKernels
from ._block import BlockKernels
from ._decode import DecodeKernels
from ._elements import ElementKernels
from ._rows import RowKernels
from ._updates import UpdateKernels

if TYPE_CHECKING:
    from tinyxp.backend import Namespace

__all__ = ["Kernels"]


class Kernels(
    BlockKernels, AttentionKernels, RowKernels, ElementKernels, DecodeKernels, UpdateKernels
):
    """Tier three of the CuPy backend."""

    host_visible = False

    def __init__(self, xp: Namespace) -> None:
        self.xp = xp  # type: ignore[misc]  # declared as a property for type checkers alone

"""Fused operations of the NumPy backend on kernels compiled by Numba (extra ``fast``).

Each method takes the kernel's way for float32 and float64 and the default's otherwise. What a forward keeps
tells its vjp which way it went.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._block import BlockKernels
from ._decode import DecodeKernels
from ._rows import RowKernels
from ._updates import UpdateKernels

if TYPE_CHECKING:
    from tinyxp.backend import Namespace

__all__ = ["Kernels"]


class Kernels(BlockKernels, DecodeKernels, RowKernels, UpdateKernels):
    """Tier three of the NumPy backend where Numba is installed."""

    def __init__(self, xp: Namespace) -> None:
        self.xp = xp  # type: ignore[misc]  # declared as a property for type checkers alone

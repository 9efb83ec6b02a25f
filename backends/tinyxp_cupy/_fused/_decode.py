"""One more position through a transformer block."""

from __future__ import annotations

from tinyxp._decode import Defaults

__all__ = ["DecodeKernels"]


class DecodeKernels(Defaults):
    """The step of generation."""

"""Update steps and norms of many arrays in one launch."""

from __future__ import annotations

from tinyxp._updates import Defaults

__all__ = ["UpdateKernels"]


class UpdateKernels(Defaults):
    """What optimizers do."""

"""Tools for testing tinyxp, and backends and operations written for it."""

from __future__ import annotations

from tinyxp.testing._gradcheck import GradientError as GradientError
from tinyxp.testing._gradcheck import gradcheck as gradcheck

__all__ = ["GradientError", "gradcheck"]

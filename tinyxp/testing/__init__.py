"""Tools for testing tinyxp, and backends and operations written for it."""

from __future__ import annotations

from tinyxp.testing._check import check_backend as check_backend
from tinyxp.testing._conformance import BackendConformance as BackendConformance
from tinyxp.testing._gradcheck import GradientError as GradientError
from tinyxp.testing._gradcheck import gradcheck as gradcheck

__all__ = ["BackendConformance", "GradientError", "check_backend", "gradcheck"]

# ruff: noqa: S101 - tests are made of asserts
"""The whole conformance suite, and that the tally counts."""

from __future__ import annotations

import tinyxp
from tinyxp.testing import BackendConformance


class TestCounting(BackendConformance):
    """Everything that tinyxp asks of a backend."""

    backend_name = "counting"


def test_calls_are_counted() -> None:
    """A product of matrices is one call."""
    backend = tinyxp.get_backend("counting")
    x = tinyxp.ones((2, 2), device="counting:cpu")
    backend.calls.clear()
    tinyxp.matmul(x, x)
    assert backend.calls == {"matmul": 1}

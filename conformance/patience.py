"""A plugin of pytest for the official suite: how fast a machine is, and how busy, is not what is tested."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings


@pytest.hookimpl(trylast=True)  # after the suite has loaded its own settings
def pytest_configure() -> None:
    """Let examples take the time they take."""
    patient = settings(settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("patient", patient)
    settings.load_profile("patient")

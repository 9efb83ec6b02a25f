"""``tinyxp info``: versions, backends, devices."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from tinyxp._version import __version__
from tinyxp.backend import get_backend, registered_backends
from tinyxp.errors import DeviceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["info_lines"]

_OPTIONAL = ("numpy", "array-api-compat", "matplotlib", "rich", "numba", "ml-dtypes", "scipy")


def info_lines() -> Iterator[str]:
    """Yield what there is to know about this installation, line by line."""
    yield f"tinyxp {__version__}"
    yield f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {_cores()} cores"
    yield f"at     {sys.executable}"
    yield "packages"
    for name in _OPTIONAL:
        yield f"  {name:16} {_version(name)}"
    yield "backends"
    for name in registered_backends():
        yield from _backend_lines(name)


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _backend_lines(name: str) -> Iterator[str]:
    try:
        backend = get_backend(name)
    except DeviceUnavailableError as exc:
        yield f"  {name:16} unavailable: {' '.join(str(exc).split())}"
        return
    devices = [str(backend.device(local)) for local in backend.devices()]
    yield f"  {name:16} available: {', '.join(devices)}"
    for key, value in backend.describe().items():
        yield f"    {key:14} {value}"
    for local in backend.devices():
        yield from (f"    {local} {k:8} {v / 1e9:.1f} GB" for k, v in backend.memory(local).items())

"""Why CuPy does not work on this machine, and what to type.

``import cupy`` says nothing: it succeeds without a driver and without a GPU. The driver says its version
(0 when there is none), the runtime how many devices there are, and only an allocation that they work.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tinyxp.errors import DeviceUnavailableError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["load", "verify"]

INSUFFICIENT_DRIVER, NO_DEVICE = 35, 100  # cudaError_t, driver_types.h of the CUDA toolkit


def load() -> ModuleType:
    """Import CuPy, or say how to install it."""
    try:
        import cupy
    except ModuleNotFoundError as exc:
        if exc.name != "cupy":
            raise DeviceUnavailableError(f"CuPy is installed but does not load: {exc}") from exc
        raise DeviceUnavailableError(
            "CuPy is not installed; type: pip install 'tinyxp[cuda13]'"
            " (or 'tinyxp[cuda12]' where nvidia-smi shows a CUDA version below 13)"
        ) from exc
    except ImportError as exc:
        raise DeviceUnavailableError(f"CuPy is installed but does not load: {exc}") from exc
    module: ModuleType = cupy
    return module


def verify(cupy: ModuleType) -> None:
    """Allocate on the GPU, or say which of driver and GPU is missing."""
    runtime = cupy.cuda.runtime
    try:
        driver, count = runtime.driverGetVersion(), runtime.getDeviceCount()
        if count:
            cupy.zeros(1).sum()
            return
    except runtime.CUDARuntimeError as exc:
        status, reason = exc.status, str(exc)
        driver = runtime.driverGetVersion()
    else:
        status, reason = NO_DEVICE, "the driver counts 0 devices"
    raise DeviceUnavailableError(
        f"CuPy {cupy.__version__} is installed, {_why(status, driver, reason)}"
    )


def _why(status: int, driver: int, reason: str) -> str:
    version = f"{driver // 1000}.{driver % 1000 // 10}"
    if driver == 0:
        return (
            f"but there is no NVIDIA driver ({reason}); install one from https://www.nvidia.com/drivers,"
            " or start the container with --gpus all, then type: nvidia-smi"
        )
    if status == INSUFFICIENT_DRIVER:
        return (
            f"but the NVIDIA driver is too old: it is made for CUDA {version} ({reason}); update it,"
            " or type: pip uninstall cupy-cuda13x && pip install 'tinyxp[cuda12]'"
        )
    if status == NO_DEVICE:
        return f"and the driver is there (CUDA {version}), but no GPU ({reason}); {_hidden()}"
    return f"but the GPU does not work: {reason}; type: nvidia-smi"


def _hidden() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return "type: nvidia-smi, to see whether the driver finds one"
    return f"CUDA_VISIBLE_DEVICES={visible!r} may hide it; type: unset CUDA_VISIBLE_DEVICES"

"""Why CuPy does not work on this machine, and what to type.

``import cupy`` says nothing: it succeeds without a driver and without a GPU. The driver says its version
(0 when there is none), the runtime how many devices there are, and only an allocation that they work.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tinyxp.errors import DeviceUnavailableError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["load", "verify"]

INSUFFICIENT_DRIVER, NO_DEVICE = 35, 100  # cudaError_t, driver_types.h of the CUDA toolkit
CUDA_12, CUDA_13 = 12000, 13000


def load() -> ModuleType:
    """Import CuPy, or say how to install it."""
    try:
        import cupy
    except ModuleNotFoundError as exc:
        if exc.name != "cupy":
            raise DeviceUnavailableError(f"CuPy is installed but does not load: {exc}") from exc
        raise DeviceUnavailableError(_missing(driver_version())) from exc
    except ImportError as exc:
        raise DeviceUnavailableError(f"CuPy is installed but does not load: {exc}") from exc
    module: ModuleType = cupy
    return module


def _missing(driver: int) -> str:
    """Return what to do without CuPy where the driver's version is `driver`, 0 without one."""
    if driver >= CUDA_13:
        return (
            f"CuPy is not installed, and the NVIDIA driver is there (CUDA {_dotted(driver)});"
            " type: pip install 'tinyxp[cuda13]'"
        )
    if driver >= CUDA_12:
        return (
            f"CuPy is not installed, and the NVIDIA driver is there (CUDA {_dotted(driver)});"
            " type: pip install 'tinyxp[cuda12]', or update the driver for 'tinyxp[cuda13]'"
        )
    if driver:
        return (
            f"CuPy is not installed, and the NVIDIA driver, made for CUDA {_dotted(driver)}, is too old for it;"
            " update the driver from https://www.nvidia.com/drivers, then type: pip install 'tinyxp[cuda13]'"
        )
    return (
        "CuPy is not installed, and no NVIDIA driver is found; on a machine with a GPU type:"
        " pip install 'tinyxp[cuda13]' (or 'tinyxp[cuda12]' where nvidia-smi shows a CUDA version below 13)"
    )


def driver_version() -> int:
    """Return the CUDA version that the NVIDIA driver is made for, such as 13000, or 0 without a driver."""
    import ctypes

    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    found = ctypes.c_int(0)
    try:
        failed = ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(found))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else found.value


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
    version = _dotted(driver)
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


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _hidden() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return "type: nvidia-smi, to see whether the driver finds one"
    return f"CUDA_VISIBLE_DEVICES={visible!r} may hide it; type: unset CUDA_VISIBLE_DEVICES"

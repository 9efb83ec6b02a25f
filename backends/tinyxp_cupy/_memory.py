"""The memory of a GPU: how it is used, and what it means when it ends.

CuPy's pool does by itself what can be done before an allocation fails: it gives its free blocks back, collects
garbage and tries again. What runs out here has run out. Only CUDA's libraries, which allocate outside of
the pool, may find room in what the pool holds.
"""

from __future__ import annotations

from typing import Any

import cupy

from tinyxp.errors import DeviceOutOfMemoryError

__all__ = ["empty_cache", "explain", "figures"]

# What each of CUDA's libraries calls it when no memory is left: class of the exception, its status.
ALLOCATION_FAILED = {
    "CUDARuntimeError": 2,  # cudaErrorMemoryAllocation, driver_types.h
    "CUDADriverError": 2,  # CUDA_ERROR_OUT_OF_MEMORY, cuda.h
    "CUBLASError": 3,  # CUBLAS_STATUS_ALLOC_FAILED, cublas_api.h
    "CUSOLVERError": 2,  # CUSOLVER_STATUS_ALLOC_FAILED, cusolver_common.h
    "CURANDError": 102,  # CURAND_STATUS_ALLOCATION_FAILED, curand.h
}
ADVICE = (
    "Take a smaller batch, GPT(..., checkpoint=True) or half precision; tinyxp.empty_cache() gives back"
    " what the pool holds and no array uses"
)
UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def figures(device: Any) -> dict[str, int]:
    """Return the bytes that arrays use, CuPy's pool holds, are free on `device`, and its total.

    And the pool's limit, where somebody has set one.
    """
    with device:
        pool = cupy.get_default_memory_pool()
        free, total = cupy.cuda.runtime.memGetInfo()
        found = {
            "used": pool.used_bytes(),
            "held": pool.total_bytes(),
            "free": free,
            "total": total,
        }
        if limit := pool.get_limit():
            found["limit"] = limit
    return found


def empty_cache(device: Any) -> None:
    """Give the blocks that CuPy's pools keep, of the device and of pinned host memory, back."""
    with device:
        cupy.get_default_memory_pool().free_all_blocks()
    cupy.get_default_pinned_memory_pool().free_all_blocks()


def explain(error: Exception, device: Any | None) -> DeviceOutOfMemoryError | None:
    """Return what to tell of `error` if it says that memory has run out, else None."""
    outside = ALLOCATION_FAILED.get(type(error).__name__) == getattr(error, "status", -1)
    if isinstance(error, cupy.cuda.memory.OutOfMemoryError):
        outside, asked = False, getattr(error, "_size", 0)
    elif not outside or not isinstance(error, RuntimeError):
        return None
    else:
        asked = 0
    device = cupy.cuda.Device() if device is None else device
    known = figures(device)
    if outside:
        empty_cache(device)
    text = _account(f"cuda:{device.id}", asked, known)
    if outside:
        text += f". It was one of CUDA's libraries that asked ({error}): the pool has given back what it could, so once more may work"
    return DeviceOutOfMemoryError(
        f"{text}. {ADVICE}", {**known, **({"asked": asked} if asked else {})}
    )


def _account(name: str, asked: int, known: dict[str, int]) -> str:
    what = f"{size(asked)} more" if asked else "more"
    text = (
        f"{name} has no room for {what}: {size(known['free'])} of {size(known['total'])} are free,"
        f" arrays use {size(known['used'])}, CuPy's pool holds {size(known['held'])}"
    )
    others = known["total"] - known["free"] - known["held"]
    if others > 0:
        text += f", CUDA itself, recorded graphs and other programs {size(others)}"
    if "limit" in known:
        text += f"; the pool may hold {size(known['limit'])} (CUPY_GPU_MEMORY_LIMIT or set_limit)"
    return text


def size(n: int) -> str:
    """Return a number of bytes as people say it."""
    factor, unit = next(((f, u) for f, u in UNITS if n >= f), (1, "bytes"))
    return f"{n / factor:.2f} {unit}" if factor > 1 else f"{n} {unit}"

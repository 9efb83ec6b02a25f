"""What tests of CUDA kernels share; to import it skips a module where there is no GPU and no emulator of one."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.util import find_spec

import numpy as np
import pytest

from tinyxp import dtypes
from tinyxp.backend import available_backends, get_backend

__all__ = [
    "EMULATED",
    "ORDERS",
    "counted",
    "cupy",
    "emulated",
    "guarded",
    "in_order",
    "native",
    "normal",
]

if "cupy" not in available_backends():
    pytest.skip("no GPU, and no emulator of one", allow_module_level=True)

import cupy

EMULATED = find_spec("cuda_emulator") is not None
emulated = pytest.mark.skipif(
    not EMULATED, reason="counts, orders and fails what only the emulator can"
)
ORDERS = (0, 1, 7)  # of the threads of a block: forward, backward, shuffled


def in_order(order):
    """A context in which the threads of a block run in that order; on a GPU they run as they like."""
    if not EMULATED:
        return nullcontext()
    import cuda_emulator

    return cuda_emulator.schedule(order)


def guarded():
    """A context in which arrays begin as NaN and end at a closed page, where the emulator can do that."""
    if not EMULATED:
        return nullcontext()
    import cuda_emulator

    return cuda_emulator.guard()


def counted():
    """A context that counts launches, copies and allocations; for tests marked `emulated`."""
    import cuda_emulator

    return cuda_emulator.count()


def native(dtype):
    """Return the dtype object of CuPy's for a name."""
    return get_backend("cupy").native_dtype(dtypes.dtype(dtype))


def normal(*shape, seed=0, dtype="float32", spread=1.0):
    """Return normal numbers that `dtype` has, in float64."""
    made = np.random.default_rng(seed).standard_normal(shape) * spread
    return made.astype(native(dtype)).astype(np.float64)

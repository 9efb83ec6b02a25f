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
    "assert_recorded_is_eager",
    "count_of",
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


def count_of(step):
    """Return the counts of a call of `step` that had two before it, which nobody waited for; marked `emulated`."""
    for _ in range(2):
        step()
    with counted() as c:
        step()
    assert (c.d2h, c.h2d, c.syncs, c.mallocs, c.library_calls) == (0, 0, 0, 0, 0)
    return c


def assert_recorded_is_eager(step):
    """Record `step`, which returns arrays, as a graph; what a replay writes is what the step gave before."""
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        eager = [a.get().astype(np.float64) for a in step()]
        stream.begin_capture()
        made = step()
        graph = stream.end_capture()
        for a in made:
            a.fill(0)
        graph.launch(stream)
        stream.synchronize()
        for got, want in zip(made, eager, strict=True):
            np.testing.assert_array_equal(got.get().astype(np.float64), want)

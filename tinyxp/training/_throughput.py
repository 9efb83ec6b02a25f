"""How fast this machine multiplies matrices, and how much of that a training step uses."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyxp.backend import Device

__all__ = ["flops_per_token", "matmul_peak"]

_LONG_ENOUGH = 0.02  # seconds a product must take to be timed well
_LARGEST = 8192


def matmul_peak(device: Device, *, dtype: str = "float32", seconds: float = 0.4) -> float:
    """Return the best rate seen in multiplying square matrices, in floating-point operations per second.

    The matrices grow until a product takes 20 ms; the best of the products that fit into `seconds` counts.
    It is what this machine reaches, with this library, and not what the data sheet says.

    Parameters
    ----------
    device : Device
        Where to multiply.
    dtype : str
        Of the matrices.
    seconds : float
        About how long to go on.
    """
    n, best, start = 256, 0.0, perf_counter()
    multiply = _product(device, n, dtype)
    while True:
        took = _timed(multiply, device)
        best = max(best, 2.0 * n**3 / took)
        if perf_counter() - start > seconds:
            return best
        if took < _LONG_ENOUGH and n < _LARGEST:
            n *= 2
            multiply = _product(device, n, dtype)
            _timed(multiply, device)  # the first product of a size may set things up


def _product(device: Device, n: int, dtype: str) -> Callable[[], Any]:
    from tinyxp import dtypes

    native = device.backend.native_dtype(dtypes.dtype(dtype))
    a = device.xp.full((n, n), 0.5, dtype=native, device=device.native)
    return lambda: device.xp.matmul(a, a)


def _timed(run: Callable[[], Any], device: Device) -> float:
    start = perf_counter()
    run()
    device.backend.synchronize(device.local)
    return perf_counter() - start


def flops_per_token(*, matrix_parameters: int, layers: int, context: float, width: int) -> float:
    """Return the floating-point operations that training spends on a token, forward and backward.

    ``6 N + 12 L T D`` with N the parameters that take part in products, L layers, width D, and T the
    positions that each attends to on average: the context, or half of it where a mask spares the rest
    (A. Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways", 2022, appendix B).

    Examples
    --------
    >>> flops_per_token(matrix_parameters=1000, layers=2, context=8, width=16)
    9072
    """
    return 6 * matrix_parameters + 12 * layers * context * width

"""Arrays to try a backend with: the same numbers on every backend, from Python's own generator."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyxp.backend import Device

__all__ = ["Samples", "nested"]

Array = Any


def nested(shape: tuple[int, ...], draw: Callable[[], Any]) -> Any:
    """Return nested lists of `shape` whose elements `draw` gives, in C order."""
    if not shape:
        return draw()
    return [nested(shape[1:], draw) for _ in range(shape[0])]


class Samples:
    """A stream of raw arrays on a device.

    Parameters
    ----------
    device : Device
        Where the arrays live.
    real : str
        Name of the dtype of real arrays; complex ones have twice its size.
    seed : int
        Two streams with one seed give the same numbers, whatever their devices.
    """

    def __init__(self, device: Device, real: str = "float64", seed: int = 0) -> None:
        self.device, self.dtype = device, dtypes.dtype(real)
        self.random = random.Random(seed)  # noqa: S311 - no secrets

    def array(self, obj: Any, dtype: str | dtypes.DType | None = None) -> Array:
        """Return `obj`, a number or nested lists, as an array, of the real dtype unless told otherwise."""
        wanted = self.dtype if dtype is None else dtypes.dtype(dtype)
        backend = self.device.backend
        if not isinstance(obj, list) or obj:
            return backend.asarray(obj, dtype=wanted, device=self.device)
        return self.empty((0,), wanted)

    def empty(self, shape: tuple[int, ...], dtype: str | dtypes.DType | None = None) -> Array:
        """Return an array without elements, of `shape`."""
        wanted = self.dtype if dtype is None else dtypes.dtype(dtype)
        native = self.device.backend.native_dtype(wanted)
        return self.device.xp.zeros(shape, dtype=native, device=self.device.native)

    def _fill(self, shape: tuple[int, ...], draw: Callable[[], Any], dtype: Any) -> Array:
        if not math.prod(shape):
            return self.empty(shape, dtype)
        return self.array(nested(shape, draw), dtype)

    def real(self, *shape: int, low: float = -2.0, high: float = 2.0) -> Array:
        """Return real numbers, uniform between `low` and `high`."""
        return self._fill(shape, lambda: self.random.uniform(low, high), self.dtype)

    def ints(self, *shape: int, low: int = 0, high: int = 10, dtype: str = "int64") -> Array:
        """Return integers in ``[low, high)``."""
        return self._fill(shape, lambda: self.random.randrange(low, high), dtype)

    def bools(self, *shape: int) -> Array:
        """Return truth values."""
        return self._fill(shape, lambda: self.random.random() < 0.5, "bool")  # noqa: PLR2004 - the middle

    def complexes(self, *shape: int) -> Array:
        """Return complex numbers, both parts uniform between -2 and 2."""
        name = "complex128" if self.dtype.name == "float64" else "complex64"
        draw = self.random.uniform
        return self._fill(shape, lambda: complex(draw(-2.0, 2.0), draw(-2.0, 2.0)), name)

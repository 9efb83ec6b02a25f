"""The array-api-strict backend of tinyxp: only what the standard promises."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tinyxp.backend import Backend
from tinyxp.errors import DeviceUnavailableError

if TYPE_CHECKING:
    from tinyxp.backend import Device
    from tinyxp.dtypes import DType

__all__ = ["StrictBackend"]


class StrictBackend(Backend):
    """array-api-strict, the referee: everything beyond the first tier is tinyxp's own default."""

    name = "strict"
    # It computes with NumPy, so it needs what NumPy needs; and `isin` forgets to invert (2.6.1).
    repairs: ClassVar[frozenset[str]] = frozenset({"expm1", "floor_divide", "isin", "sign", "tanh"})

    @cached_property
    def library(self) -> Any:
        """The namespace of array-api-strict."""
        try:
            import array_api_strict
        except ImportError as exc:
            raise DeviceUnavailableError(
                f"array-api-strict is not installed ({exc}); type: pip install 'tinyxp[strict]'"
            ) from exc
        return array_api_strict

    @cached_property
    def array_type(self) -> type:
        """The class of the arrays of array-api-strict."""
        return type(self.library.asarray(0))

    def devices(self) -> tuple[str, ...]:
        """Return the names of three devices between which nothing moves by itself."""
        return ("cpu", "device1", "device2")

    def native_device(self, local: str) -> Any:
        """Return the library's device object."""
        return self.library.Device("CPU_DEVICE" if local == "cpu" else local)

    def device_of(self, x: Any) -> str:
        """Return the name of the device that `x` says it lives on."""
        return next(n for n in self.devices() if self.native_device(n) == x.device)

    def from_buffer(
        self, buffer: memoryview, dtype: DType, shape: tuple[int, ...], device: Device
    ) -> Any:
        """Return an array over `buffer` itself: nothing is copied."""
        flat = np.frombuffer(buffer, dtype=dtype.name).reshape(shape)
        return self.library.asarray(
            flat, dtype=self.native_dtype(dtype), device=device.native, copy=False
        )

    def to_buffer(self, x: Any) -> memoryview:
        """Return the bytes of `x`, its own where it is in C order."""
        return np.ascontiguousarray(self._host(x)).reshape(-1).view(np.uint8).data

    def shares_memory(self, x: Any, y: Any) -> bool:
        """Whether a write into `x` would be seen through `y`."""
        return bool(np.shares_memory(self._host(x), self._host(y)))

    def quiet(self) -> Any:
        """Return a context in which NumPy does not warn of infinite and NaN results."""
        return np.errstate(all="ignore")

    def wrap(self, x: Any) -> Any:
        """Return a Python scalar as a 0-d array."""
        return self.library.asarray(x)

    def describe(self) -> dict[str, str]:
        """Return the library's version and the version of the standard that it holds to."""
        library = self.library
        return {"array-api-strict": library.__version__, "standard": library.__array_api_version__}

    def _host(self, x: Any) -> Any:
        return x._array  # noqa: SLF001 - the library has no public door that keeps memory and device

"""The CuPy backend of tinyxp: arrays on CUDA GPUs."""

from __future__ import annotations

from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tinyxp import dtypes
from tinyxp._capture import refuse
from tinyxp._devices import explaining
from tinyxp._indexing import scatter
from tinyxp.backend import Backend, Namespace, with_kernels
from tinyxp_cupy import _probe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from types import ModuleType

    from tinyxp.backend import Device
    from tinyxp.dtypes import DType

__all__ = ["CupyBackend"]

Array = Any


@with_kernels
class CupyBackend(Backend):
    """CuPy on CUDA GPUs.

    CuPy works on the device that is current in the thread. With one GPU that is always the right one and
    the namespace is CuPy's; with several, each device has a namespace whose functions switch to it, and
    `scope` switches for code that uses the operators of raw arrays.
    """

    name = "cupy"
    short_names: ClassVar[tuple[str, ...]] = ("cuda",)
    host_visible: ClassVar[bool] = False
    records: ClassVar[bool] = True
    repairs: ClassVar[frozenset[str]] = frozenset(
        {
            "acosh",
            "bitwise_left_shift",
            "bitwise_right_shift",
            "expm1",
            "floor_divide",
            "log",
            "log1p",
            "remainder",
            "tanh",
        }
    )

    @cached_property
    def cupy(self) -> ModuleType:
        """The library itself, imported when the backend is first used."""
        return _probe.load()

    @cached_property
    def library(self) -> Any:
        """CuPy's functions under the standard's names."""
        self.cupy  # noqa: B018 - says what to install
        from tinyxp_cupy import _namespace

        return _namespace.build()

    @property
    def array_type(self) -> type:
        """The class of CuPy's arrays."""
        found: type = self.cupy.ndarray
        return found

    @cached_property
    def native_dtypes(self) -> Mapping[str, Any]:
        """NumPy's dtype objects, which are CuPy's too; bfloat16 where ml_dtypes is installed."""
        scalars = {name: getattr(np, name, None) for name in dtypes.type_names}
        scalars["bfloat16"] = _bfloat16()
        return {name: np.dtype(scalar) for name, scalar in scalars.items() if scalar is not None}

    def probe(self) -> None:
        """Allocate on the GPU; tell a missing CuPy, driver and GPU apart."""
        _probe.verify(self.cupy)

    # ------------------------------------------------------------ devices
    @cached_property
    def _count(self) -> int:
        return int(self.cupy.cuda.runtime.getDeviceCount())

    def devices(self) -> tuple[str, ...]:
        """Return ``"cuda:0"`` and so on, one for each GPU."""
        return tuple(f"cuda:{i}" for i in range(self._count))

    def native_device(self, local: str) -> Any:
        """Return CuPy's device object."""
        return self.cupy.cuda.Device(_index(local))

    def device_of(self, x: Array) -> str:
        """Return the name of the device that `x` lives on."""
        return f"cuda:{x.device.id}"

    def namespace(self, local: str) -> Namespace:
        """Return the extended namespace for one device, bound to it where there are others."""
        if self._count == 1:
            return self.xp
        from tinyxp_cupy import _namespace

        found = Namespace(self, self.library)
        _namespace.bound(found, _index(local))
        return found

    def scope(self, local: str) -> AbstractContextManager[Any]:
        """Return a context in which operators of arrays act on the device called `local`."""
        if self._count == 1:
            return super().scope(local)
        device: AbstractContextManager[Any] = self.native_device(local)
        return device

    def synchronize(self, local: str | None = None) -> None:
        """Wait until everything asked of the device is done."""
        self._device(local).synchronize()

    def memory(self, local: str | None = None) -> dict[str, int]:
        """Return what arrays use, what CuPy's pool holds, what is free on the device, and its total."""
        from tinyxp_cupy import _memory

        return _memory.figures(self._device(local))

    def empty_cache(self, local: str | None = None) -> None:
        """Give the blocks that CuPy's pool keeps back to the device."""
        from tinyxp_cupy import _memory

        _memory.empty_cache(self._device(local))

    def stream(self, local: str | None = None) -> AbstractContextManager[Callable[[], None]]:
        """Return a context whose work goes to a second stream of the device."""
        from tinyxp_cupy import _streams

        return _streams.beside(self._device(local))

    def capture(
        self, function: Callable[[], Any], local: str | None = None
    ) -> tuple[Any, Callable[[], None]]:
        """Record a CUDA graph of what `function` launches."""
        from tinyxp_cupy import _graphs

        return _graphs.record(self._device(local).id, function)

    def explain(self, error: Exception, local: str | None = None) -> Exception | None:
        """Return what it means that CuPy, or one of CUDA's libraries, finds no memory."""
        from tinyxp_cupy import _memory

        return _memory.explain(error, None if local is None else self.native_device(local))

    def _device(self, local: str | None) -> Any:
        return self.native_device(local or self.devices()[0])

    def set_matmul_precision(self, precision: str) -> None:
        """Let cuBLASLt compute products in float32 with TF32's factors, or not."""
        from tinyxp_cupy import _lt

        _lt.set_tf32(precision == "high")

    def describe(self) -> dict[str, str]:
        """Return the versions of CuPy, runtime and driver, and the names of the GPUs."""
        runtime = self.cupy.cuda.runtime
        versions = {"runtime": runtime.runtimeGetVersion(), "driver": runtime.driverGetVersion()}
        names = (runtime.getDeviceProperties(i)["name"].decode() for i in range(self._count))
        return {
            "cupy": self.cupy.__version__,
            **{what: f"CUDA {v // 1000}.{v % 1000 // 10}" for what, v in versions.items()},
            "gpu": ", ".join(names),
        }

    # ------------------------------------------------------------ in and out
    def asarray(
        self,
        obj: Any,
        *,
        dtype: DType | None = None,
        device: Device | None = None,
        copy: bool | None = None,
    ) -> Array:
        """Turn a number, nested sequence, buffer or array into an array on `device`."""
        native = None if dtype is None else self.native_dtype(dtype)
        if device is None:
            return self.library.asarray(obj, dtype=native, copy=copy)
        with explaining(device), device.native:
            return self.library.asarray(obj, dtype=native, device=device.native, copy=copy)

    def from_buffer(
        self, buffer: memoryview, dtype: DType, shape: tuple[int, ...], device: Device
    ) -> Array:
        """Return a copy of `buffer` in the memory of the device."""
        from tinyxp_cupy import _transfer

        refuse("data of the host are copied to the device; hand them in as an argument")
        host = np.frombuffer(buffer, dtype=self.native_dtype(dtype))
        with explaining(device):
            return _transfer.upload(host, device.native).reshape(shape)

    def receive(
        self, x: Array, dtype: DType, shape: tuple[int, ...], source: Device, target: Device
    ) -> Array:
        """Return `x`, of any backend, as a new array on `target`; between GPUs it does not pass the host."""
        if source.backend is not self:
            return self.from_buffer(source.backend.to_buffer(x), dtype, shape, target)
        from tinyxp_cupy import _transfer

        return _transfer.across(x, target.native)

    def to_buffer(self, x: Array) -> memoryview:
        """Return a copy of the bytes of `x` in host memory; waits for the GPU."""
        return np.ascontiguousarray(self.to_numpy(x)).reshape(-1).view(np.uint8).data

    def to_numpy(self, x: Array) -> Any:
        """Return a copy of `x` in host memory; waits for the GPU."""
        from tinyxp_cupy import _transfer

        with explaining():
            return _transfer.download(x)

    def to_dlpack(self, x: Array, **kwargs: Any) -> Any:
        """Return the DLPack capsule of `x`, or of a copy of it, on its device or on the CPU."""
        target = kwargs.get("dl_device")
        if target is None or tuple(map(int, target)) == tuple(map(int, x.__dlpack_device__())):
            if kwargs.get("copy"):  # which CuPy makes on the way to the CPU only
                with x.device:
                    x = x.copy()
            kwargs |= {"copy": None, "dl_device": None}
        elif kwargs.get("copy") is False:  # where CuPy raises a ValueError
            raise BufferError(
                f"__dlpack__ expects copy=True or None for memory of a GPU on device {target}; got copy=False"
            )
        return super().to_dlpack(x, **kwargs)

    def wrap(self, x: Any) -> Array:
        """Return a Python scalar as a 0-d array."""
        return self.cupy.asarray(x)

    def shares_memory(self, x: Array, y: Array) -> bool:
        """Whether a write into `x` would be seen through `y`."""
        return x.device == y.device and bool(np.shares_memory(_addresses(x), _addresses(y)))

    # ------------------------------------------------------------ tier 2
    def copy(self, x: Array, /) -> Array:
        """Return a copy of `x` in C order, on its device; CuPy's own is made on the current one."""
        if self._count == 1:
            with explaining():
                return x.copy()
        with explaining(), x.device:
            return x.copy()

    def erf(self, x: Array, /) -> Array:
        """Return the error function of each element of a real floating array."""
        if x.dtype not in (np.float32, np.float64):
            return super().erf(x)  # half precision in float32; CuPy itself gives float64
        from cupyx.scipy import special

        return special.erf(x)

    def special(self, name: str) -> Callable[..., Array]:
        """Return the function `name` of ``cupyx.scipy.special``."""
        from cupyx.scipy import special

        function = getattr(special, name, None)
        if function is None:
            raise AttributeError(f"CuPy has no special function {name!r}")

        def on_device(*args: Any) -> Array:
            given = [a for a in args if isinstance(a, self.cupy.ndarray)]
            first = next(a for a in given if a.dtype.kind not in "iu")
            with first.device:
                return function(*args).astype(first.dtype, copy=False)

        return on_device

    def getitem(self, x: Array, key: Any, /) -> Array:
        """Return ``x[key]`` by NumPy's rules; an index array out of bounds wraps round unseen."""
        try:
            return x[key]
        except ValueError as exc:  # index arrays that do not broadcast
            raise IndexError(str(exc)) from None

    def setitem(self, x: Array, key: Any, value: Any, /) -> None:
        """Write `value` to ``x[key]`` by NumPy's rules; of two values for one element the last stays."""
        items = key if isinstance(key, tuple) else (key,)
        if any(isinstance(i, self.cupy.ndarray) and i.dtype.kind in "iu" for i in items):
            scatter(self.xp, x, key, value, check=False)  # CuPy's own order is that of the threads
        else:
            zero = isinstance(value, float | complex) and not value  # CuPy would clear the memory
            x[key] = self.library.asarray(value) if zero else value

    def segment_sum(self, values: Array, indices: Array, size: int, /, *, axis: int = 0) -> Array:
        """Add slices of `values` into zeros, at `indices` along `axis`; repeated indices accumulate."""
        from tinyxp_cupy import _kernels

        if axis in (0, -values.ndim):
            return _kernels.segment_sum(values, indices, size)
        out = _kernels.segment_sum(self.cupy.moveaxis(values, axis, 0), indices, size)
        return self.cupy.moveaxis(out, 0, axis)

    # ------------------------------------------------------------ tier 3
    @cached_property
    def kernels(self) -> Any:
        """What computes fused operations."""
        from tinyxp_cupy._fused import Kernels

        return Kernels(self.xp)

    def threefry2x32(
        self, key0: int, key1: int, counter0: Array, counter1: Array, /
    ) -> tuple[Array, Array]:
        """Encrypt counters with Threefry-2x32, 20 rounds, in native 32-bit words."""
        from tinyxp_cupy import _kernels

        return _kernels.threefry2x32(key0, key1, counter0, counter1)


def _index(local: str) -> int:
    return int(local.partition(":")[2] or 0)


def _addresses(x: Array) -> Any:
    """Return an array of NumPy at the addresses of `x`: to compare them, never to read.

    ``cupy.shares_memory`` says yes of any two 0-d arrays (14.2).
    """
    interface = {
        "version": 3,
        "data": (x.data.ptr, True),
        "shape": x.shape,
        "strides": x.strides,
        "typestr": f"|V{x.itemsize}",
    }
    return np.asarray(SimpleNamespace(__array_interface__=interface))


def _bfloat16() -> Any:
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        return None
    return bfloat16

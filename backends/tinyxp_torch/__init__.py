"""The PyTorch backend of tinyxp: its tensors as arrays, its autograd unused."""

from __future__ import annotations

import math
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tinyxp import dtypes
from tinyxp._indexing import scatter
from tinyxp.backend import HOST, Backend, get_backend
from tinyxp.errors import DeviceUnavailableError, DTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from tinyxp.backend import Device
    from tinyxp.dtypes import DType

__all__ = ["TorchBackend"]

Array = Any

# PyTorch's names of what SciPy calls otherwise. Its other Bessel functions are not here: they are wrong in the
# seventh digit (bessel_j0 of 2.13 for arguments beyond 5), and so is its trigamma in the tenth.
_RENAMED = {
    **{name: f"modified_bessel_{name}" for name in ("k0", "k1")},
    **{f"{name}e": f"scaled_modified_bessel_{name}" for name in ("k0", "k1")},
}


class TorchBackend(Backend):
    """PyTorch tensors as arrays of the standard, on the CPU and on CUDA devices.

    No tensor that enters requires grad, so PyTorch records nothing and no global state changes.
    """

    name = "torch"
    repairs: ClassVar[frozenset[str]] = frozenset(
        {"acos", "can_cast", "expm1", "floor_divide", "log1p", "remainder", "tanh", "unique_all"}
    )

    @cached_property
    def torch(self) -> ModuleType:
        """The library itself, imported when the backend is first used."""
        try:
            import torch
        except ImportError as exc:
            raise DeviceUnavailableError(
                f"PyTorch is not installed ({exc}); type: pip install 'tinyxp[torch]'"
            ) from exc
        found: ModuleType = torch
        return found

    @cached_property
    def library(self) -> Any:
        """PyTorch's functions under the standard's names."""
        self.torch  # noqa: B018 - says what to install
        from tinyxp_torch import _namespace

        return _namespace.build(lambda: get_backend(HOST).xp)

    @property
    def array_type(self) -> type:
        """The class of PyTorch's tensors."""
        found: type = self.torch.Tensor
        return found

    @cached_property
    def native_dtypes(self) -> Mapping[str, Any]:
        """PyTorch's dtype objects."""
        found = {name: getattr(self.torch, name, None) for name in dtypes.type_names}
        return {name: native for name, native in found.items() if native is not None}

    # ------------------------------------------------------------ devices
    def devices(self) -> tuple[str, ...]:
        """Return the CPU and every CUDA device that PyTorch sees."""
        cuda = self.torch.cuda
        count = cuda.device_count() if cuda.is_available() else 0
        return ("cpu", *(f"cuda:{i}" for i in range(count)))

    def native_device(self, local: str) -> Any:
        """Return PyTorch's device object."""
        return self.torch.device(local)

    def device_of(self, x: Array) -> str:
        """Return the name of the device that `x` lives on."""
        return str(x.device)

    def synchronize(self, local: str | None = None) -> None:
        """Wait until a CUDA device is done; the CPU always is."""
        if local is not None and local.startswith("cuda"):
            self.torch.cuda.synchronize(local)

    def memory(self, local: str | None = None) -> dict[str, int]:
        """Return what PyTorch holds of a CUDA device, what of that is in use, and the total, in bytes."""
        if local is None or not local.startswith("cuda"):
            return {}
        cuda = self.torch.cuda
        free, total = cuda.mem_get_info(local)
        used, held = cuda.memory_allocated(local), cuda.memory_reserved(local)
        return {"used": used, "held": held, "free": free, "total": total}

    def empty_cache(self, local: str | None = None) -> None:
        """Give cached CUDA memory back."""
        if local is not None and local.startswith("cuda"):
            self.torch.cuda.empty_cache()

    def set_matmul_precision(self, precision: str) -> None:
        """Tell PyTorch, which knows the same names."""
        self.torch.set_float32_matmul_precision(precision)

    def describe(self) -> dict[str, str]:
        """Return PyTorch's version, its BLAS, and its threads."""
        torch = self.torch
        blas = "MKL" if torch.backends.mkl.is_available() else "unknown"
        return {"torch": torch.__version__, "blas": blas, "threads": str(torch.get_num_threads())}

    # ------------------------------------------------------------ in and out
    def asarray(
        self,
        obj: Any,
        *,
        dtype: DType | None = None,
        device: Device | None = None,
        copy: bool | None = None,
    ) -> Array:
        """Turn a number, nested sequence, buffer or array into a tensor that requires no grad."""
        if isinstance(obj, self.torch.Tensor):
            obj = obj.detach()
        elif isinstance(obj, np.generic | np.ndarray):
            obj = _writable(np.asarray(obj))
        return super().asarray(obj, dtype=dtype, device=device, copy=copy)

    def from_buffer(
        self, buffer: memoryview, dtype: DType, shape: tuple[int, ...], device: Device
    ) -> Array:
        """Return a copy of `buffer`: PyTorch has no read-only tensors."""
        native = self.native_dtype(dtype)
        if not math.prod(shape):
            return self.torch.empty(shape, dtype=native, device=device.native)
        flat = self.torch.frombuffer(bytearray(buffer), dtype=native)
        return flat.reshape(shape).to(device.native)

    def to_buffer(self, x: Array) -> memoryview:
        """Return the bytes of `x`, its own where it is in C order on the CPU."""
        flat = x.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
        return memoryview(flat.view(self.torch.uint8).numpy())

    def to_numpy(self, x: Array) -> Any:
        """Return `x` as an array of NumPy, of the same memory where it is on the CPU."""
        if x.dtype == self.torch.bfloat16:
            return super().to_numpy(x)
        return x.detach().resolve_conj().resolve_neg().cpu().numpy()

    def wrap(self, x: Any) -> Array:
        """Return a Python scalar as a 0-d tensor."""
        return self.torch.asarray(x)

    def shares_memory(self, x: Array, y: Array) -> bool:
        """Whether a write into `x` would be seen through `y`."""
        if x.untyped_storage().data_ptr() != y.untyped_storage().data_ptr():
            return False
        return bool(np.shares_memory(*(_addresses(t) for t in (x, y))))

    # ------------------------------------------------------------ tier 2
    def copy(self, x: Array, /) -> Array:
        """Return a copy of `x` in C order."""
        return x.clone(memory_format=self.torch.contiguous_format)

    def erf(self, x: Array, /) -> Array:
        """Return the error function of each element of a real floating array."""
        if not x.dtype.is_floating_point:
            raise DTypeError(f"erf expects a real floating array; got {dtypes.of(x.dtype)}")
        return self.torch.erf(x)

    def special(self, name: str) -> Callable[..., Array]:
        """Return PyTorch's special function `name`, or SciPy's, for tensors on the CPU, where it has none."""
        library = self.torch.special
        if name == "polygamma":
            return self._polygamma
        found: Callable[..., Array] | None = getattr(library, _RENAMED.get(name, name), None)
        if found is not None:
            return found
        host = super().special(name)

        def on_cpu(*args: Any) -> Array:
            for x in args:
                if isinstance(x, self.torch.Tensor) and x.device.type != "cpu":
                    raise AttributeError(f"PyTorch has no {name}, and SciPy cannot read {x.device}")
            return host(*args)

        return on_cpu

    def _polygamma(self, n: int, x: Array) -> Array:
        """Return the polygamma function, by the zeta function (NIST Handbook, equation 25.11.12)."""
        special = self.torch.special
        if n == 0:
            return special.digamma(x)
        return (-1) ** (n + 1) * math.factorial(n) * special.zeta(n + 1.0, x)

    def getitem(self, x: Array, key: Any, /) -> Array:
        """Return ``x[key]`` by NumPy's rules."""
        return x[key] if self._is_native(key) else super().getitem(x, key)

    def setitem(self, x: Array, key: Any, value: Any, /) -> None:
        """Write `value` to ``x[key]`` by NumPy's rules; of two values for one element the last stays."""
        signed = self._signed.get(x.dtype)
        if signed is not None:  # the same bits, for which PyTorch has all ways of writing
            value = self.torch.as_tensor(value, dtype=x.dtype, device=x.device)
            x, value = x.view(signed), value.view(signed)
        items = key if isinstance(key, tuple) else (key,)
        integers = (isinstance(i, self.torch.Tensor) and i.dtype != self.torch.bool for i in items)
        if self._is_native(key) and not any(integers):
            x[key] = value.to(x.dtype) if isinstance(value, self.torch.Tensor) else value
        else:
            scatter(self.xp, x, key, value)

    @cached_property
    def _signed(self) -> Mapping[Any, Any]:
        """The signed dtype for each unsigned one that PyTorch stores but hardly computes with."""
        torch = self.torch
        return {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}

    def _is_native(self, key: Any) -> bool:
        """Whether PyTorch's rules are NumPy's for `key`: no negative steps, and one array at most."""
        items = key if isinstance(key, tuple) else (key,)
        arrays = [i for i in items if isinstance(i, self.torch.Tensor)]
        backwards = any(isinstance(i, slice) and i.step is not None and i.step < 0 for i in items)
        if backwards or sum(i is Ellipsis for i in items) > 1:
            return False
        if not arrays:
            return not any(isinstance(i, bool) for i in items)
        if len(arrays) > 1 or any(isinstance(i, int) for i in items):
            return False
        (array,) = arrays
        if array.dtype == self.torch.bool:  # PyTorch refuses empty masks of other shapes
            return bool(array.ndim and array.numel())
        return bool(array.ndim and array.dtype == self.torch.int64)

    def segment_sum(self, values: Array, indices: Array, size: int, /, *, axis: int = 0) -> Array:
        """Add slices of `values` into zeros, at `indices` along `axis`; repeated indices accumulate."""
        half = values.dtype in (self.torch.float16, self.torch.bfloat16)  # summed in float32
        if half or values.device.type != "cpu":  # where index_add_ has no fixed order
            return super().segment_sum(values, indices, size, axis=axis)
        if len(indices) and (int(indices.min()) < -size or int(indices.max()) >= size):
            raise IndexError(f"segment_sum expects indices in [{-size}, {size}); some are outside")
        shape = list(values.shape)
        shape[axis] = size
        out = self.torch.zeros(shape, dtype=values.dtype)
        indices = self.torch.where(indices < 0, indices + size, indices)
        return out.index_add_(axis, indices, values)


def _writable(x: Any) -> Any:
    """Return `x`, or a copy of it where it is read-only or has negative strides."""
    return x if x.flags.writeable and all(s >= 0 for s in x.strides) else x.copy()


def _addresses(x: Array) -> Any:
    """Return an array of NumPy at the addresses of `x`, on whatever device: to compare, never to read."""
    size = x.element_size()
    interface = {
        "version": 3,
        "data": (x.data_ptr(), True),
        "shape": tuple(x.shape),
        "strides": tuple(size * s for s in x.stride()),
        "typestr": f"|V{size}",
    }
    return np.asarray(SimpleNamespace(__array_interface__=interface))

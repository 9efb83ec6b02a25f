"""The NumPy backend of tinyxp: arrays on the CPU."""

from __future__ import annotations

import cmath
import operator
import warnings
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tinyxp import dtypes
from tinyxp.backend import Backend, with_kernels
from tinyxp_numpy import _extras, _memory, _namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tinyxp.backend import Device
    from tinyxp.dtypes import DType

__all__ = ["NumpyBackend"]

Array = Any
# NumPy's function without the look for arrays of other libraries, which takes as long as 64 elements do.
_vdot: Any = getattr(np.vdot, "_implementation", np.vdot)


def _of_old() -> frozenset[str]:
    """Return the repairs that only older releases of NumPy need: up to 2.2, acosh of NaN i is NaN + NaN i."""
    with np.errstate(all="ignore"):
        wrong = np.isnan(np.arccosh(complex(0.0, float("nan"))).imag)
    return frozenset({"acosh"} if wrong else ())


@with_kernels
class NumpyBackend(Backend):
    """NumPy on the CPU: the host backend, through which files, plots and lists are reached."""

    name = "numpy"
    short_names: ClassVar[tuple[str, ...]] = ("cpu",)
    repairs: ClassVar[frozenset[str]] = frozenset({"expm1", "floor_divide", "tanh"}) | _of_old()

    @cached_property
    def library(self) -> Any:
        """NumPy's functions under the standard's names."""
        _memory.keep_pages()
        return _namespace.build()

    @property
    def array_type(self) -> type:
        """The class of NumPy's arrays."""
        return np.ndarray

    @cached_property
    def native_dtypes(self) -> Mapping[str, Any]:
        """NumPy's dtype objects, with bfloat16 where ml_dtypes is installed."""
        scalars = {name: getattr(np, name, None) for name in dtypes.type_names}
        scalars["bfloat16"] = _bfloat16()
        present = {name: scalar for name, scalar in scalars.items() if scalar is not None}
        for name, scalar in present.items():
            dtypes.register(scalar, name)  # numpy.float32 is as good as numpy.dtype("float32")
        return {name: np.dtype(scalar) for name, scalar in present.items()}

    def asarray(
        self,
        obj: Any,
        *,
        dtype: DType | None = None,
        device: Device | None = None,  # noqa: ARG002 - there is one
        copy: bool | None = None,
    ) -> Array:
        """Turn a number, nested sequence, buffer or array into an array."""
        return np.asarray(obj, dtype=None if dtype is None else self.native_dtype(dtype), copy=copy)

    def from_buffer(
        self,
        buffer: memoryview,
        dtype: DType,
        shape: tuple[int, ...],
        device: Device,  # noqa: ARG002 - there is one
    ) -> Array:
        """Return an array over `buffer` itself: nothing is copied, and a read-only buffer stays so."""
        return np.frombuffer(buffer, dtype=self.native_dtype(dtype)).reshape(shape)

    def to_buffer(self, x: Array) -> memoryview:
        """Return the bytes of `x`, its own where it is in C order."""
        return np.ascontiguousarray(x).reshape(-1).view(np.uint8).data

    def to_numpy(self, x: Array) -> Array:
        """Return `x` itself."""
        return x

    def quiet(self) -> Any:
        """Return a context in which NumPy does not warn of infinite and NaN results."""
        return np.errstate(all="ignore")

    def surely_finite(self, x: Array, y: Array | None = None) -> bool:
        """Whether the sum of all squares, or of the products with `y`, is finite: one pass over both.

        A product with an infinity or NaN is one, also where the other factor is 0.
        """
        if x.dtype.char not in "fdFD":  # half precision: products overflow
            return False
        return cmath.isfinite(_vdot(x, x if y is None else y))

    def wrap(self, x: Any) -> Array:
        """Return NumPy's scalar as a 0-d array."""
        return np.asarray(x)

    def shares_memory(self, x: Array, y: Array) -> bool:
        """Whether a write into `x` would be seen through `y`."""
        return bool(np.shares_memory(x, y))

    def format(self, x: Array) -> str:
        """Return the elements as NumPy prints them, for the repr of a Tensor."""
        return np.array2string(x, separator=", ", prefix="tensor(", threshold=1000)

    def set_threads(self, n: int) -> int | None:
        """Let the BLAS use `n` threads; return how many it used, None if it cannot be told."""
        from tinyxp_numpy import _blas

        if operator.index(n) < 1:
            raise ValueError(f"set_threads expects n, at least 1; got {n}")
        if self.kernels is not None:
            from tinyxp_numpy import _pool  # compiled itself

            _pool.set_threads(n)
        return _blas.set_threads(n)

    def describe(self) -> dict[str, str]:
        """Return NumPy's version, its BLAS, and the threads that the BLAS uses."""
        from tinyxp_numpy import _blas

        return {"numpy": np.__version__, **_blas.describe()}

    # ------------------------------------------------------------ tier 2
    getitem: Callable[..., Array] = staticmethod(operator.getitem)
    setitem: Callable[..., None] = staticmethod(operator.setitem)
    iadd: Callable[..., Array] = staticmethod(operator.iadd)

    def copy(self, x: Array, /) -> Array:
        """Return a copy of `x` in C order."""
        return x.copy()

    def erf(self, x: Array, /) -> Array:
        """Return the error function of each element, SciPy's where it is installed."""
        special = _special()
        if special is None or x.dtype not in (np.float32, np.float64):
            return super().erf(x)  # half precision in float32; SciPy itself gives float64
        return special.erf(x)

    def special(self, name: str) -> Callable[..., Array]:
        """Return SciPy's function `name` as one that keeps the dtype and warns of nothing."""
        library = _special()
        if library is None:
            raise ModuleNotFoundError(
                f"tinyxp.special.{name} is computed by SciPy, which is not installed; "
                "type: pip install 'tinyxp[special]'"
            )
        function = getattr(library, name)

        def keeping_dtype(*args: Any) -> Array:
            with np.errstate(all="ignore"):
                out = np.asarray(function(*args))
            given = (a.dtype for a in args if hasattr(a, "dtype"))
            return out.astype(next(d for d in given if d.kind not in "iu"), copy=False)

        return keeping_dtype

    def segment_sum(self, values: Array, indices: Array, size: int, /, *, axis: int = 0) -> Array:
        """Add slices of `values` into zeros, at `indices` along `axis`; repeated indices accumulate."""
        if values.dtype.itemsize == 2 and values.dtype.kind in "fV":  # noqa: PLR2004 - bytes
            return super().segment_sum(values, indices, size, axis=axis)
        if axis in (0, -values.ndim):
            return _extras.segment_sum(values, indices, size)
        out = _extras.segment_sum(np.moveaxis(values, axis, 0), indices, size)
        return np.moveaxis(out, 0, axis)

    # ------------------------------------------------------------ tier 3
    @cached_property
    def kernels(self) -> Any:
        """What computes fused operations: kernels where Numba is installed, else the defaults."""
        try:
            from tinyxp_numpy._fused import Kernels
        except ModuleNotFoundError as e:
            if (e.name or "").partition(".")[0] not in {"numba", "llvmlite"}:
                raise
            return None
        except ImportError as e:  # as Numba says that it does not know this NumPy yet
            warnings.warn(f"NumPy's compiled kernels are off: {e}", RuntimeWarning, stacklevel=2)
            return None
        return Kernels(self.xp)

    def threefry2x32(
        self, key0: int, key1: int, counter0: Array, counter1: Array, /
    ) -> tuple[Array, Array]:
        """Encrypt counters with Threefry-2x32, 20 rounds, in native 32-bit words."""
        return _extras.threefry2x32(key0, key1, counter0, counter1)


def _bfloat16() -> Any:
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        return None
    return bfloat16


@cache
def _special() -> Any:
    try:
        from scipy import special
    except ImportError:
        return None
    return special

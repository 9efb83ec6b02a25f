"""A backend for tinyxp that computes with NumPy and counts the calls of every function."""

from __future__ import annotations

from collections import Counter
from functools import cached_property, wraps
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import array_api_compat.numpy as compat
import numpy as np

from tinyxp import dtypes
from tinyxp.backend import Backend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tinyxp.backend import Device
    from tinyxp.dtypes import DType

__all__ = ["CountingBackend"]

Array = Any


class CountingBackend(Backend):
    """NumPy with a tally.

    Attributes
    ----------
    calls : Counter of str
        How often each function of the standard was called; ``calls.clear()`` starts anew.
    """

    name = "counting"
    # NumPy's deviations from the standard, which tinyxp knows how to correct.
    repairs: ClassVar[frozenset[str]] = frozenset({"acosh", "expm1", "floor_divide", "tanh"})

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    @cached_property
    def library(self) -> Any:
        """NumPy's functions under the standard's names, each counted."""
        return SimpleNamespace(
            **self._counted(compat, ""),
            **{
                name: SimpleNamespace(**self._counted(getattr(compat, name), f"{name}."))
                for name in ("linalg", "fft")
            },
        )

    def _counted(self, module: Any, prefix: str) -> dict[str, Any]:
        public = {n: getattr(module, n) for n in dir(module) if not n.startswith("_")}
        return {
            n: self._count(prefix + n, f) if callable(f) and not isinstance(f, type) else f
            for n, f in public.items()
            if not isinstance(f, ModuleType)
        }

    def _count(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            return function(*args, **kwargs)

        return counted

    @property
    def array_type(self) -> type:
        """The class of the arrays."""
        return np.ndarray

    @cached_property
    def native_dtypes(self) -> Mapping[str, Any]:
        """NumPy's dtype object for each name that it knows."""
        return {n: np.dtype(n) for n in dtypes.type_names if n != "bfloat16"}

    def from_buffer(
        self,
        buffer: memoryview,
        dtype: DType,
        shape: tuple[int, ...],
        device: Device,  # noqa: ARG002 - there is one
    ) -> Array:
        """Return an array over the bytes of `buffer`."""
        return np.frombuffer(buffer, dtype=self.native_dtype(dtype)).reshape(shape)

    def to_buffer(self, x: Array) -> memoryview:
        """Return the bytes of `x` in C order."""
        return np.ascontiguousarray(x).reshape(-1).view(np.uint8).data

    def shares_memory(self, x: Array, y: Array) -> bool:
        """Whether a write into `x` would be seen through `y`."""
        return bool(np.shares_memory(x, y))

    def describe(self) -> dict[str, str]:
        """Return what ``tinyxp info`` prints."""
        return {"numpy": np.__version__, "calls": str(self.calls.total())}

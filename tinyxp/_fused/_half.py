"""Half precision inside of the fused operations: conversions, and float32 where it counts."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from tinyxp import dtypes
from tinyxp.errors import DTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._base import Array

__all__ = [
    "cast",
    "cast_all",
    "cast_back",
    "forward_in_float32",
    "in_float32",
    "is_half",
    "vjp_in_float32",
    "widened",
]

F = TypeVar("F", bound="Callable[..., Any]")


def cast(xp: Any, x: Array, name: str) -> Array:
    """Return `x` in the dtype called `name`, `x` itself if that is its own.

    Raises
    ------
    DTypeError
        If the library has no such dtype.
    """
    if dtypes.of(x.dtype).name == name:
        return x
    native = getattr(xp, name, None)
    if native is None:
        raise DTypeError(f"this backend has no dtype {name}; NumPy's bfloat16 needs ml_dtypes")
    return xp.astype(x, native)


def cast_all(xp: Any, arrays: Sequence[Array | None], name: str) -> tuple[Array | None, ...]:
    """Return all `arrays` in the dtype called `name`; None stays None."""
    return tuple(None if x is None else cast(xp, x, name) for x in arrays)


def cast_back(xp: Any, x: Array, like: Array) -> Array:
    """Return `x` in the dtype of `like`."""
    return x if x.dtype == like.dtype else xp.astype(x, like.dtype)


# ---------------------------------------------------------------- float32 inside
def is_half(x: Any) -> bool:
    """Whether `x` is an array in half precision."""
    if not hasattr(x, "dtype"):
        return False
    d = dtypes.of(x.dtype)
    return d.itemsize == 2 and d.kind == "f"  # noqa: PLR2004 - bytes


def widened(xp: Any, x: Any) -> Any:
    """Return an array in half precision as float32, anything else as it is."""
    return cast(xp, x, "float32") if is_half(x) else x


def _rounds(x: Array, arrays: Sequence[Any]) -> bool:
    """Whether the result has the dtype of `x`: no other array is of a wider one."""
    found = (a.dtype for a in arrays if hasattr(a, "dtype"))
    return all(d == x.dtype for d in found if dtypes.of(d).kind == "f")


def in_float32(definition: F) -> F:
    """Let a composite compute in float32 where its first array is in half precision, and round the result."""

    @wraps(definition)
    def composite(xp: Any, x: Array, *arrays: Any, **options: Any) -> Array:
        if not is_half(x):
            return definition(xp, x, *arrays, **options)
        out = definition(xp, widened(xp, x), *(widened(xp, a) for a in arrays), **options)
        return cast_back(xp, out, x) if _rounds(x, arrays) else out

    return composite  # type: ignore[return-value]  # called as the definition is


def forward_in_float32(method: F) -> F:
    """Do what `in_float32` does for a default; what it keeps for its vjp stays in float32."""

    @wraps(method)
    def forward(self: Any, x: Array, *arrays: Any, **options: Any) -> tuple[Array, Any]:
        if not is_half(x):
            found: tuple[Array, Any] = method(self, x, *arrays, **options)
            return found
        xp = self.xp
        out, aux = method(self, widened(xp, x), *(widened(xp, a) for a in arrays), **options)
        return (cast_back(xp, out, x) if _rounds(x, arrays) else out), aux

    return forward  # type: ignore[return-value]  # called as the method is


def vjp_in_float32(method: F) -> F:
    """Let the vjp of a default compute in float32 too, and round each cotangent to the dtype of its array."""

    @wraps(method)
    def vjp(
        self: Any, g: Array, out: Array, aux: Any, x: Array, *arrays: Any, **options: Any
    ) -> tuple[Array | None, ...]:
        if not is_half(x):
            found: tuple[Array | None, ...] = method(self, g, out, aux, x, *arrays, **options)
            return found
        xp, given = self.xp, (x, *arrays)
        found = method(
            self, widened(xp, g), widened(xp, out), aux, *(widened(xp, a) for a in given), **options
        )
        pairs = zip(found, given, strict=True)
        return tuple(None if y is None else cast_back(xp, y, a) for y, a in pairs)

    return vjp  # type: ignore[return-value]  # called as the method is

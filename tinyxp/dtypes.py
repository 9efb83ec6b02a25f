"""Backend-neutral dtype objects of the standard, with bfloat16 and float16, and their promotion.

A `DType` equals the dtype objects of every loaded library (``tinyxp.float32 == numpy.dtype("float32")``,
``tinyxp.float32 == torch.float32``) and hashes like NumPy's. Libraries register theirs when their backend
loads; nothing here imports one.
"""

from __future__ import annotations

import contextvars
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyxp.errors import DTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "DType",
    "DTypeLike",
    "default_dtype",
    "dtype",
    "get_default_dtype",
    "set_default_dtype",
]


class DType:
    """A data type of the standard.

    Attributes
    ----------
    name : str
        The standard's name, such as ``"float32"``.
    kind : str
        ``"b"`` bool, ``"i"`` signed, ``"u"`` unsigned, ``"f"`` real floating, ``"c"`` complex floating.
    itemsize : int
        Bytes per element.

    Examples
    --------
    >>> import tinyxp
    >>> tinyxp.float32
    tinyxp.float32
    >>> tinyxp.float32 == "float32", tinyxp.float32.itemsize
    (True, 4)
    """

    __slots__ = ("itemsize", "kind", "name")

    def __init__(self, name: str, kind: str, itemsize: int) -> None:
        self.name, self.kind, self.itemsize = name, kind, itemsize

    def __repr__(self) -> str:
        return f"tinyxp.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        found = _find(other)
        return (
            NotImplemented if found is None else found is self
        )  # NumPy's may know better: see `dtype`

    def __hash__(self) -> int:
        try:
            return hash(self.dtype)
        except DTypeError:  # the host library has no such dtype
            return hash(self.name)

    def __reduce__(self) -> tuple[Callable[[str], DType], tuple[str]]:
        return dtype, (self.name,)

    @property
    def dtype(self) -> Any:
        """The host library's dtype object (NumPy reads this, so ``numpy.dtype(tinyxp.float32)`` works)."""
        return _host_dtype(self) if _host_dtype is not None else self.name


type_names = {
    "bool": DType("bool", "b", 1),
    **{f"int{8 * n}": DType(f"int{8 * n}", "i", n) for n in (1, 2, 4, 8)},
    **{f"uint{8 * n}": DType(f"uint{8 * n}", "u", n) for n in (1, 2, 4, 8)},
    "float16": DType("float16", "f", 2),
    "bfloat16": DType("bfloat16", "f", 2),
    "float32": DType("float32", "f", 4),
    "float64": DType("float64", "f", 8),
    "complex64": DType("complex64", "c", 8),
    "complex128": DType("complex128", "c", 16),
}
DTypeLike = Any  # a DType, its name, or a loaded library's dtype object

# Library dtype objects by their class and by the root of their class: array-api-strict's hash like NumPy's
# and warn when compared with them; NumPy has several classes of equal dtypes (``"l"`` and ``"q"``).
_native: dict[type, dict[Any, DType]] = {}
# Set by tinyxp.backend, which stands above this module: the host library's dtype object for a DType.
_host_dtype: Callable[[DType], Any] | None = None


def register(native: Any, name: str) -> None:
    """Make the library dtype object `native` equal to the DType called `name`."""
    for kind in (type(native), _root(type(native))):
        _native.setdefault(kind, {})[native] = type_names[name]


def _root(kind: type) -> type:
    """Return the last class before `object` that `kind` inherits from."""
    return kind.__mro__[max(-2, -len(kind.__mro__))]


def _find(spec: object) -> DType | None:
    if isinstance(spec, str):
        return type_names.get(spec)
    if isinstance(spec, DType):
        return spec
    kind = type(spec)
    try:
        found = _native.get(kind, {}).get(spec) or _native.get(_root(kind), {}).get(spec)
    except TypeError:  # unhashable
        return None
    if found is not None:
        _native.setdefault(kind, {})[spec] = found
    return found


def dtype(spec: DTypeLike, /) -> DType:
    """Return the DType that `spec` means.

    Parameters
    ----------
    spec : DType, str, or a dtype object of a loaded library
        What to look up.

    Raises
    ------
    DTypeError
        If `spec` names no dtype that tinyxp has.

    Examples
    --------
    >>> dtype("int64")
    tinyxp.int64
    """
    found = _find(spec)
    if found is None and _host_dtype is not None:
        _host_dtype(type_names["bool"])  # the host library registers its dtypes when it loads
        found = _find(spec)
    if found is None:
        raise DTypeError(f"no dtype {spec!r}; tinyxp has {', '.join(type_names)}")
    return found


def of(native: Any) -> DType:
    """Return the DType of a library dtype object (the fast path of `dtype`)."""
    try:
        return _native[type(native)][native]
    except KeyError:
        return dtype(native)


# ---------------------------------------------------------------- the default floating dtype
_default = type_names["float32"]
_context: contextvars.ContextVar[DType | None] = contextvars.ContextVar(
    "tinyxp_dtype", default=None
)


def _floating(spec: DTypeLike) -> DType:
    d = dtype(spec)
    if d.kind != "f":
        raise DTypeError(f"the default dtype must be a real floating one; got {d}")
    return d


def set_default_dtype(spec: DTypeLike, /) -> None:
    """Make `spec` the dtype that Python floats take, in the whole process.

    Examples
    --------
    >>> set_default_dtype("float32")
    """
    global _default  # noqa: PLW0603 - process-wide by definition
    _default = _floating(spec)


def get_default_dtype() -> DType:
    """Return the dtype that Python floats take (float32 unless changed).

    Examples
    --------
    >>> get_default_dtype()
    tinyxp.float32
    """
    return _context.get() or _default


@contextmanager
def default_dtype(spec: DTypeLike, /) -> Iterator[DType]:
    """Make `spec` the dtype that Python floats take inside a ``with`` block.

    Examples
    --------
    >>> with default_dtype("float64") as d:
    ...     get_default_dtype()
    tinyxp.float64
    """
    d = _floating(spec)
    token = _context.set(d)
    try:
        yield d
    finally:
        _context.reset(token)


def default_of_kind(kind: str) -> DType:
    """Return the dtype that Python numbers of `kind` take."""
    if kind == "f":
        return get_default_dtype()
    if kind == "c":
        return _by("c", max(8, 2 * get_default_dtype().itemsize))
    return type_names["bool" if kind == "b" else "int64"]


# ---------------------------------------------------------------- promotion
KIND_OF_SCALAR: dict[type, str] = {bool: "b", int: "i", float: "f", complex: "c"}
RANK = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


def _by(kind: str, itemsize: int) -> DType:
    return next(d for d in type_names.values() if d.kind == kind and d.itemsize == itemsize)


def _promote_integers(a: DType, b: DType) -> DType:
    signed, unsigned = (a, b) if a.kind == "i" else (b, a)
    size = max(signed.itemsize, 2 * unsigned.itemsize)
    if size > 8:  # noqa: PLR2004 - no integer holds both int64 and uint64
        raise DTypeError(
            f"{a} and {b} have no common integer dtype; cast one of them with tinyxp.astype first"
        )
    return _by("i", size)


def promote(a: DType, b: DType) -> DType:
    """Return the dtype that `a` and `b` promote to.

    The standard's table, and where the standard leaves the result open: bool adapts to any number, an
    integer to the floating dtype it meets, and float16 with bfloat16 gives float32.
    """
    if a is b:
        return a
    low, high = sorted((a, b), key=lambda d: (RANK[d.kind], d.itemsize))
    if RANK[low.kind] < RANK[high.kind]:
        if low.kind == "f":  # real with complex
            return _by("c", max(2 * low.itemsize, high.itemsize))
        return high
    if low.kind != high.kind:
        return _promote_integers(low, high)
    if low.itemsize == high.itemsize:  # float16 with bfloat16
        return type_names["float32"]
    return high


# ---------------------------------------------------------------- finfo and iinfo
class finfo_object(NamedTuple):  # noqa: N801 - the standard's name
    """Limits of a floating dtype, as Python numbers (complex: those of its components)."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


class iinfo_object(NamedTuple):  # noqa: N801 - the standard's name
    """Limits of an integer dtype, as Python numbers."""

    bits: int
    max: int
    min: int
    dtype: DType


# stored mantissa bits and largest exponent (IEEE 754-2019, table 3.5; bfloat16: 8 exponent bits)
_FORMAT = {"float16": (10, 15), "bfloat16": (7, 127), "float32": (23, 127), "float64": (52, 1023)}
_COMPONENT = {"complex64": "float32", "complex128": "float64"}


def finfo(d: DType) -> finfo_object:
    """Return the limits of the floating dtype `d`."""
    real = type_names[_COMPONENT.get(d.name, d.name)]
    if real.kind != "f":
        raise DTypeError(f"finfo expects a floating dtype; got {d}; iinfo takes the integer ones")
    mantissa, top = _FORMAT[real.name]
    largest = math.ldexp(2.0 - 2.0**-mantissa, top)
    return finfo_object(
        8 * real.itemsize, 2.0**-mantissa, largest, -largest, 2.0 ** (1 - top), real
    )


def iinfo(d: DType) -> iinfo_object:
    """Return the limits of the integer dtype `d`."""
    if d.kind not in "iu":
        raise DTypeError(f"iinfo expects an integer dtype; got {d}; finfo takes the floating ones")
    bits = 8 * d.itemsize
    low, high = (0, 2**bits - 1) if d.kind == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return iinfo_object(bits, high, low, d)

"""What libraries that run on Tensors need beyond the standard, each with who needs it.

SciPy, scikit-learn, array-api-extra and einops take their functions from ``x.__array_namespace__()``, and the
standard is nearly all they ask for. The rest is here, or named here where it must be part of something else:

- ``tinyxp.special`` (a package of its own). SciPy looks for ``xp.special.name`` before it falls back to its
  compiled functions, which could not be differentiated.
- `PYTHON_TYPES`: ``dtype=bool`` is written all over SciPy.
- `logspace`: SciPy's tests of `scipy.differentiate` call ``xp.logspace``.
- `diag`: SciPy's RBFInterpolator calls ``xp.diag``.
- `refuse_numbers`: a few functions turn an argument into a Python float, where its gradient ends; under this
  they raise.
- ``xp.result_type`` of Python numbers alone, and ``xp.linspace`` between Tensors: SciPy's freqs and histograms.
- `view`: SciPy's RBFInterpolator reads complex numbers as pairs of real ones, ``d.view(float)``, and back.
- ``x.real`` and ``x.imag``: SciPy's tests of the same, and whoever knows NumPy or PyTorch.
- `support_einops`: einops asks for a class that says how to handle an array; `einops.array_api` does not.
- `parts`: ``numpy.testing.assert_equal`` takes a complex dtype object apart, in SciPy's tests.
- Reductions such as ``x.sum`` take ``out=None`` and ``dtype=None``: ``numpy.sum(x)`` passes them, and so does
  SciPy's fixed_quad.
- Operators leave an operand with ``__array_ufunc__ = None`` to itself: SciPy's LinearOperator says so.
- In-place operators cast within a kind, as NumPy's do: SciPy's nsum adds int64 to int32.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes, ops
from tinyxp._core import Tensor
from tinyxp._interchange import NUMBERS
from tinyxp.errors import DTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tinyxp.dtypes import DType

__all__ = [
    "PYTHON_TYPES", "diag", "logspace", "parts", "refuse_numbers", "support_einops", "view",
]  # fmt: skip

# Python's types as dtypes: what NumPy and PyTorch understand by them, whatever the default dtype is.
PYTHON_TYPES: dict[type, str] = {
    bool: "bool",
    int: "int64",
    float: "float64",
    complex: "complex128",
}


def logspace(
    start: float, stop: float, /, num: int = 50, *, base: float = 10.0, **options: Any
) -> Tensor:
    """Return numbers whose logarithms are evenly spaced.

    Parameters
    ----------
    start, stop : float
        Logarithms of the first and of the last.
    num : int
        How many.
    base : float
        Of the logarithms.
    **options
        Those of `linspace`: ``dtype``, ``device``, ``endpoint``.

    Returns
    -------
    Tensor, shape (num,)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.logspace(0.0, 2.0, 3).tolist()
    [1.0, 10.0, 100.0]
    """
    found: Tensor = ops.pow(base, ops.linspace(start, stop, num, **options))
    return found


def diag(x: Tensor, /, *, k: int = 0) -> Tensor:
    """Return the diagonal of a matrix, or the matrix that has `x` on its diagonal.

    Parameters
    ----------
    x : Tensor, shape (n,) or (n, m)
    k : int
        Which diagonal: above the main one where positive.

    Returns
    -------
    Tensor
        Of shape (n + abs(k), n + abs(k)) for a vector.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.diag(xp.Tensor([1.0, 2.0])).tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    >>> xp.diag(xp.Tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [1.0, 4.0]
    """
    if x.ndim != 1:
        return ops.linalg.diagonal(x, offset=k)
    n = x.shape[0] + abs(k)
    out = ops.zeros((n, n), dtype=x.dtype, device=x.device)
    places = ops.arange(x.shape[0], device=x.device)
    out[places + max(-k, 0), places + max(k, 0)] = x
    return out


@contextmanager
def refuse_numbers() -> Iterator[None]:
    """Let ``float(x)`` and ``complex(x)`` raise for Tensors that require grad.

    Otherwise they are allowed, since programs decide by them what to do next; but a result that was computed
    from the Python number does not depend on the Tensor any more.

    Raises
    ------
    GradientRequiredError
        Inside, by ``float(x)``, ``math.log(x)`` and whatever else asks for a number.

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.Tensor(2.0, requires_grad=True)
    >>> with xp.consumers.refuse_numbers():
    ...     float(x.detach())
    2.0
    """
    before = NUMBERS.refused
    NUMBERS.refused = True
    try:
        yield
    finally:
        NUMBERS.refused = before


def view(x: Tensor, *shape: Any) -> Tensor:
    """Return `x` in another shape (as in PyTorch), or its numbers as those of another dtype (as in NumPy).

    Parameters
    ----------
    x : Tensor, shape (..., n)
    *shape : int or dtype
        The new shape, or one dtype: that of `x`, that of the real and imaginary parts of a complex `x`, or the
        one whose parts are those of a real `x`.

    Returns
    -------
    Tensor
        Given a dtype, of shape (..., n); (..., 2 n) from complex to real, real and imaginary parts in turn;
        (..., n / 2) from real to complex.

    Raises
    ------
    DTypeError
        For any other dtype: the bits mean something else there, and nothing could be differentiated.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.asarray([1 + 2j, 3 - 1j]).view(xp.float32).tolist()
    [1.0, 2.0, 3.0, -1.0]
    """
    d = _as_dtype(shape)
    if d is None:
        return _reshape(x, *shape)
    if d is x.dtype:
        return ops.reshape(x, x.shape)
    if x.dtype.kind == "c" and d is parts(x.dtype):
        pairs = ops.stack([ops.real(x), ops.imag(x)], axis=-1)
        return ops.reshape(pairs, (*x.shape[:-1], -1))
    if d.kind == "c" and x.dtype is parts(d):
        found: Tensor = x[..., ::2] + ops.astype(x[..., 1::2], d) * 1j
        return found
    raise DTypeError(
        f"x.view expects a shape, the dtype of x, or that of its real and imaginary parts; got {d} for {x.dtype}; "
        "x.astype converts numbers"
    )


_reshape: Callable[..., Tensor] = Tensor.reshape


def _as_dtype(shape: tuple[Any, ...]) -> DType | None:
    if len(shape) != 1 or isinstance(shape[0], (int, tuple, list)):
        return None
    return dtypes._find(shape[0])


def parts(d: DType) -> DType:
    """Return the dtype of the real and of the imaginary parts; `d` itself where it is real.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.consumers.parts(xp.complex64)
    tinyxp.float32
    """
    return dtypes.type_names[f"float{4 * d.itemsize}"] if d.kind == "c" else d


# A class remembers those derived from it only as long as somebody else does.
_FOR_EINOPS: list[type] = []


def support_einops() -> None:
    """Let the functions of einops take Tensors; those of ``einops.array_api`` do without.

    einops looks through the classes derived from its own, so that to define one is enough.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.consumers.support_einops()  # doctest: +SKIP
    """
    if _FOR_EINOPS:
        return
    from einops._backends import AbstractBackend  # type: ignore[import-not-found,unused-ignore]  # optional, not installed where types are checked

    class TinyxpBackend(AbstractBackend):  # type: ignore[misc,unused-ignore]  # einops has no types
        """Tensors for einops."""

        framework_name = "tinyxp"

        def is_appropriate_type(self, tensor: Any) -> bool:
            """Whether it is a Tensor."""
            return isinstance(tensor, Tensor)

    made: dict[str, Any] = {
        "from_numpy": lambda _, x: ops.asarray(x),
        "to_numpy": lambda _, x: x.numpy(),
        "arange": lambda _, start, stop: ops.arange(start, stop),
        "stack_on_zeroth_dimension": lambda _, tensors: ops.stack(tensors),
        "tile": lambda _, x, repeats: ops.tile(x, tuple(repeats)),
        "concat": lambda _, tensors, axis: ops.concat(tensors, axis=axis),
        "add_axis": lambda _, x, place: ops.expand_dims(x, axis=place),
        "is_float_type": lambda _, x: x.dtype.kind == "f",
        "einsum": lambda _, pattern, *x: ops.einsum(pattern, *x),
    }
    for name, method in made.items():
        setattr(TinyxpBackend, name, method)
    _FOR_EINOPS.append(TinyxpBackend)


# ---------------------------------------------------------------- where consumers look for them
for _type, _name in PYTHON_TYPES.items():
    dtypes.register(_type, _name)
Tensor.real, Tensor.imag = property(ops.real), property(ops.imag)
Tensor.view = view
dtypes.DType.real = dtypes.DType.imag = property(parts)  # type: ignore[attr-defined]  # put on from outside, openly

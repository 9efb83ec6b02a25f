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
- `view`: SciPy's RBFInterpolator reads complex numbers as pairs of real ones, ``d.view(float)``.
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
    from collections.abc import Iterator

    from tinyxp.dtypes import DType

__all__ = ["PYTHON_TYPES", "diag", "logspace", "parts", "refuse_numbers", "view"]

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
        The new shape, or one dtype: that of `x`, or the one of the real and imaginary parts of a complex `x`.

    Returns
    -------
    Tensor
        Given a dtype, of shape (..., n), or (..., 2 n) for a complex `x`: real and imaginary parts in turn.

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
    have = x.dtype
    if d is have:
        return ops.reshape(x, x.shape)
    if have.kind != "c" or d is not parts(have):
        raise DTypeError(
            f"x.view expects a shape, the dtype of x or that of its real parts; got {d} for {have}; "
            "x.astype converts numbers"
        )
    pairs = ops.stack([ops.real(x), ops.imag(x)], axis=-1)
    return ops.reshape(pairs, (*x.shape[:-1], -1))


_reshape = Tensor.reshape


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


# ---------------------------------------------------------------- where consumers look for them
for _type, _name in PYTHON_TYPES.items():
    dtypes.register(_type, _name)
Tensor.view = view  # type: ignore[method-assign,assignment]
dtypes.DType.real = dtypes.DType.imag = property(parts)  # type: ignore[attr-defined]

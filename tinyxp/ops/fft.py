"""The standard's extension for Fourier transforms, real and complex, all of them differentiable.

Transforms over several axes are made of those over one, and `hfft`, `ihfft` of `irfft`, `rfft`. `norm` says
which of the two directions is divided by the number n of elements: "backward" the inverse one, "forward" the
other, "ortho" both, by sqrt(n). Single precision stays single.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp import ops as _ops
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.ops import _dispatch
from tinyxp.ops._manipulation import normalize_axes, normalize_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyxp._core import Tensor
    from tinyxp.backend import Device

__all__ = [
    "fft", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifftn", "ifftshift", "ihfft", "irfft",
    "irfftn", "rfft", "rfftfreq", "rfftn",
]  # fmt: skip

ops: Any = _ops  # complete only when all of its modules are imported
as_tensor: Any = _dispatch.as_tensor

# The norm with which the transform in the other direction has the same factor.
OPPOSITE = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


# ---------------------------------------------------------------- arguments
def _complex(x: Any, name: str) -> Any:
    """Return `x` in complex numbers of its precision."""
    x = as_tensor(x)
    if x.dtype.kind == "f":
        return ops.astype(x, dtypes.promote(x.dtype, dtypes.dtype("complex64")))
    if x.dtype.kind != "c":
        raise DTypeError(
            f"fft.{name} expects a floating Tensor; got dtype {x.dtype}; convert it with x.to('float32')"
        )
    return x


def _real(x: Any, name: str) -> Any:
    """Return `x` as a Tensor of real numbers."""
    x = as_tensor(x)
    if x.dtype.kind != "f":
        raise DTypeError(f"fft.{name} expects a real floating Tensor; got dtype {x.dtype}")
    return x


def _transform(name: str, x: Any, n: int | None, axis: int, norm: str) -> Tensor:
    """Call a transform along one axis, with `n` as a number and `axis` counted from the front."""
    if norm not in OPPOSITE:
        raise ValueError(f"fft.{name} expects norm 'backward', 'ortho' or 'forward'; got {norm!r}")
    axis = normalize_axis(axis, x.ndim, f"fft.{name}")
    if n is None:
        n = x.shape[axis] if name != "irfft" else 2 * (x.shape[axis] - 1)
    if n < 1:
        raise ShapeError(
            f"fft.{name} expects at least one element; got n={n} along axis {axis} of shape {x.shape}"
        )
    out: Tensor = _dispatch.apply(f"fft.{name}", (x,), {"n": n, "axis": axis, "norm": norm})
    return out


def _lengths(
    x: Any, s: Sequence[int] | None, axes: Sequence[int] | None, name: str
) -> list[tuple[int | None, int]]:
    """Return for each axis of a transform its length, None where `x` has it, and its number."""
    if axes is None and s is not None:
        axes = range(x.ndim - len(s), x.ndim)
    places = normalize_axes(None if axes is None else tuple(axes), x.ndim, f"fft.{name}")
    lengths = [None] * len(places) if s is None else [None if n == -1 else n for n in s]
    if len(lengths) != len(places):
        raise ShapeError(
            f"fft.{name} expects one length in s for each of the axes {places}; got {s}"
        )
    return list(zip(lengths, places, strict=True))


# ---------------------------------------------------------------- one axis
def fft(x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """Return the discrete Fourier transform along an axis: X_k = sum_j x_j exp(-2 pi i j k / n).

    Parameters
    ----------
    x : Tensor, shape (..., M, ...)
        Floating; real numbers are made complex.
    n : int, optional
        Cut `x` off, or pad it with zeros, to this length; by default M.
    axis : int
    norm : {"backward", "ortho", "forward"}
        Divide by nothing, sqrt(n), or n.

    Returns
    -------
    Tensor, shape (..., n, ...)
        Complex.

    Raises
    ------
    ShapeError
        If n is less than 1.
    ValueError
        For another `norm`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fft.fft(xp.asarray([1.0, 2.0])).tolist()
    [(3+0j), (-1+0j)]
    """
    return _transform("fft", _complex(x, "fft"), n, axis, norm)


def ifft(x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """Return the inverse of `fft`.

    Parameters
    ----------
    x : Tensor, shape (..., M, ...)
        Floating; real numbers are made complex.
    n : int, optional
        Cut `x` off, or pad it with zeros, to this length; by default M.
    axis : int
    norm : {"backward", "ortho", "forward"}
        Divide by n, sqrt(n), or nothing.

    Returns
    -------
    Tensor, shape (..., n, ...)
        Complex.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fft.ifft(xp.asarray([3.0, -1.0])).tolist()
    [(1+0j), (2+0j)]
    """
    return _transform("ifft", _complex(x, "ifft"), n, axis, norm)


def rfft(x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """Return the first half of `fft` of real numbers, which determines the other.

    Parameters
    ----------
    x : Tensor, shape (..., M, ...)
        Real floating.
    n, axis, norm
        As for `fft`.

    Returns
    -------
    Tensor, shape (..., n // 2 + 1, ...)
        Complex.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fft.rfft(xp.asarray([1.0, 2.0, 3.0, 4.0])).shape
    (3,)
    """
    return _transform("rfft", _real(x, "rfft"), n, axis, norm)


def irfft(x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """Return the inverse of `rfft`.

    Parameters
    ----------
    x : Tensor, shape (..., M, ...)
        Floating. The imaginary parts of the first element, and for even `n` of the last, do not count.
    n : int, optional
        Length of the result; by default 2 (M - 1). `x` is cut off, or padded with zeros, to n // 2 + 1.
    axis : int
    norm : {"backward", "ortho", "forward"}
        As for `ifft`.

    Returns
    -------
    Tensor, shape (..., n, ...)
        Real.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fft.irfft(xp.fft.rfft(xp.asarray([1.0, 2.0, 3.0, 4.0]))).tolist()
    [1.0, 2.0, 3.0, 4.0]
    """
    return _transform("irfft", _complex(x, "irfft"), n, axis, norm)


def hfft(x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """Return the transform, which is real, of a signal with Hermitian symmetry.

    Parameters
    ----------
    x : Tensor, shape (..., M, ...)
        The first half of the signal, floating.
    n : int, optional
        Length of the result; by default 2 (M - 1).
    axis : int
    norm : {"backward", "ortho", "forward"}
        As for `fft`.

    Returns
    -------
    Tensor, shape (..., n, ...)
        Real.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fft.hfft(xp.asarray([2.5, -0.5]), n=2).tolist()
    [2.0, 3.0]
    """
    half = ops.conj(_complex(x, "hfft"))
    return _transform("irfft", half, n, axis, OPPOSITE.get(norm, norm))


def ihfft(x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """Return the inverse of `hfft`.

    Parameters
    ----------
    x : Tensor, shape (..., M, ...)
        Real floating.
    n : int, optional
        Cut `x` off, or pad it with zeros, to this length; by default M.
    axis : int
    norm : {"backward", "ortho", "forward"}
        As for `ifft`.

    Returns
    -------
    Tensor, shape (..., n // 2 + 1, ...)
        Complex.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.real(xp.fft.ihfft(xp.asarray([2.0, 3.0]))).tolist()
    [2.5, -0.5]
    """
    half = _transform("rfft", _real(x, "ihfft"), n, axis, OPPOSITE.get(norm, norm))
    out: Tensor = ops.conj(half)
    return out


# ---------------------------------------------------------------- several axes
def fftn(
    x: Tensor,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str = "backward",
) -> Tensor:
    """Return the discrete Fourier transform along several axes.

    Parameters
    ----------
    x : Tensor, shape (...)
        Floating; real numbers are made complex.
    s : sequence of int, optional
        Lengths along `axes` to which `x` is cut off or padded with zeros; -1 leaves one as it is.
    axes : sequence of int, optional
        By default all, or the last ``len(s)``.
    norm : {"backward", "ortho", "forward"}
        As for `fft`, for each of the axes.

    Returns
    -------
    Tensor
        Complex, of the shape of `x` but for the lengths in `s`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fft.fftn(xp.ones((2, 2))).tolist()
    [[(4+0j), 0j], [0j, 0j]]
    """
    return _along("fft", _complex(x, "fftn"), _lengths(as_tensor(x), s, axes, "fftn"), norm)


def ifftn(
    x: Tensor,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str = "backward",
) -> Tensor:
    """Return the inverse of `fftn`.

    Parameters
    ----------
    x : Tensor, shape (...)
        Floating; real numbers are made complex.
    s, axes
        As for `fftn`.
    norm : {"backward", "ortho", "forward"}
        As for `ifft`, for each of the axes.

    Returns
    -------
    Tensor
        Complex, of the shape of `x` but for the lengths in `s`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fft.ifftn(xp.ones((2, 2))).tolist()
    [[(1+0j), 0j], [0j, 0j]]
    """
    return _along("ifft", _complex(x, "ifftn"), _lengths(as_tensor(x), s, axes, "ifftn"), norm)


def _along(name: str, x: Tensor, places: list[tuple[int | None, int]], norm: str) -> Tensor:
    """Transform along one axis after the other, the last first."""
    for n, axis in reversed(places):
        x = _transform(name, x, n, axis, norm)
    return x


def rfftn(
    x: Tensor,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str = "backward",
) -> Tensor:
    """Return the half of `fftn` of real numbers, along the last of `axes`, that determines the other.

    Parameters
    ----------
    x : Tensor, shape (...)
        Real floating.
    s, axes, norm
        As for `fftn`.

    Returns
    -------
    Tensor
        Complex, with length ``s[-1] // 2 + 1`` along the last of `axes`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fft.rfftn(xp.ones((2, 4))).shape
    (2, 3)
    """
    real = _real(x, "rfftn")
    *rest, (n, axis) = _lengths(real, s, axes, "rfftn")
    return _along("fft", _transform("rfft", real, n, axis, norm), rest, norm)


def irfftn(
    x: Tensor,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str = "backward",
) -> Tensor:
    """Return the inverse of `rfftn`.

    Parameters
    ----------
    x : Tensor, shape (...)
        Floating.
    s : sequence of int, optional
        Lengths of the result along `axes`; by default those of `x`, and 2 (M - 1) for the last one, M.
    axes, norm
        As for `ifftn`.

    Returns
    -------
    Tensor
        Real.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fft.irfftn(xp.fft.rfftn(xp.ones((1, 2)))).tolist()
    [[1.0, 1.0]]
    """
    half = _complex(x, "irfftn")
    *rest, (n, axis) = _lengths(half, s, axes, "irfftn")
    return _transform("irfft", _along("ifft", half, rest[::-1], norm), n, axis, norm)


# ---------------------------------------------------------------- frequencies
def fftfreq(
    n: int, /, *, d: float = 1.0, dtype: dtypes.DTypeLike = None, device: Device | str | None = None
) -> Tensor:
    """Return the frequencies that the elements of `fft` belong to.

    Parameters
    ----------
    n : int
        Length of the transform.
    d : float
        Distance of the samples, in whatever unit; frequencies are in cycles per unit.
    dtype : dtype, optional
        Real floating; by default the default one.
    device : Device or str, optional

    Returns
    -------
    Tensor, shape (n,)
        0, 1, …, -2, -1, divided by n d.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fft.fftfreq(4, d=0.25).tolist()
    [0.0, 1.0, -2.0, -1.0]
    """
    k = ops.arange(n, device=device)
    return _frequencies(ops.where(k < (n + 1) // 2, k, k - n), n * d, dtype)


def rfftfreq(
    n: int, /, *, d: float = 1.0, dtype: dtypes.DTypeLike = None, device: Device | str | None = None
) -> Tensor:
    """Return the frequencies that the elements of `rfft` belong to.

    Parameters
    ----------
    n, d, dtype, device
        As for `fftfreq`.

    Returns
    -------
    Tensor, shape (n // 2 + 1,)
        0, 1, …, n // 2, divided by n d.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fft.rfftfreq(4, d=0.25).tolist()
    [0.0, 1.0, 2.0]
    """
    return _frequencies(ops.arange(n // 2 + 1, device=device), n * d, dtype)


def _frequencies(k: Any, width: float, dtype: dtypes.DTypeLike) -> Tensor:
    d = dtypes.get_default_dtype() if dtype is None else dtypes.dtype(dtype)
    if d.kind != "f":
        raise DTypeError(f"frequencies are of a real floating dtype; got {d}")
    out: Tensor = ops.astype(k, d) / width
    return out


def fftshift(x: Tensor, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """Return `x` with the element of frequency 0 moved from the front to the middle.

    Parameters
    ----------
    x : Tensor, shape (...)
    axes : int, sequence of int or None
        None: all.

    Returns
    -------
    Tensor, shape (...)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fft.fftshift(xp.fft.fftfreq(4, d=0.25)).tolist()
    [-2.0, -1.0, 0.0, 1.0]
    """
    return _shifted(x, axes, "fftshift", 1)


def ifftshift(x: Tensor, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """Return `x` with what `fftshift` did undone.

    Parameters
    ----------
    x : Tensor, shape (...)
    axes : int, sequence of int or None
        None: all.

    Returns
    -------
    Tensor, shape (...)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fft.ifftshift(xp.asarray([-1.0, 0.0, 1.0])).tolist()
    [0.0, 1.0, -1.0]
    """
    return _shifted(x, axes, "ifftshift", -1)


def _shifted(x: Tensor, axes: int | Sequence[int] | None, name: str, sign: int) -> Tensor:
    t = as_tensor(x)
    if axes is not None and not isinstance(axes, int):
        axes = tuple(axes)
    places = normalize_axes(axes, t.ndim, f"fft.{name}")
    if not places:  # libraries fail to roll along no axis
        same: Tensor = ops.copy(t)
        return same
    out: Tensor = ops.roll(t, tuple(sign * (t.shape[a] // 2) for a in places), axis=places)
    return out

"""The second tier of a backend: what the standard lacks, with a default in terms of the standard.

Each name takes and gives raw arrays of the backend's library. `Defaults` is written with the standard's
functions only, so that it runs on every library; a backend overrides what its library does better, and the
conformance suite (`tinyxp.testing.BackendConformance`) holds every override to the default.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from tinyxp import _indexing, dtypes
from tinyxp.errors import DTypeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

__all__ = ["NAMES", "Defaults"]

Array = Any  # an array of the backend's library

NAMES = (
    "copy", "erf", "getitem", "iadd", "segment_sum", "setitem", "threefry2x32", "unindex",
)  # fmt: skip

# ---------------------------------------------------------------- erf
# erf(x) = x + x P(x²) for |x| <= 1 and sign(x) (1 - exp(Q(|x| - 1))) beyond, up to where erf rounds to 1.
# P and Q are minimax polynomials for erf(x)/x - 1 (absolute error) and log(erfc(1 + u)) (error weighted
# with erfc(1 + u), for that is what it does to the result), found with 50 digits by Lawson's iteration
# (C. L. Lawson, 1961; see R. P. Feinerman and D. J. Newman, Polynomial Approximation, 1974) at the
# Chebyshev points of the interval. Errors before rounding: float64 7e-18 and 7e-18, float32 1e-9 and 2e-11.
_ERF = {
    "float64": (
        (
            0.12837916709551257, -0.376126389031835465, 0.112837916709452501, -0.026866170643275773,
            0.0052239776074201922, -0.000854832598955545261, 0.00012055295316676905,
            -0.000014924744596843981, 1.64475169312961612e-6, -1.6209170690496657e-7,
            1.37229555734086457e-8, -7.80115337286849842e-10,
        ),
        (
            -1.84960550993324829, -2.63896751423477563, -0.843107256359415831, -0.041561098025021043,
            0.0100338251784970858, -0.00197790121192454308, 0.000237316419331142886,
            0.0000262963688280517128, -0.0000271990532748481239, 9.67148945406613137e-6,
            -2.13205513796895942e-6, 2.04899066812177443e-7, 5.79633055159025685e-8,
            -3.33719340086513552e-8, 8.51335450123531232e-9, -1.31809659700657992e-9,
            1.19214964511100664e-10, -4.85954435953880514e-12,
        ),
        5.0,
    ),
    "float32": (
        (
            0.128379166, -0.376126271, 0.1128359986, -0.02685443321, 0.005189516983, -0.0008020705499,
            7.888745737e-5,
        ),
        (
            -1.84960551, -2.638967515, -0.8431070761, -0.04156351204, 0.01004652441, -0.002012043746,
            0.0002895654207, -2.169335258e-5,
        ),
        3.0,
    ),
}  # fmt: skip


def _horner(coefficients: Sequence[float], x: Array) -> Array:
    """Evaluate the polynomial with `coefficients`, the constant first."""
    *rest, leading = coefficients
    y = leading * x + rest.pop()
    for c in reversed(rest):
        y = y * x + c
    return y


# ---------------------------------------------------------------- Threefry-2x32
# J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11:
# the rotations of table 2, and the parity constant that Threefish's key schedule has, in 32 bits.
THREEFRY_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
THREEFRY_PARITY = 0x1BD11BDA
# Key, counter and block for 20 rounds: the known answers that the authors publish with Random123.
THREEFRY_VECTORS = (
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
)
_MASK = 0xFFFFFFFF


class Defaults:
    """Array-API definitions of the second tier, which a backend inherits and may override."""

    if TYPE_CHECKING:

        @property
        def xp(self) -> Any:
            """The backend's extended namespace."""

    def scope(self, local: str) -> AbstractContextManager[Any]:  # noqa: ARG002 - for subclasses that look
        """Return a context in which operators of arrays act on the device called `local`.

        Functions of a device's namespace need none. A library in which the device to work on is part of
        the thread's state, such as CuPy, overrides this, for code that uses the operators of raw arrays.
        """
        return nullcontext()

    def copy(self, x: Array, /) -> Array:
        """Return a copy of `x` that shares nothing with it, in C order where the library has orders."""
        return self.xp.asarray(x, copy=True)

    def iadd(self, x: Array, y: Array, /) -> Array:
        """Add `y` to `x` in place and return `x`.

        Parameters
        ----------
        x : array, shape (...,)
            What is written into; it keeps its dtype.
        y : array, shape that broadcasts to that of `x`
            What is added.
        """
        x += y
        return x

    def getitem(self, x: Array, key: Any, /) -> Array:
        """Return ``x[key]`` by NumPy's rules: basic, integer arrays, boolean masks, and any mixture.

        Parameters
        ----------
        x : array
            What is read.
        key : int, slice, None, Ellipsis, array of integers or bool, or a tuple of these
            Where; arrays are raw arrays of the library.
        """
        return _indexing.getitem(self.xp, x, key)

    def setitem(self, x: Array, key: Any, value: Any, /) -> None:
        """Write `value`, broadcast and cast to the dtype of `x`, to ``x[key]`` in place, by NumPy's rules.

        Where an integer array names an element twice, the last value stays.

        Parameters
        ----------
        x : array
            What is written into.
        key : as for `getitem`
            Where.
        value : number or array
            What is written.
        """
        _indexing.setitem(self.xp, x, key, value)

    def unindex(self, g: Array, key: Any, shape: tuple[int, ...], /) -> Array:
        """Return zeros of `shape` with `g` added at `key`: the transpose of `getitem`.

        Parameters
        ----------
        g : array, of the shape of ``x[key]``
            What is added.
        key : as for `getitem`
            Where; elements that an integer array names twice receive both.
        shape : tuple of int
            The shape of x.
        """
        xp, shape = self.xp, tuple(shape)
        items = key if isinstance(key, tuple) else (key,)
        if not any(hasattr(k, "shape") or isinstance(k, bool) for k in items):
            out = xp.zeros(shape, dtype=g.dtype, device=g.device)
            self.setitem(out, key, g)
            return out
        cells = xp.arange(math.prod(shape), dtype=xp.int64, device=g.device)
        places = self.getitem(xp.reshape(cells, shape), key)
        flat = self.segment_sum(xp.reshape(g, (-1,)), xp.reshape(places, (-1,)), math.prod(shape))
        return xp.reshape(flat, shape)

    def erf(self, x: Array, /) -> Array:
        """Return the error function of each element of a real floating array, in its dtype."""
        xp, name = self.xp, dtypes.of(x.dtype).name
        if name in ("float16", "bfloat16"):
            return xp.astype(self.erf(xp.astype(x, xp.float32)), x.dtype)
        if name not in _ERF:
            raise DTypeError(f"erf expects a real floating array; got {name}")
        near, far, end = _ERF[name]
        magnitude = xp.abs(x)
        small = xp.clip(x, -1.0, 1.0)
        inner = small + small * _horner(near, small * small)
        outer = 1.0 - xp.exp(_horner(far, xp.clip(magnitude - 1.0, 0.0, end)))
        return xp.where(magnitude <= 1.0, inner, xp.copysign(outer, x))

    def segment_sum(self, values: Array, indices: Array, size: int, /, *, axis: int = 0) -> Array:
        """Add slices of `values` into zeros, at `indices` along `axis`; repeated indices accumulate.

        The sum of a segment is a balanced tree in the order of `values`, so the result is the same in
        every run and as exact as pairwise summation. Slices with the same index are first brought
        together by a stable sort, then halved in number log2(largest multiplicity) times: the segmented
        scan of W. D. Hillis and G. L. Steele, "Data parallel algorithms", CACM 29 (1986).

        Parameters
        ----------
        values : array, shape (..., n, ...), n along `axis`
            Any numeric dtype. Half precision is summed in float32 and rounded once.
        indices : integer array, shape (n,)
            Where each slice goes, in ``[-size, size)``; negative ones count from the end.
        size : int
            Length of the result along `axis`.
        axis : int
            The axis that `indices` runs along.

        Returns
        -------
        array, shape (..., size, ...)
            In the dtype of `values`.

        Raises
        ------
        IndexError
            If an index is out of range, unless the host would have to wait for the device to see it.
        """
        xp = self.xp
        if dtypes.of(values.dtype).itemsize == 2 and dtypes.of(values.dtype).kind == "f":  # noqa: PLR2004 - bytes: half precision
            wide = self.segment_sum(xp.astype(values, xp.float32), indices, size, axis=axis)
            return xp.astype(wide, values.dtype)
        out = _segment_sum(xp, xp.moveaxis(values, axis, 0), indices, size)
        return xp.moveaxis(out, 0, axis)

    def threefry2x32(
        self, key0: int, key1: int, counter0: Array, counter1: Array, /
    ) -> tuple[Array, Array]:
        """Encrypt counters with the Threefry-2x32 block cipher, 20 rounds.

        Parameters
        ----------
        key0, key1 : int
            The two words of the key, in ``[0, 2**32)``.
        counter0, counter1 : int64 arrays of one shape
            The two words of each counter, in ``[0, 2**32)``.

        Returns
        -------
        tuple of two int64 arrays, each of the counters' shape
            The words of each block, in ``[0, 2**32)``.

        References
        ----------
        Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11.
        """
        keys = (key0, key1, key0 ^ key1 ^ THREEFRY_PARITY)
        x0, x1 = (counter0 + key0) & _MASK, (counter1 + key1) & _MASK
        for group in range(5):
            for r in THREEFRY_ROTATIONS[4 * (group % 2) :][:4]:
                x0 = (x0 + x1) & _MASK
                x1 = (((x1 << r) | (x1 >> (32 - r))) & _MASK) ^ x0
            x0 = (x0 + keys[(group + 1) % 3]) & _MASK
            x1 = (x1 + (keys[(group + 2) % 3] + group + 1)) & _MASK
        return x0, x1


def _segment_sum(xp: Any, values: Array, indices: Array, size: int) -> Array:
    n = values.shape[0]
    if n == 0 or size == 0:
        return xp.zeros((size, *values.shape[1:]), dtype=values.dtype, device=values.device)
    rows = xp.reshape(values, (n, -1))
    indices = xp.where(indices < 0, indices + size, indices)
    order = xp.argsort(indices, stable=True)
    where, rows = xp.take(indices, order), xp.take(rows, order, axis=0)
    cells = xp.arange(size, dtype=where.dtype, device=where.device)
    first = xp.searchsorted(where, cells, side="left")
    counts = xp.searchsorted(where, cells, side="right") - first
    if int(xp.sum(counts)) != n:
        raise IndexError(f"segment_sum expects indices in [{-size}, {size}); some are outside")
    step, longest = 1, int(xp.max(counts))
    while step < longest:
        same = xp.expand_dims(where[step:] == where[:-step], axis=-1)
        tail = xp.where(same, rows[step:, :], xp.zeros_like(rows[step:, :]))
        rows = xp.concat([rows[:-step, :] + tail, rows[-step:, :]])
        step *= 2
    picked = xp.take(rows, xp.clip(first, 0, n - 1), axis=0)
    out = xp.where(xp.expand_dims(counts > 0, axis=-1), picked, xp.zeros_like(picked))
    return xp.reshape(out, (size, *values.shape[1:]))

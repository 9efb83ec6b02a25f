"""The table, chapter Fourier transforms: how the functions of `tinyxp.fft` are differentiated.

A transform is linear, so its cotangent is the one in the other direction, with the norm that has the same factor.
Cutting off and padding with zeros are each other's transposes.
"""

from __future__ import annotations

from typing import Any

from tinyxp.autograd._rules import define
from tinyxp.ops.fft import OPPOSITE


def _fitted(xp: Any, g: Any, n: int, axis: int) -> Any:
    """Return `g` cut off, or padded with zeros, to length `n`."""
    have = g.shape[axis]
    if have == n:
        return g
    key = (slice(None),) * axis + (slice(0, min(n, have)),)
    if n < have:
        return xp.getitem(g, key)
    return xp.unindex(g, key, (*g.shape[:axis], n, *g.shape[axis + 1 :]))


def _fft(xp: Any, g: Any, _out: Any, _x: Any, *, n: int, axis: int, norm: str) -> Any:
    r = xp.fft.ifft(g, n=n, axis=axis, norm=OPPOSITE[norm])
    return _fitted(xp, r, _x.shape[axis], axis)


def _ifft(xp: Any, g: Any, _out: Any, _x: Any, *, n: int, axis: int, norm: str) -> Any:
    r = xp.fft.fft(g, n=n, axis=axis, norm=OPPOSITE[norm])
    return _fitted(xp, r, _x.shape[axis], axis)


define("fft.fft", _fft)
define("fft.ifft", _ifft)


def _multiplicity(xp: Any, g: Any, n: int, axis: int, dtype: Any) -> Any:
    """Return how often each element of half a spectrum of `n` occurs in the whole: 2, and 1 at the ends."""
    k = xp.arange(n // 2 + 1, device=g.device)
    inner = xp.astype((k > 0) & (2 * k < n), dtype)
    return xp.reshape(1 + inner, (-1,) + (1,) * (len(g.shape) - 1 - axis))


def _rfft(xp: Any, g: Any, _out: Any, _x: Any, *, n: int, axis: int, norm: str) -> Any:
    g = g / _multiplicity(xp, g, n, axis, _x.dtype)
    r = xp.fft.irfft(g, n=n, axis=axis, norm=OPPOSITE[norm])
    return _fitted(xp, r, _x.shape[axis], axis)


def _irfft(xp: Any, g: Any, _out: Any, _x: Any, *, n: int, axis: int, norm: str) -> Any:
    r = xp.fft.rfft(g, n=n, axis=axis, norm=OPPOSITE[norm])
    r = r * _multiplicity(xp, r, n, axis, g.dtype)
    return _fitted(xp, r, _x.shape[axis], axis)


define("fft.rfft", _rfft)
define("fft.irfft", _irfft)

"""Elementary functions that Numba can vectorise: ``exp`` of what is not positive, and what follows from it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload

from ._compile import FAST

__all__ = ["exp_negative", "largest", "normal_cdf", "sigmoid"]

_OPTIONS = {"fastmath": FAST, "error_model": "numpy"}

# e**x = 2**n e**r with n = round(x / ln 2), ln 2 split into a part that n multiplies exactly and a rest
# (W. J. Cody and W. Waite, "Software Manual for the Elementary Functions", 1980, chapter 6). The polynomial
# for e**r is Taylor's; on |r| <= ln(2) / 2 its remainder is below an eighth of the last place.
_DEGREE = {np.float32: 7, np.float64: 13}
_LN2_HIGH = {np.float32: 0.693359375, np.float64: 6.93147180369123816490e-01}
_LN2_LOW = {np.float32: -2.12194440054690583e-4, np.float64: 1.90821492927058770002e-10}
_SMALLEST = {np.float32: -87.33654, np.float64: -708.3964185322641}  # below it the result is 0
_INTEGER = {np.float32: np.int32, np.float64: np.int64}
_BIAS = {np.float32: 127, np.float64: 1023}
_SHIFT = {np.float32: 23, np.float64: 52}


def exp_negative(x: Any) -> Any:
    """Return e**x for x <= 0; 0 below the smallest normal number; NaN for NaN."""
    raise TypeError(f"exp_negative is for compiled code; got {x!r}")


def _maker(dtype: Any) -> Any:
    c = [dtype(1 / math.factorial(i)) for i in range(_DEGREE[dtype] + 1)]
    high, low, lowest = dtype(_LN2_HIGH[dtype]), dtype(_LN2_LOW[dtype]), dtype(_SMALLEST[dtype])
    log2e, half, zero = dtype(1 / math.log(2)), dtype(0.5), dtype(0)
    integer = _INTEGER[dtype]
    bias, shift = integer(_BIAS[dtype]), integer(_SHIFT[dtype])
    c0, c1, c2, c3, c4, c5, c6, c7 = c[:8]

    def short(x: Any) -> Any:
        clamped = x if x > lowest else lowest
        n = np.floor(clamped * log2e + half)
        r = (clamped - n * high) - n * low
        p = ((((((c7 * r + c6) * r + c5) * r + c4) * r + c3) * r + c2) * r + c1) * r + c0
        y = p * integer((integer(n) + bias) << shift).view(dtype)
        y = zero if x < lowest else y
        return y if x == x else x  # noqa: PLR0124 - false for NaN

    if dtype is np.float32:
        return short
    c8, c9, c10, c11, c12, c13 = c[8:]

    def long(x: Any) -> Any:
        clamped = x if x > lowest else lowest
        n = np.floor(clamped * log2e + half)
        r = (clamped - n * high) - n * low
        p = (((((c13 * r + c12) * r + c11) * r + c10) * r + c9) * r + c8) * r + c7
        p = ((((((p * r + c6) * r + c5) * r + c4) * r + c3) * r + c2) * r + c1) * r + c0
        y = p * integer((integer(n) + bias) << shift).view(dtype)
        y = zero if x < lowest else y
        return y if x == x else x  # noqa: PLR0124 - false for NaN

    return long


@overload(exp_negative, jit_options=_OPTIONS)  # type: ignore[untyped-decorator]  # typed in some releases of Numba only
def _exp_negative(x: Any) -> Any:
    return _maker(np.float32 if x == types.float32 else np.float64)


def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + e**-x), without overflow; NaN for NaN."""
    raise TypeError(f"sigmoid is for compiled code; got {x!r}")


@overload(sigmoid, jit_options=_OPTIONS)  # type: ignore[untyped-decorator]  # typed in some releases of Numba only
def _sigmoid(x: Any) -> Any:
    one = np.float32(1) if x == types.float32 else np.float64(1)

    def compiled(x: Any) -> Any:
        e = exp_negative(-abs(x))
        top = e if x < 0 else one
        return top / (one + e)

    return compiled


# erfc(x) = t exp(-x**2 + P(t)), t = 1 / (1 + x / 2), x >= 0; relative error below 1.2e-7 (W. H. Press and
# others, "Numerical Recipes", 2nd edition, 1992, section 6.2).
_ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587,
    -0.82215223, 0.17087277,
)  # fmt: skip


def normal_cdf(x: Any) -> Any:
    """Return the probability that a standard normal number is below x."""
    raise TypeError(f"normal_cdf is for compiled code; got {x!r}")


@overload(normal_cdf, jit_options=_OPTIONS)  # type: ignore[untyped-decorator]  # typed in some releases of Numba only
def _normal_cdf(x: Any) -> Any:
    if x != types.float32:
        scale = -math.sqrt(0.5)

        def exact(x: Any) -> Any:
            return 0.5 * math.erfc(x * scale)

        return exact
    c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 = [np.float32(c) for c in _ERFC]
    one, half, root, top = (np.float32(c) for c in (1, 0.5, math.sqrt(0.5), 20))

    def compiled(x: Any) -> Any:
        z = abs(x) * root
        z = top if z > top else z  # where erfc is 0; an infinite square less a square would be NaN
        t = one / (one + half * z)
        p = ((((c9 * t + c8) * t + c7) * t + c6) * t + c5) * t + c4
        p = (((p * t + c3) * t + c2) * t + c1) * t + c0
        tail = half * t * exp_negative(p - z * z)
        return tail if x < 0 else one - tail

    return compiled


def largest(row: Any, n: int) -> Any:
    """Return the largest of the first `n` > 0 elements of a contiguous row; of a NaN it may be NaN."""
    raise TypeError(f"largest is for compiled code; got {row!r}, {n!r}")


@overload(largest, jit_options=_OPTIONS)  # type: ignore[untyped-decorator]  # typed in some releases of Numba only
def _largest(row: Any, n: Any) -> Any:
    # A floating maximum is not vectorised, for a NaN would depend on the order. The bits of IEEE numbers
    # compare like integers once those of negative numbers are turned around.
    dtype = np.float32 if row.dtype == types.float32 else np.float64
    integer = _INTEGER[dtype]
    limits = np.iinfo(integer)
    lowest, turn, sign = integer(limits.min), integer(limits.max), integer(limits.bits - 1)

    def compiled(row: Any, n: Any) -> Any:
        words = row.view(integer)
        top = lowest
        for j in range(n):
            word = words[j]
            word = word ^ ((word >> sign) & turn)
            top = max(word, top)
        return integer(top ^ ((top >> sign) & turn)).view(dtype)

    return compiled

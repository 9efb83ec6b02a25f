"""Random numbers as functions of a key: raw arrays in the layout that every backend shares.

Every function takes a backend's extended namespace and a key, two words of 32 bits, and always gives the
same for the same key and shape. Element by element the layout is this: block ``b`` of Threefry-2x32 under
the key, counted from 0, gives the words ``2 b`` and ``2 b + 1``. So a longer array begins like a shorter
one, and a mask can be drawn a second time instead of being kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyxp import _extras

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Draw",
    "Key",
    "bits",
    "blocks",
    "derive",
    "integers",
    "keep_mask",
    "normal",
    "permutation",
    "uniform",
]

Array = Any  # an array of the backend's library
Key = tuple[int, int]

MASK = 0xFFFFFFFF
DRAW, SPLIT, FOLD = 0, 1, 2  # what a derived key is for: no two purposes ever share a block
MAX_INDEX = 1 << 62
_CIPHER = _extras.Defaults()
# Blocks drawn at a time: bounds the memory beside the result, and keeps a CPU's work inside its cache.
PIECE = 1 << 18


class Draw(NamedTuple):
    """What every draw needs: the backend's extended namespace, a key, the shape and the library's device."""

    xp: Any
    key: Key
    shape: tuple[int, ...]
    device: Any = None


def derive(key: Key, index: int, purpose: int) -> Key:
    """Return the key that `key` gives to the `index`-th use for `purpose`.

    For one key all of these differ, because a block cipher is one-to-one in its counter.

    Parameters
    ----------
    key : tuple of two int
        Words in ``[0, 2**32)``.
    index : int
        In ``[0, 2**62)``.
    purpose : int
        `DRAW`, `SPLIT` or `FOLD`.
    """
    k0, k1 = _CIPHER.threefry2x32(*key, index & MASK, (index >> 32) | (purpose << 30))
    return k0, k1


def blocks(draw: Draw, start: int, stop: int) -> tuple[Array, Array]:
    """Return the words of the blocks from `start` to `stop`, two int64 arrays of shape (stop - start,)."""
    xp, key = draw.xp, draw.key
    counter = xp.arange(start, stop, dtype=xp.int64, device=draw.device)
    if stop <= MASK:
        return xp.threefry2x32(*key, counter, xp.zeros_like(counter))  # type: ignore[no-any-return]  # arrays and modules are Any to the type checker
    return xp.threefry2x32(*key, counter & MASK, counter >> 32)  # type: ignore[no-any-return]  # arrays and modules are Any to the type checker


def _filled(draw: Draw, make: Callable[[Array, Array], Array], per_block: int) -> Array:
    """Fill the shape with what `make` makes of the two words of each block, piece by piece."""
    xp, n = draw.xp, math.prod(draw.shape)
    count = max(-(-n // per_block), 1)  # for an empty draw too, of which nothing is used
    count += count % 2  # float64 normals take blocks in pairs
    if count <= PIECE:
        return xp.reshape(make(*blocks(draw, 0, count))[:n], draw.shape)
    out = None
    for start in range(0, count, PIECE):
        piece = make(*blocks(draw, start, min(start + PIECE, count)))
        if out is None:
            out = xp.empty((n,), dtype=piece.dtype, device=draw.device)
        first = start * per_block
        out[first : first + piece.shape[0]] = piece[: n - first]
    return xp.reshape(out, draw.shape)


def _interleaved(xp: Any, x: Array, y: Array) -> Array:
    return xp.reshape(xp.stack([x, y], axis=-1), (-1,))


def bits(draw: Draw) -> Array:
    """Return 32 random bits an element, as int64 in ``[0, 2**32)``."""
    return _filled(draw, lambda x0, x1: _interleaved(draw.xp, x0, x1), 2)


def keep_mask(xp: Any, key: Key, shape: tuple[int, ...], p: float, *, device: Any = None) -> Array:
    """Return True with probability ``1 - p``: what dropout keeps under `key`.

    Parameters
    ----------
    xp : namespace
        A backend's extended namespace, or the one of Tensors.
    key : tuple of two int
    shape : tuple of int
    p : float
        Probability of False, in [0, 1]; rounded to a multiple of ``2**-32``.
    device
        As `xp` takes it.
    """
    return bits(Draw(xp, key, tuple(shape), device)) >= round(p * 2**32)


# ---------------------------------------------------------------- uniform
# Bits of a word that make exact multiples of 2**-bits in the dtype, all of them below 1.
_UNIFORM_BITS = {"bfloat16": 8, "float16": 11, "float32": 24}


def uniform(draw: Draw, dtype: Any, name: str, *, low: float, high: float) -> Array:
    """Return uniform numbers in ``[low, high)`` of the library's `dtype`, whose name is `name`."""
    xp = draw.xp

    def make(x0: Array, x1: Array) -> Array:
        u = (
            _unit_double(xp, x0, x1)
            if name == "float64"
            else _unit(xp, x0, x1, _UNIFORM_BITS[name])
        )
        if (low, high) == (0.0, 1.0):
            return _rounded(xp, u, dtype, name)
        u *= high - low
        u += low
        out = _rounded(xp, u, dtype, name)
        return xp.where(out >= high, xp.full_like(out, low), out)  # rounding may have reached high

    return _filled(draw, make, 1 if name == "float64" else 2)


def _unit(xp: Any, x0: Array, x1: Array, count: int) -> Array:
    words = _interleaved(xp, x0, x1) >> (32 - count)
    u = xp.astype(words, xp.float64)
    u *= 2.0**-count
    return u


def _unit_double(xp: Any, x0: Array, x1: Array) -> Array:
    u = xp.astype(((x0 >> 5) << 26) + (x1 >> 6), xp.float64)
    u *= 2.0**-53
    return u


def _rounded(xp: Any, x: Array, dtype: Any, name: str) -> Array:
    """Round float64 to `dtype`; half precision by way of float32, as every library can do it."""
    if name == "float64":
        return x
    if name != "float32":
        x = xp.astype(x, xp.float32)
    return xp.astype(x, dtype)


# ---------------------------------------------------------------- normal
# Libraries differ in the last places of their logarithm, sine and cosine. So these are built here from sums,
# products and quotients, which IEEE 754 defines to the last bit: in float64, to about one unit in the last
# place. They are Taylor's series; how many terms are needed follows from the intervals.
_LOG = tuple(
    2.0 / (2 * n + 1) for n in range(1, 11)
)  # log((1 + f) / (1 - f)) / f - 2 in powers of f²
_SIN = tuple(
    (-1) ** n / math.factorial(2 * n + 1) for n in range(1, 9)
)  # sin(t) / t - 1 in powers of t²
_COS = tuple((-1) ** n / math.factorial(2 * n) for n in range(1, 10))  # cos(t) - 1 in powers of t²
_LN2 = (
    0.6931471805598903,
    5.497923018708371e-14,
)  # log 2; the first has 42 bits, so its multiples are exact
_EXPONENTS = range(-53, 1)


def normal(draw: Draw, dtype: Any, name: str, *, mean: float, std: float) -> Array:
    """Return normal numbers of the library's `dtype`, whose name is `name`, by Box and Muller's transform.

    G. E. P. Box and M. E. Muller, "A note on the generation of random normal deviates", 1958, equation 1:
    a pair of words gives a pair of numbers, in float64, which is rounded at the end.
    """
    xp = draw.xp

    def make(x0: Array, x1: Array) -> Array:
        bits = 32
        if name == "float64":  # two blocks make a pair
            words, bits = ((x0 >> 6) << 26) | (x1 >> 6), 52
            x0, x1 = words[0::2], words[1::2]
        length = radius(draw, x0, bits)
        x, y = direction(xp, x1, bits)
        x *= length
        y *= length
        z = _interleaved(xp, x, y)
        if std != 1.0:
            z *= std
        if mean != 0.0:
            z += mean
        return _rounded(xp, z, dtype, name)

    return _filled(draw, make, 1 if name == "float64" else 2)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Return x (c0 + x (c1 + x (c2 + …)))."""
    y = x * coefficients[-1]
    for c in coefficients[-2::-1]:
        y += c
        y *= x
    return y


def radius(draw: Draw, words: Array, bits: int) -> Array:
    """Return sqrt(-2 log u) for u = (words + 1/2) / 2**bits in float64; the half keeps it finite."""
    xp = draw.xp
    u = xp.astype(words, xp.float64)
    u += 0.5
    u *= 2.0**-bits
    # u = 2**e m with sqrt(1/2) <= m < sqrt(2), and log m = 2 artanh f with f = (m - 1) / (m + 1)
    options = {"dtype": xp.float64, "device": draw.device}
    least = xp.asarray([math.sqrt(0.5) * 2.0**e for e in _EXPONENTS], **options)
    powers = xp.asarray([2.0**-e for e in _EXPONENTS], **options)
    place = xp.searchsorted(least, u, side="right") - 1
    u *= xp.take(powers, place)
    f = (u - 1.0) / (u + 1.0)
    tail = _polynomial(f * f, _LOG)
    tail *= f
    e = xp.astype(place, xp.float64)
    e += float(_EXPONENTS[0])
    tail += e * _LN2[1]
    f *= 2.0
    f += tail
    e *= _LN2[0]
    f += e
    f *= -2.0
    return sqrt(xp, f)


def sqrt(xp: Any, x: Array) -> Array:
    """Return the root, rounded as IEEE 754 has it, which not every library does.

    One step of Newton's method from the library's root, whose square is had exactly in two parts: T. J.
    Dekker, "A floating-point technique for extending the available precision", 1971.
    """
    root = xp.sqrt(x)
    split = root * 134217729.0  # 2**27 + 1
    high = split - (split - root)
    low = root - high
    square = root * root
    error = high * high
    error -= square
    high *= low
    high *= 2.0
    error += high
    low *= low
    error += low
    x = x - square
    x -= error
    x /= root
    x *= 0.5
    root += x
    return root


def direction(xp: Any, words: Array, bits: int) -> tuple[Array, Array]:
    """Return the cosine and sine of as many evenly spaced angles as there are words, all around the circle.

    The first two bits are the quadrant, the others an angle between -pi / 4 and pi / 4.
    """
    quarter = 1 << (bits - 2)
    t = xp.astype((words & (quarter - 1)) - quarter // 2, xp.float64)
    t += 0.5
    t *= math.pi / 2 / quarter
    square = t * t
    x = _polynomial(square, _COS)
    x += 1.0
    y = _polynomial(square, _SIN)
    y *= t
    y += t
    turned = (words & quarter) != 0  # by a quarter: (x, y) becomes (-y, x)
    x, y = xp.where(turned, -y, x), xp.where(turned, x, y)
    sign = xp.where((words & (2 * quarter)) != 0, -xp.ones_like(t), xp.ones_like(t))
    x *= sign
    y *= sign
    return x, y


# ---------------------------------------------------------------- integers
_LIMB = 31
MAX_RANGE = 1 << (2 * _LIMB)


def integers(draw: Draw, *, low: int, high: int) -> Array:
    """Return int64 in ``[low, high)``, where ``high - low <= 2**62``.

    62 random bits x give ``x (high - low) >> 62``, by schoolbook multiplication in limbs of 31 bits, which
    int64 holds. No value is more probable than another by more than ``(high - low) / 2**62`` of itself.
    D. Lemire, "Fast random integer generation in an interval", 2019, section 3, without the rejection.
    """
    top, bottom = divmod(high - low, 1 << _LIMB)

    def make(x0: Array, x1: Array) -> Array:
        a, b = x0 >> 1, x1 >> 1
        middle = a * bottom + ((b * bottom) >> _LIMB)
        if top == 0:
            return (middle >> _LIMB) + low
        return a * top + ((middle + b * top) >> _LIMB) + low

    return _filled(draw, make, 1)


def permutation(draw: Draw) -> Array:
    """Return the numbers 0 … n - 1 in random order, as int64, where the shape is (n,).

    It is the order of n random numbers of 63 bits, sorted stably: alike everywhere even with equal ones.
    """
    xp = draw.xp
    keys = _filled(draw, lambda x0, x1: ((x0 >> 1) << 32) | x1, 1)
    return xp.astype(xp.argsort(keys, stable=True), xp.int64)

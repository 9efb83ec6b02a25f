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
        return xp.threefry2x32(*key, counter, xp.zeros_like(counter))  # type: ignore[no-any-return]
    return xp.threefry2x32(*key, counter & MASK, counter >> 32)  # type: ignore[no-any-return]


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
def normal(draw: Draw, dtype: Any, name: str, *, mean: float, std: float) -> Array:
    """Return normal numbers of the library's `dtype`, whose name is `name`, by Box and Muller's transform.

    G. E. P. Box and M. E. Muller, "A note on the generation of random normal deviates", 1958, equation 1.
    Libraries differ in the last places of float64's logarithm, sine and cosine only, so float32 and half
    precision come out alike but for rare roundings.
    """
    xp = draw.xp

    def make(x0: Array, x1: Array) -> Array:
        radius, angle = _polar_double(xp, x0, x1) if name == "float64" else _polar(xp, x0, x1)
        x, y = xp.cos(angle), xp.sin(angle)
        x *= radius
        y *= radius
        z = _interleaved(xp, x, y)
        if std != 1.0:
            z *= std
        if mean != 0.0:
            z += mean
        return _rounded(xp, z, dtype, name)

    return _filled(draw, make, 1 if name == "float64" else 2)


def _polar(xp: Any, x0: Array, x1: Array) -> tuple[Array, Array]:
    angle = xp.astype(x1, xp.float64)
    angle *= 2.0 * math.pi * 2.0**-32
    return _radius(xp, xp.astype(x0, xp.float64), 2.0**-32), angle


def _polar_double(xp: Any, x0: Array, x1: Array) -> tuple[Array, Array]:
    u = xp.astype(((x0 >> 6) << 26) + (x1 >> 6), xp.float64)
    angle = u[1::2] * (2.0 * math.pi * 2.0**-52)
    return _radius(xp, u[0::2] * 1.0, 2.0**-52), angle


def _radius(xp: Any, u: Array, unit: float) -> Array:
    """Return sqrt(-2 log((u + 1/2) unit)) and write over `u`: the half keeps the logarithm finite."""
    u += 0.5
    u *= unit
    u = xp.log(u)
    u *= -2.0
    return xp.sqrt(u)


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

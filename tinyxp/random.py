"""Seeded random numbers, the same on every backend.

The generator is Threefry-2x32 with 20 rounds, a block cipher used as a counter-based generator (J. K. Salmon,
M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11). Each draw gets a
key of its own, so it depends on the seed and on how many draws came before, never on their sizes or devices.

Bits, uniform and normal numbers, integers, permutations and masks are the same on every backend and device,
bit for bit, wherever the library rounds sums, products and quotients as IEEE 754 says.

Threads: a generator may be shared, for every draw takes its number under a lock, but then the order of the
threads decides who gets which numbers. For results that do not depend on it, give thread ``n`` its own
``generator.fold_in(n)``.
"""

from __future__ import annotations

import math
import operator
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tinyxp import _core, _draw, dtypes
from tinyxp import backend as _backend
from tinyxp._capture import recording, refuse
from tinyxp._devices import on
from tinyxp._draw import keep_mask
from tinyxp.errors import DTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyxp._core import Tensor
    from tinyxp._draw import Key
    from tinyxp.backend import Device
    from tinyxp.dtypes import DTypeLike

__all__ = [
    "Generator",
    "default_generator",
    "get_rng_state",
    "integers",
    "keep_mask",
    "manual_seed",
    "normal",
    "permutation",
    "set_rng_state",
    "uniform",
]

Shape = int | Sequence[int]


class Generator:
    """A source of random numbers.

    Parameters
    ----------
    seed : int or None
        Any integer. Those in ``[0, 2**64)`` are the key, all others are hashed to 64 bits with SHA-256.
        None takes 64 bits from the operating system.

    Attributes
    ----------
    seed : int or None
        The seed, also the one that None took; None for what `split` and `fold_in` return.

    Examples
    --------
    >>> from tinyxp.random import Generator
    >>> Generator(0).bits(2).tolist() == Generator(0).bits(2).tolist()
    True
    >>> Generator(0).normal((2, 3)).shape
    (2, 3)
    """

    seed: int | None

    def __init__(self, seed: int | None = None) -> None:
        self.seed = int.from_bytes(os.urandom(8)) if seed is None else operator.index(seed)
        self._key = _key_of(self.seed)
        self._drawn = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Generator(seed={self.seed}, key={self._key}, drawn={self._drawn})"

    # ------------------------------------------------------------ keys
    def next_key(self) -> Key:
        """Return the key of the next draw: two words of 32 bits, never given before.

        Examples
        --------
        >>> g = Generator(1)
        >>> g.next_key() != g.next_key()
        True
        """
        return _draw.derive(self._key, self._count(), _draw.DRAW)

    def next_draw(self) -> tuple[int, int, int]:
        """Return two words of a key and the number of the next draw, of which `next_key` makes its key.

        For who derives the key of the draw elsewhere. Counts as one draw.

        Examples
        --------
        >>> Generator(1).next_draw()
        (0, 1, 0)
        """
        drawn = self._count()
        return (*self._key, drawn)

    def _key_on(self, device: Device) -> Key | Tensor:  # noqa: ARG002 - read where a step is recorded
        """Return the key of the next draw for an operation on `device` that also takes it from there.

        It is two numbers; an int64 Tensor of them while a step is recorded, which would repeat numbers.
        """
        return self.next_key()

    def rewind(self, n: int) -> None:
        """Take back the last `n` draws: the next ones give the same again.

        Examples
        --------
        >>> g = Generator(0)
        >>> first = g.bits().item()
        >>> g.rewind(1)
        >>> g.bits().item() == first
        True
        """
        with self._lock:
            if not 0 <= n <= self._drawn:
                raise ValueError(f"rewind expects at most {self._drawn} draws; got {n}")
            self._drawn -= n

    def _count(self) -> int:
        refuse(
            "random numbers are drawn, whose keys the host counts; dropout by the default generator is recorded"
        )
        with self._lock:
            drawn, self._drawn = self._drawn, self._drawn + 1
        return drawn

    def split(self, n: int = 2) -> tuple[Generator, ...]:
        """Return `n` generators whose numbers are independent of each other and of this one's.

        Counts as one draw, so the next `split` gives others.

        Examples
        --------
        >>> a, b = Generator(1).split()
        >>> a.bits(1).tolist() != b.bits(1).tolist()
        True
        """
        if n < 0:
            raise ValueError(f"split expects the number of generators; got {n}")
        key = _draw.derive(self._key, self._count(), _draw.SPLIT)
        return tuple(_from_key(_draw.derive(key, i, _draw.SPLIT)) for i in range(n))

    def fold_in(self, n: int) -> Generator:
        """Return the generator that belongs to the number `n`, for a step, a worker or a layer.

        Depends on the seed and `n` only, not on what was drawn.

        Parameters
        ----------
        n : int
            In ``[0, 2**62)``.

        Examples
        --------
        >>> g = Generator(1)
        >>> g.fold_in(5).bits(3).tolist() == g.fold_in(5).bits(3).tolist()
        True
        """
        n = operator.index(n)
        if not 0 <= n < _draw.MAX_INDEX:
            raise ValueError(f"fold_in expects an integer in [0, 2**62); got {n}")
        return _from_key(_draw.derive(self._key, n, _draw.FOLD))

    # ------------------------------------------------------------ draws
    def _next(self, shape: Shape, device: Device | str | None) -> tuple[_draw.Draw, Device]:
        sizes, d = _shape(shape), _backend.device(device)
        return _draw.Draw(d.xp, self.next_key(), sizes, d.native), d

    def bits(self, shape: Shape = (), *, device: Device | str | None = None) -> Tensor:
        """Return 32 random bits an element.

        Parameters
        ----------
        shape : int or sequence of int
            Shape of the result.
        device : Device, str or None
            Where the result lives; None means the default device.

        Returns
        -------
        int64 Tensor of `shape`
            In ``[0, 2**32)``: not every library computes with uint32.
        """
        draw, d = self._next(shape, device)
        return _made(d, _draw.bits, draw)

    def uniform(
        self,
        shape: Shape = (),
        *,
        low: float = 0.0,
        high: float = 1.0,
        dtype: DTypeLike | None = None,
        device: Device | str | None = None,
    ) -> Tensor:
        """Return numbers evenly spread over ``[low, high)``.

        Parameters
        ----------
        shape : int or sequence of int
            Shape of the result.
        low, high : float
            Ends of the interval; `low` is rounded to `dtype`, `high` is never reached.
        dtype : DTypeLike or None
            A real floating dtype; None means the default one. float64 has 53 random bits, float32 24,
            float16 11, bfloat16 8.
        device : Device, str or None
            Where the result lives; None means the default device.

        Returns
        -------
        Tensor of `shape`

        Examples
        --------
        >>> x = Generator(0).uniform((4,), low=-1.0)
        >>> bool((x >= -1).all() and (x < 1).all())
        True
        """
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"uniform expects finite low < high; got low={low}, high={high}")
        draw, d = self._next(shape, device)
        kind = _floating(dtype, d)
        return _made(d, _draw.uniform, draw, *kind, low=float(low), high=float(high))

    def normal(
        self,
        shape: Shape = (),
        *,
        mean: float = 0.0,
        std: float = 1.0,
        dtype: DTypeLike | None = None,
        device: Device | str | None = None,
    ) -> Tensor:
        """Return normally distributed numbers, computed in float64 and then rounded.

        Parameters
        ----------
        shape : int or sequence of int
            Shape of the result.
        mean, std : float
            Mean and standard deviation. Without them no number lies beyond 6.8 (float64: 8.6).
        dtype : DTypeLike or None
            A real floating dtype; None means the default one.
        device : Device, str or None
            Where the result lives; None means the default device.

        Returns
        -------
        Tensor of `shape`

        Examples
        --------
        >>> Generator(0).normal((2, 3), std=0.02, dtype="float64").dtype
        tinyxp.float64
        """
        if not (math.isfinite(mean) and 0.0 <= std < math.inf):
            raise ValueError(
                f"normal expects a finite mean and std >= 0; got mean={mean}, std={std}"
            )
        draw, d = self._next(shape, device)
        kind = _floating(dtype, d)
        return _made(d, _draw.normal, draw, *kind, mean=float(mean), std=float(std))

    def integers(
        self, low: int, high: int, shape: Shape = (), *, device: Device | str | None = None
    ) -> Tensor:
        """Return integers, each in ``[low, high)`` with the same probability.

        Parameters
        ----------
        low, high : int
            Ends of the range, at most ``2**62`` apart; `high` is not part of it.
        shape : int or sequence of int
            Shape of the result.
        device : Device, str or None
            Where the result lives; None means the default device.

        Returns
        -------
        int64 Tensor of `shape`

        Examples
        --------
        >>> sorted(set(Generator(0).integers(-1, 2, 100).tolist()))
        [-1, 0, 1]
        """
        low, high = operator.index(low), operator.index(high)
        if not (-(1 << 63) <= low < high <= 1 << 63 and high - low <= _draw.MAX_RANGE):
            raise ValueError(
                f"integers expects low < high, at most 2**62 apart, in int64; got low={low}, high={high}"
            )
        draw, d = self._next(shape, device)
        return _made(d, _draw.integers, draw, low=low, high=high)

    def permutation(self, n: int, *, device: Device | str | None = None) -> Tensor:
        """Return the numbers 0 … `n` - 1 in random order.

        Parameters
        ----------
        n : int
            How many.
        device : Device, str or None
            Where the result lives; None means the default device.

        Returns
        -------
        int64 Tensor of shape (n,)

        Examples
        --------
        >>> sorted(Generator(0).permutation(4).tolist())
        [0, 1, 2, 3]
        """
        draw, d = self._next(operator.index(n), device)
        return _made(d, _draw.permutation, draw)

    # ------------------------------------------------------------ state
    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers, fit for JSON."""
        with self._lock:
            return {"seed": self.seed, "key": list(self._key), "drawn": self._drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the generator stood that `state` was taken from.

        Examples
        --------
        >>> g = Generator(0)
        >>> state = g.state_dict()
        >>> first = g.bits(3).tolist()
        >>> g.load_state_dict(state)
        >>> g.bits(3).tolist() == first
        True
        """
        if set(state) != {"seed", "key", "drawn"}:
            raise ValueError(f"state_dict has the keys seed, key, drawn; got {sorted(state)}")
        k0, k1 = (operator.index(word) for word in state["key"])
        drawn = operator.index(state["drawn"])
        if not (min(k0, k1) >= 0 and max(k0, k1) <= _draw.MASK and 0 <= drawn < _draw.MAX_INDEX):
            raise ValueError(
                f"state_dict has two words of 32 bits and a count of draws; got key={[k0, k1]}, drawn={drawn}"
            )
        with self._lock:
            self.seed, self._key, self._drawn = state["seed"], (k0, k1), drawn

    def __reduce__(self) -> tuple[Any, tuple[dict[str, Any]]]:
        return _from_state, (self.state_dict(),)


def _made(device: Device, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
    """Return what `function` draws, as a Tensor of `device`, whose operators it may use."""
    with on(device):
        return _core.wrap(function(*args, **kwargs), device)


def _from_state(state: dict[str, Any]) -> Generator:
    generator = Generator(0)
    generator.load_state_dict(state)
    return generator


def _from_key(key: Key) -> Generator:
    return _from_state({"seed": None, "key": key, "drawn": 0})


def _key_of(seed: int) -> Key:
    if not 0 <= seed < 1 << 64:
        import hashlib

        text = seed.to_bytes(seed.bit_length() // 8 + 1, signed=True)
        seed = int.from_bytes(hashlib.sha256(text).digest()[:8])
    return seed >> 32, seed & _draw.MASK


def _shape(shape: Shape) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    sizes = tuple(operator.index(n) for n in sizes)
    if any(n < 0 for n in sizes):
        raise ValueError(f"a shape has no negative lengths; got {shape}")
    return sizes


def _floating(dtype: DTypeLike | None, device: Device) -> tuple[Any, str]:
    found = dtypes.get_default_dtype() if dtype is None else dtypes.dtype(dtype)
    if found.kind != "f":
        raise DTypeError(f"random numbers are drawn in a real floating dtype; got {found}")
    return device.backend.native_dtype(found), found.name


# ---------------------------------------------------------------- the process-wide generator
_default: Generator | None = None
_default_lock = threading.Lock()


def default_generator() -> Generator:
    """Return the generator that is used where none is named, the same one in every thread.

    Until `manual_seed` is called its seed comes from the operating system; ``default_generator().seed``
    tells it. While a thread records a step, what stands for the generator there is returned.
    """
    made = recording()
    if made is not None and made.generator is not None:
        return made.generator
    global _default  # noqa: PLW0603 - process-wide by definition
    with _default_lock:
        if _default is None:
            _default = Generator()
        return _default


def manual_seed(seed: int, /) -> Generator:
    """Start the default generator anew from `seed`, any integer, and return it.

    Examples
    --------
    >>> import tinyxp
    >>> tinyxp.manual_seed(0).seed
    0
    """
    generator = default_generator()
    generator.load_state_dict(Generator(seed).state_dict())
    return generator


def uniform(
    shape: Shape = (),
    *,
    low: float = 0.0,
    high: float = 1.0,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
) -> Tensor:
    """Return `Generator.uniform` of the default generator.

    Examples
    --------
    >>> uniform((2, 3)).shape
    (2, 3)
    """
    return default_generator().uniform(shape, low=low, high=high, dtype=dtype, device=device)


def normal(
    shape: Shape = (),
    *,
    mean: float = 0.0,
    std: float = 1.0,
    dtype: DTypeLike | None = None,
    device: Device | str | None = None,
) -> Tensor:
    """Return `Generator.normal` of the default generator.

    Examples
    --------
    >>> normal((2, 3), std=0.1).shape
    (2, 3)
    """
    return default_generator().normal(shape, mean=mean, std=std, dtype=dtype, device=device)


def integers(
    low: int, high: int, shape: Shape = (), *, device: Device | str | None = None
) -> Tensor:
    """Return `Generator.integers` of the default generator.

    Examples
    --------
    >>> integers(0, 1, 3).tolist()
    [0, 0, 0]
    """
    return default_generator().integers(low, high, shape, device=device)


def permutation(n: int, *, device: Device | str | None = None) -> Tensor:
    """Return `Generator.permutation` of the default generator.

    Examples
    --------
    >>> sorted(permutation(3).tolist())
    [0, 1, 2]
    """
    return default_generator().permutation(n, device=device)


def get_rng_state() -> dict[str, Any]:
    """Return the state of the default generator, for `set_rng_state` or a file."""
    return default_generator().state_dict()


def set_rng_state(state: dict[str, Any], /) -> None:
    """Let the default generator go on from `state`.

    Examples
    --------
    >>> state = get_rng_state()
    >>> first = default_generator().bits(2).tolist()
    >>> set_rng_state(state)
    >>> default_generator().bits(2).tolist() == first
    True
    """
    default_generator().load_state_dict(state)

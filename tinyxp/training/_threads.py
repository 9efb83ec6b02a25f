"""How many threads a library should use on cores that others use too."""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tinyxp.backend import Device

__all__ = ["Threads"]

_TRIAL = 0.05  # seconds
_TRIALS = 2  # of each kind, by turns
_GAIN = 1.1  # by how much one thread must be faster to be preferred
_SLOW = 3.0  # times the fastest step: then other programs have come, or gone
_PATIENCE = 2.0  # seconds at least from one choice to the next that slow steps cause


class Threads:
    """Inside the ``with`` block, all threads of the library or one, whichever multiplies faster here and now.

    On idle cores all are faster. Where other programs keep the cores busy, each product waits until the
    last of its threads gets its turn, and one thread can be ten times as fast.

    Parameters
    ----------
    device : Device
        Whose library to ask; one that cannot be told is left alone.
    rows, width : int
        Shape of the products to try, those of a training step: (rows, width) times (width, 4 width).
    """

    def __init__(self, device: Device, rows: int, width: int) -> None:
        self.device = device
        xp, native = device.xp, device.native
        self._a = xp.full((rows, width), 0.5, dtype=xp.float32, device=native)
        self._b = xp.full((width, 4 * width), 0.5, dtype=xp.float32, device=native)
        self._all: int | None = None
        self._fastest = math.inf
        self._chosen = perf_counter()

    def __enter__(self) -> Self:
        self._all = self.device.backend.set_threads(1)
        if self._all is not None:
            self.choose()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._all is not None:
            self.device.backend.set_threads(self._all)

    def notice(self, seconds: float) -> None:
        """Choose again where a step has taken much longer than the fastest one so far."""
        self._fastest = min(self._fastest, seconds)
        slow = seconds > _SLOW * self._fastest
        if slow and perf_counter() - self._chosen > _PATIENCE:
            self.choose()

    def choose(self) -> int | None:
        """Try both again; return how many threads are used now, None if the library cannot be told."""
        if self._all is None or self._all == 1:
            return self._all
        done = {1: 0, self._all: 0}
        for _ in range(_TRIALS):
            for n in done:
                done[n] += self._products(n)
        chosen = 1 if done[1] > _GAIN * done[self._all] else self._all
        self.device.backend.set_threads(chosen)
        self._chosen = perf_counter()
        return chosen

    def _products(self, threads: int) -> int:
        """Return how many products `threads` threads finish in a trial."""
        self.device.backend.set_threads(threads)
        count, end = 0, perf_counter() + _TRIAL
        while perf_counter() < end:
            self.device.xp.matmul(self._a, self._b)
            count += 1
        return count

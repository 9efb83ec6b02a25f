"""How fast a run goes, and how long it will take."""

from __future__ import annotations

import math
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Meter"]

_REFRESH = 0.25  # seconds between two looks at the losses
_MEMORY = 10.0  # seconds over which the speed is smoothed


class Meter:
    """Counts steps and seconds; what happens in a `pause` counts for neither.

    Parameters
    ----------
    tokens_per_step : int
        Tokens trained on in a step.
    flops_per_token : float
        Floating-point operations for each.
    peak : float
        Floating-point operations per second that this machine is known to reach; 0 if unknown.

    Attributes
    ----------
    tokens_per_s : float or None
        Speed in the last lap.
    paused : float
        Seconds of the last pause.
    """

    def __init__(self, tokens_per_step: int, flops_per_token: float, peak: float) -> None:
        self.tokens_per_step, self.flops_per_token, self.peak = (
            tokens_per_step,
            flops_per_token,
            peak,
        )
        self.tokens_per_s: float | None = None
        self.paused = 0.0
        self._steps = self._seconds = 0.0  # each lap counts less as time goes by
        self.began = self._lap = perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the meter was made, pauses included."""
        return perf_counter() - self.began

    @property
    def due(self) -> bool:
        """Whether it is time to look at the losses again."""
        return perf_counter() - self._lap >= _REFRESH

    @property
    def smooth_tokens_per_s(self) -> float | None:
        """Speed over the last seconds."""
        each = self.seconds_per_step
        return self.tokens_per_step / each if each else None

    def share(self, tokens_per_s: float | None) -> float | None:
        """Return the rate of training at some speed over the machine's peak."""
        if tokens_per_s is None or not self.peak:
            return None
        return tokens_per_s * self.flops_per_token / self.peak

    @property
    def seconds_per_step(self) -> float | None:
        """Duration of a step over the last seconds."""
        return self._seconds / self._steps if self._steps else None

    def lap(self, steps: int) -> None:
        """Take the time of the `steps` since the last lap."""
        now = perf_counter()
        took, self._lap = now - self._lap, now
        fading = math.exp(-took / _MEMORY)
        self._steps = fading * self._steps + steps
        self._seconds = fading * self._seconds + took
        self.tokens_per_s = self.tokens_per_step * steps / took

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Do something else than training, between two laps."""
        start = perf_counter()
        try:
            yield
        finally:
            self.paused = perf_counter() - start
            self._lap += self.paused

    def left(self, steps: int, pauses: int) -> float | None:
        """Return the seconds that so many steps and pauses will take."""
        if self.seconds_per_step is None:
            return None
        return steps * self.seconds_per_step + pauses * self.paused

    def affordable(self, seconds: float, steps_per_pause: int) -> int:
        """Return how many steps fit into `seconds`, with a pause each `steps_per_pause` of them."""
        each = (self.seconds_per_step or 0.0) + self.paused / steps_per_pause
        return int(max(0.0, seconds) / each) if each else 1 << 62

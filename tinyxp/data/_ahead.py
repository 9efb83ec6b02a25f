"""Batches that are on their way to the device before they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tinyxp.backend import device as find_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyxp.backend import Device
    from tinyxp.data._dataset import Batch

__all__ = ["Ahead"]


class _Made(NamedTuple):
    step: int
    batch: Batch
    wait: Callable[[], None]


class Ahead:
    """Gives batches by their number, and makes the next one while the device works with the last.

    On a GPU the tokens of the next batch travel on a stream of their own, so that a step waits neither for
    the host nor for the bus. Where host and device are one, a batch is made when it is asked for.

    Parameters
    ----------
    make : callable
        ``make(step)`` returns the batch of a step, on `device`.
    device : Device, str or None
        Where the batches are.

    Examples
    --------
    >>> from tinyxp.data import Ahead, TokenDataset
    >>> data = TokenDataset.from_text("to be or not to be, that is the question")
    >>> batches = Ahead(lambda step: data.batch(step, batch_size=2, context=8, device="cpu"), "cpu")
    >>> x, y = batches(0)
    >>> bool((x == data.batch(0, batch_size=2, context=8)[0]).all())
    True
    """

    def __init__(self, make: Callable[[int], Batch], device: Device | str | None = None) -> None:
        self.make, self.device = make, find_device(device)
        self._next: _Made | None = None

    def __call__(self, step: int) -> Batch:
        """Return the batch of `step`; those of steps in a row were begun one step earlier."""
        if self.device.backend.host_visible:
            return self.make(step)
        made, self._next = self._next, None
        if made is None or made.step != step:
            made = self._begin(step)
        made.wait()
        # Asked for before the step computes, so that the copy waits for the steps before at most.
        self._next = self._begin(step + 1)
        return made.batch

    def _begin(self, step: int) -> _Made:
        with self.device.backend.stream(self.device.local) as wait:
            batch = self.make(step)
        return _Made(step, batch, wait)

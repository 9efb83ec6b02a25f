"""Work beside other work: a second stream of each GPU, and the order between the two.

CuPy's pool knows which stream a block was allocated on, and gives it out again on that stream as soon as its
array is gone, also while another stream still reads it. So the second stream begins by waiting for what
was asked of the first: whatever the host let go of by then, nobody reads any more.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import cupy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["beside"]


@cache
def second(index: int) -> Any:
    """Return the second stream of GPU number `index`, which must be the current one."""
    del index  # a stream belongs to the device on which it is made
    return cupy.cuda.Stream(non_blocking=True)


@contextmanager
def beside(device: Any) -> Iterator[Callable[[], None]]:
    """Give work to the second stream of `device`; what is asked for afterwards does not wait for it.

    Yields
    ------
    callable
        Makes the stream that is current when it is called wait for the results.
    """
    with device:
        first, other = cupy.cuda.get_current_stream(), second(device.id)
        before, done = (cupy.cuda.Event(disable_timing=True) for _ in range(2))
        before.record(first)
        other.wait_event(before)

        def wait() -> None:
            with device:
                cupy.cuda.get_current_stream().wait_event(done)

        try:
            with other:
                yield wait
        finally:
            done.record(other)

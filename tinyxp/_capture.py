"""What the host does in a step whose launches are recorded once and then replayed.

A recorded graph repeats what the device did, with the numbers and addresses of the recording. What the host
did beside it, such as counting steps and choosing learning rates, is repeated by actions that are registered
here while the function runs, and what cannot be repeated is refused.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tinyxp.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tinyxp.random import Generator

__all__ = ["Recording", "record", "recording", "refuse"]


class Recording:
    """The host's part of a recorded function.

    Attributes
    ----------
    checks : list of callable
        One returns False if the graph no longer fits, because an array that it writes has been replaced, say.
    actions : list of callable
        To be called before each replay, the first one too.
    generator : Generator or None
        Stands for the default one of random numbers.
    """

    def __init__(self, generator: Generator | None = None) -> None:
        self.generator = generator
        self.checks: list[Callable[[], bool]] = []
        self.actions: list[Callable[[], None]] = []

    def prepare(self) -> bool:
        """Do the host's part of the next replay; return False, with nothing done, if it must not be."""
        if not all(check() for check in self.checks):
            return False
        for action in self.actions:
            action()
        return True


class _Current(threading.local):
    recording: Recording | None = None


_current = _Current()


def recording() -> Recording | None:
    """Return the recording that this thread is making, or None."""
    return _current.recording


def refuse(reason: str) -> None:
    """Raise `CaptureError` for `reason` while this thread records; otherwise do nothing."""
    if _current.recording is not None:
        raise CaptureError(reason)


@contextmanager
def record(generator: Generator | None = None) -> Iterator[Recording]:
    """Make a recording inside the ``with`` block, where `generator` stands for the default one."""
    before, _current.recording = _current.recording, Recording(generator)
    try:
        yield _current.recording
    finally:
        _current.recording = before

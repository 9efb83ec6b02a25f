"""Threads for kernels: parked when there is nothing to do, and never more than the BLAS uses.

A kernel works on a range of rows without the interpreter's lock. Ranges depend on sizes and on the number of
threads, never on who takes them, and sums are taken range by range: the same run gives the same bits. With another
number of threads a BLAS may round otherwise. Ranges are taken one after the other by whoever is free: where another
program holds a core, the caller does most of the work itself instead of waiting.

To wake a sleeping thread costs 40 microseconds, as much as many a kernel. So who has just worked looks for the
next piece for some 0.3 ms before it sleeps, and offers its core to others at each look.
"""

from __future__ import annotations

import itertools
import os
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyxp_numpy._kernels._waiting import look

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["items_of", "parts_of", "run", "run_parts", "set_threads"]

_GRAIN = 1 << 17  # elements of a simple loop that take some 30 microseconds
_MOST_PARTS = 32
_LOOKS = 1000 if hasattr(os, "sched_yield") else 0  # a call of the system each: 0.3 microseconds
_AWAY = 5  # looks; meanwhile the caller enters its kernel and lets go of the interpreter's lock
_DONE, _ASKED = 0, 8  # slots of the board, in cache lines of their own


def parts_of(n: int, weight: int) -> int:
    """Return into how many ranges `n` rows are divided, of which each costs as much as `weight` elements."""
    return max(1, min(n, _MOST_PARTS, n * weight // _GRAIN))


def items_of(parts: int) -> int:
    """Return into how many items work on `parts` ranges is grouped where larger pieces are more efficient."""
    return min(parts, _threads.count)


def run(kernel: Callable[..., Any], n: int, weight: int, *args: Any) -> None:
    """Call ``kernel(start, stop, part, *args)`` for ranges that make up ``range(n)``.

    Parameters
    ----------
    kernel : callable
        Does not raise, and writes nothing that another range reads.
    n : int
        Number of rows, at least 1.
    weight : int
        What a row costs, in elements of a simple loop.
    """
    run_parts(kernel, n, parts_of(n, weight), *args)


def run_parts(kernel: Callable[..., Any], n: int, parts: int, *args: Any) -> None:
    """Call ``kernel(start, stop, part, *args)`` for `parts` ranges that make up ``range(n)``."""
    if parts == 1:
        kernel(0, n, 0, *args)
        return
    helpers = min(_threads.count, parts) - 1
    job = _Job(kernel, n, parts, args)
    if helpers > 0:
        _threads.help(job, helpers)
    if not job.work():
        job.wait(_threads.board)
    elif job.error is not None:
        raise job.error


class _Job:
    """One kernel on all its ranges."""

    __slots__ = (
        "args",
        "done",
        "error",
        "finished",
        "kernel",
        "n",
        "parts",
        "seen",
        "serial",
        "taken",
    )

    def __init__(
        self, kernel: Callable[..., Any], n: int, parts: int, args: tuple[Any, ...]
    ) -> None:
        self.kernel, self.n, self.parts, self.args = kernel, n, parts, args
        self.taken, self.finished = itertools.count(), itertools.count(1)  # atomic under the lock
        self.done = threading.Lock()
        self.done.acquire()
        self.error: BaseException | None = None
        self.serial, self.seen = 0, 0

    def work(self) -> bool:
        """Take ranges until none is left; say whether the last of all was finished here."""
        n, parts, last = self.n, self.parts, False
        while (part := next(self.taken)) < parts:
            try:
                self.kernel(n * part // parts, n * (part + 1) // parts, part, *self.args)
            except BaseException as e:  # noqa: BLE001 - raised where the work was asked for
                self.error = e
            if next(self.finished) == parts:
                self.done.release()
                last = True
        return last

    def wait(self, board: Any) -> None:
        """Wait for the ranges that others have taken."""
        look(board, _DONE, 0, _DONE, self.seen, _LOOKS, 0)
        self.done.acquire()
        self.args = ()
        if self.error is not None:
            raise self.error


class _Threads:
    """The threads beside the caller's, started when first needed, and again after a fork."""

    def __init__(self) -> None:
        self.count = _wanted()
        self._start()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start)

    def _start(self) -> None:
        self.jobs: SimpleQueue[_Job] = SimpleQueue()
        self.lock, self.running = threading.Lock(), 0
        self.board, self.serials = np.zeros(16, np.int64), itertools.count(1)

    def help(self, job: _Job, helpers: int) -> None:
        """Ask `helpers` threads to work on `job`."""
        job.serial, job.seen = next(self.serials), int(self.board[_DONE])
        if self.running < helpers:
            self._start_more(helpers)
        for _ in range(min(helpers, self.running)):
            self.jobs.put(job)
        self.board[_ASKED] += 1

    def _start_more(self, wanted: int) -> None:
        """Start threads until `wanted` run, or the system gives no more: then the caller does their work."""
        with self.lock:
            while self.running < wanted:
                args = (self.jobs, self.board)
                thread = threading.Thread(
                    target=_serve, args=args, name="tinyxp-kernels", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # "can't start new thread"
                    return
                self.running += 1


def _serve(jobs: SimpleQueue[_Job], board: Any) -> None:
    finished = 0
    while True:
        seen = int(board[_ASKED])
        if jobs.empty():
            look(board, _DONE, finished, _ASKED, seen, _LOOKS, _AWAY)
        elif finished:
            board[_DONE] = finished
        job = jobs.get()
        finished = job.serial if job.work() else 0
        del job  # its arrays


def _wanted() -> int:
    """Return how many threads the environment asks for, by default one a core."""
    for name in ("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_threads = _Threads()


def set_threads(n: int) -> None:
    """Let kernels use `n` threads from now on."""
    _threads.count = n

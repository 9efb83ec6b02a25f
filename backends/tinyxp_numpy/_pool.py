"""Threads for kernels: parked when there is nothing to do, and never more than the BLAS uses.

A kernel works on a range of rows without the interpreter's lock. Ranges depend on sizes and on the number of
threads, never on who takes them, and sums are taken range by range: the same run gives the same bits. With another
number of threads a BLAS may round otherwise. Ranges are taken one after the other by whoever is free: where another
program holds a core, the caller does most of the work itself instead of waiting.

To wake a sleeping thread costs 40 microseconds, as much as many a kernel. So who has just worked looks for the
next piece for some 0.3 ms before it sleeps, and offers its core to others at each look. A program of several phases
(`tinyxp_numpy._kernels._team`) is begun and done by a thread that looks without the interpreter's lock, for which it
would have to wait as long again.
"""

from __future__ import annotations

import itertools
import os
import threading
from queue import SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyxp_numpy._kernels import _team

if TYPE_CHECKING:
    from collections.abc import Callable

Array = Any

__all__ = ["items_of", "parts_of", "run", "run_parts", "run_program", "set_threads"]

_GRAIN = 1 << 17  # elements of a simple loop that take some 30 microseconds
_MOST_PARTS = 32
_LOOKS = 1000 if hasattr(os, "sched_yield") else 0  # a call of the system each: 0.3 microseconds
_AWAY = 5  # looks; meanwhile the caller enters its kernel and lets go of the interpreter's lock
_MOST_SHARES, _NUMBERS = 64, 1 << 36
_TOO_LONG = 0.6  # of a program's time spent waiting for helpers
_SHORTEST, _LONGEST = 0.02, 0.32  # seconds without them
_FORGET, _MANY = 0.9, 2.0  # so many of the last ten programs in vain are too many
_WAKING = 200_000  # nanoseconds in which a sleeping thread wakes up where a core is free
_TABLE, _REALS = 128, 8  # as much as any program is given


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


def run_program(program: int, shares: int, table: Array, reals: Array) -> None:
    """Run a program, with whoever looks for work where there is more than one share of it.

    Parameters
    ----------
    program : int
        Its address.
    shares : int
        How many threads divide its items.
    table : array of int64
        Sizes and addresses of arrays.
    reals : array of float32 or float64
        Numbers in the dtype of its arrays.
    """
    threads = _threads
    shares = min(shares, threads.count, _MOST_SHARES)
    if shares > 1 and threads.may_help():
        threads.call(shares - 1)
        held, number = threads.reals[reals.dtype.char], 1 + next(threads.serials) % _NUMBERS
        used = _team.lead(
            threads.board, number, shares, program, threads.table, held, table, reals
        )  # fmt: skip
        if used[0] >= 0:
            threads.judge(*used)
            return
    _team.lead(_team.board_for(1), 1, 1, program, table, reals, table, reals)


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
        _team.look(board, _team.DONE, self.seen, _LOOKS)
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
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self.lock, self.running, self.asleep = threading.Lock(), 0, set[int]()
        self.alone, self.alone_until, self.vain = 0.0, 0.0, 0.0
        self.serials = itertools.count(1)
        self.board, self.table = _team.board_for(_MOST_SHARES), np.zeros(_TABLE, np.int64)
        self.reals = {kind: np.zeros(_REALS, kind) for kind in "fd"}

    def help(self, job: _Job, helpers: int) -> None:
        """Ask `helpers` threads to work on `job`."""
        job.serial, job.seen = next(self.serials), int(self.board[_team.DONE])
        if self.running < helpers:
            self._start_more(helpers)
        for _ in range(min(helpers, self.running)):
            self.jobs.put(job)
        self.board[_team.ASKED] += 1

    def call(self, helpers: int) -> None:
        """Wake who sleeps: a program is about to run."""
        if self.running < helpers:
            self._start_more(helpers)
        for _ in range(len(self.asleep)):
            self.jobs.put(None)

    def may_help(self) -> bool:
        """Whether helpers are worth waiting for: not right after they were not."""
        return not self.alone or perf_counter() >= self.alone_until

    def judge(self, took: int, waited: int, came: int) -> None:
        """Draw conclusions from how many nanoseconds a program took and has waited, and how many helpers came.

        Where other programs keep the cores busy, a thread that was interrupted comes back after milliseconds: what
        takes less is done sooner alone. That is tried again after a while, and after a longer one if it was in vain.
        """
        vain = waited > _TOO_LONG * took or (came == 0 and took > _WAKING)
        self.vain = self.vain * _FORGET + vain
        if self.vain > _MANY:
            self.alone = min(2 * self.alone, _LONGEST) or _SHORTEST
            self.alone_until, self.vain = perf_counter() + self.alone, _MANY - 1
        elif self.alone and self.vain < 1:
            self.alone = 0.0

    def _start_more(self, wanted: int) -> None:
        """Start threads until `wanted` run, or the system gives no more: then the caller does their work."""
        with self.lock:
            while self.running < wanted:
                args = (self.jobs, self.board, self.running + 1, self.asleep)
                thread = threading.Thread(
                    target=_serve, args=args, name="tinyxp-kernels", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # "can't start new thread"
                    return
                self.running += 1


def _serve(jobs: SimpleQueue[_Job | None], board: Any, member: int, asleep: set[int]) -> None:
    finished = 0
    while True:
        asked = int(board[_team.ASKED])
        if not jobs.empty():
            if finished:
                board[_team.DONE] = finished
        else:
            _team.serve(board, member, finished, asked, _LOOKS, _AWAY)
        if jobs.empty():
            asleep.add(member)
        job = jobs.get()
        asleep.discard(member)
        finished = job.serial if job is not None and job.work() else 0
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

"""Contenders in processes of their own, a busy machine, and what the matrix product reaches."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

from _gpt import CONTENDERS, SIZES, Work, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SQUARES = [1024, 1536, 2048, 3072, 4096]
SPIN = 0.03  # seconds; OpenBLAS's threads wait 20 ms for more work, OpenMP's 7, both at full speed
_built: dict[str, Work] = {}  # in the process of the contender


class Worker:
    """A process that calls functions when it is told to, and sleeps in between."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._pool = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), _set_environment, (environment,)
        )

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return ``function(*args)`` of the process; both must be importable there."""
        return self._pool.submit(function, *args).result()

    def close(self) -> None:
        """Let the process end."""
        self._pool.shutdown()


class Here:
    """The same in this process."""

    def __init__(self, environment: dict[str, str]) -> None:
        os.environ.update(environment)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return ``function(*args)``."""
        return function(*args)

    def close(self) -> None:
        """Do nothing."""


def alone(environment: dict[str, str], function: Callable[..., Any], *args: Any) -> Any:
    """Return ``function(*args)`` of a fresh process."""
    worker = Worker(environment)
    try:
        return worker.call(function, *args)
    finally:
        worker.close()


def _set_environment(environment: dict[str, str]) -> None:
    os.environ.update(environment)


# ---------------------------------------------------------------- what the processes are told to do
def build(name: str, size: str, threads: int, steps: int) -> list[float]:
    """Build a contender; return the losses of its first steps."""
    _built[name] = CONTENDERS[name].build(SIZES[size], threads)
    return [_built[name].step() for _ in range(steps)]


def turn(name: str, what: str, seconds: float) -> float:
    """Return the median time of ``step`` or ``forward``, repeated for about so many seconds.

    Before, the threads of whoever came before are given time to stop spinning. The first call brings caches
    back that others have used, and counts only if it is the only one.
    """
    sleep(SPIN)
    run = getattr(_built[name], what)
    took: list[float] = []
    while not took or sum(took) < seconds:
        start = perf_counter()
        run()
        took.append(perf_counter() - start)
    return statistics.median(took[1:] or took)


def sgemm(library: str, threads: int, squares: list[int]) -> float:
    """Return the best rate of a square product of float32 in NumPy or PyTorch, in operations a second."""
    xp = __import__(library)
    if library == "torch":
        xp.set_num_threads(threads)
    best = 0.0
    for n in squares:
        a = xp.ones((n, n), dtype=xp.float32)
        for _ in range(max(2, 4096 // n)):
            start = perf_counter()
            a @ a
            best = max(best, 2.0 * n**3 / (perf_counter() - start))
    return best


# ---------------------------------------------------------------- around them
def start(
    names: list[str], size: str, threads: int, *, steps: int, one_process: bool = False
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Return a worker for each contender that is installed, and the losses of its first steps."""
    place = Here if one_process else Worker
    workers, losses = {}, {}
    for name in names:
        worker = place(environment(name, threads))
        try:
            losses[name] = worker.call(build, name, size, threads, steps)
        except ModuleNotFoundError as exc:
            print(f"{name} is left out: {exc}")
            worker.close()
        else:
            workers[name] = worker
    return workers, losses


@contextmanager
def busy(cores: int) -> Iterator[None]:
    """Keep so many cores busy with other processes."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()

"""Interleaved timings of several ways to do the same work, and the machine they ran on."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def interleaved(
    jobs: dict[str, Callable[[], Any]], *, repeats: int, inner: int = 1
) -> dict[str, list[float]]:
    """Time all jobs in turn, A B C A B C …, so that a change of the machine's speed meets them alike.

    Parameters
    ----------
    jobs : dict of str to callable
        Each does the whole work once and waits until it is done.
    repeats : int
        Timed rounds, after one that is not counted.
    inner : int
        Calls in one timing.

    Returns
    -------
    dict of str to list of float
        Seconds a call, one for each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for round_ in range(repeats + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            for _ in range(inner):
                job()
            if round_:
                seconds[name].append((time.perf_counter() - start) / inner)
    return seconds


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Return the median of each job's timings, in seconds."""
    return {name: statistics.median(times) for name, times in seconds.items()}


def machine() -> dict[str, str]:
    """Describe the machine and the versions that were compared."""
    found = {"cpu": _cpu(), "cores": str(os.cpu_count()), "python": platform.python_version()}
    for name in ("tinyxp", "numpy", "numba", "torch", "jax", "autograd"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "unknown"
    )


def write(path: str | None, results: Any) -> None:
    """Write the results with the machine as JSON, where a path is given."""
    if path is not None:
        Path(path).write_text(
            json.dumps({"machine": machine(), "results": results}, indent=1) + "\n"
        )

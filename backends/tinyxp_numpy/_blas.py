"""Which BLAS NumPy multiplies with, and how many threads it uses."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["describe", "function", "set_threads"]

# The names under which OpenBLAS gets and sets its number of threads: NumPy's wheels prefix and suffix it.
_SYMBOLS = (
    "scipy_openblas_{}_num_threads64_",
    "scipy_openblas_{}_num_threads",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
)


def describe() -> dict[str, str]:
    """Return the name and version of the BLAS, and its threads where it can be asked."""
    build: Any = np.show_config(mode="dicts")
    blas = build.get("Build Dependencies", {}).get("blas", {})
    name = " ".join(str(blas[k]) for k in ("name", "version") if blas.get(k))
    threads = _threads()
    return {"blas": name or "unknown", "threads": str(threads) if threads else "unknown"}


def set_threads(n: int) -> int | None:
    """Let the BLAS use `n` threads; return how many it used, None if it cannot be told."""
    ask, tell = _function("get"), _function("set")
    if ask is None or tell is None:
        return None
    count = int(ask())
    if count != n:
        tell(n)
    return count


def _threads() -> int | None:
    ask = _function("get")
    if ask is not None:
        return int(ask())
    wanted = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    return int(wanted) if wanted and wanted.isdigit() else None


@cache
def _function(verb: str) -> Any:
    """Return OpenBLAS's function that gets or sets the number of threads, None if there is none."""
    return function(*(symbol.format(verb) for symbol in _SYMBOLS))


def function(*symbols: str) -> Any:
    """Return the first of these functions that NumPy's OpenBLAS has, None if it has none."""
    for library in _loaded():
        for symbol in symbols:
            if hasattr(library, symbol):
                return getattr(library, symbol)
    return None


@cache
def _loaded() -> list[ctypes.CDLL]:
    return [ctypes.CDLL(str(path)) for path in _libraries()]  # those that NumPy has loaded already


def _libraries() -> list[Path]:
    root = Path(np.__file__).parent
    folders = (root.parent / "numpy.libs", root / ".libs", root / ".dylibs")
    return [p for f in folders if f.is_dir() for p in sorted(f.glob("*openblas*"))]

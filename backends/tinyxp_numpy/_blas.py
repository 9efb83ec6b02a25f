"""Which BLAS NumPy multiplies with, and how many threads it uses."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["describe", "set_threads"]

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
    before, tell = _function("get"), _function("set")
    if before is None or tell is None:
        return None
    count = int(before())
    tell(ctypes.c_int(n))
    return count


def _threads() -> int | None:
    ask = _function("get")
    if ask is not None:
        return int(ask())
    wanted = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    return int(wanted) if wanted and wanted.isdigit() else None


def _function(verb: str) -> Any:
    """Return OpenBLAS's function that gets or sets the number of threads, None if there is none."""
    for path in _libraries():
        library = ctypes.CDLL(str(path))  # the one that NumPy has loaded already
        for symbol in _SYMBOLS:
            if hasattr(library, symbol.format(verb)):
                return getattr(library, symbol.format(verb))
    return None


def _libraries() -> list[Path]:
    root = Path(np.__file__).parent
    folders = (root.parent / "numpy.libs", root / ".libs", root / ".dylibs")
    return [p for f in folders if f.is_dir() for p in sorted(f.glob("*openblas*"))]

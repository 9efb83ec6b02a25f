"""Which BLAS NumPy multiplies with, and how many threads it uses."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["describe"]

# The names under which OpenBLAS tells its number of threads: NumPy's wheels prefix and suffix it.
_SYMBOLS = (
    "scipy_openblas_get_num_threads64_",
    "scipy_openblas_get_num_threads",
    "openblas_get_num_threads64_",
    "openblas_get_num_threads",
)


def describe() -> dict[str, str]:
    """Return the name and version of the BLAS, and its threads where it can be asked."""
    build: Any = np.show_config(mode="dicts")
    blas = build.get("Build Dependencies", {}).get("blas", {})
    name = " ".join(str(blas[k]) for k in ("name", "version") if blas.get(k))
    threads = _threads()
    return {"blas": name or "unknown", "threads": str(threads) if threads else "unknown"}


def _threads() -> int | None:
    for path in _libraries():
        library = ctypes.CDLL(str(path))  # the one that NumPy has loaded already
        for symbol in _SYMBOLS:
            if hasattr(library, symbol):
                return int(getattr(library, symbol)())
    wanted = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    return int(wanted) if wanted and wanted.isdigit() else None


def _libraries() -> list[Path]:
    root = Path(np.__file__).parent
    folders = (root.parent / "numpy.libs", root / ".libs", root / ".dylibs")
    return [p for f in folders if f.is_dir() for p in sorted(f.glob("*openblas*"))]

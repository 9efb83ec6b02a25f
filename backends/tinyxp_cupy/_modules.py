"""CUDA C from ``_cuda/*.cu``: compiled once for each type of elements, and launched.

A ``.cu`` file defines ``extern "C"`` kernels over a type ``T``; ``common.cuh`` stands in front of it. Kernels
take sizes as ``long long`` and other numbers as ``float`` or ``int``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import cupy
import numpy as np

__all__ = ["TYPES", "kernel", "launch", "multiprocessors", "options", "source"]

Array = Any
FOLDER = Path(__file__).parent / "_cuda"
TYPES = {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16"}


def source(file: str) -> str:
    """Return the text of ``_cuda/{file}.cu`` behind what all files share."""
    # A text, not an #include: CuPy keeps compiled kernels under a hash of the text.
    return "\n".join((FOLDER / name).read_text() for name in ("common.cuh", f"{file}.cu"))


def options(dtype: str) -> tuple[str, ...]:
    """Return the compiler's options for elements of the type called `dtype`."""
    return ("-std=c++17", f"-DELEMENT={TYPES[dtype]}")


@cache
def _module(file: str, dtype: str) -> Any:
    return cupy.RawModule(code=source(file), options=options(dtype))


@cache
def kernel(file: str, name: str, dtype: str = "float32") -> Any:
    """Return the kernel `name` of ``_cuda/{file}.cu`` for elements of the type called `dtype`."""
    return _module(file, dtype).get_function(name)


def launch(
    function: Any, blocks: int | tuple[int, ...], threads: int, *args: Any, shared: int = 0
) -> None:
    """Start a kernel on the current device and stream, which nobody waits for.

    Parameters
    ----------
    function : RawKernel
        From `kernel`.
    blocks : int or tuple of int
        Size of the grid.
    threads : int
        Threads in a block, a multiple of 32.
    *args
        Arrays in C order, None for a null pointer, int for ``long long``, float for ``float``, bool for
        ``int``, NumPy scalars for what they are.
    shared : int
        Bytes of dynamic shared memory.
    """
    grid = (blocks,) if isinstance(blocks, int) else blocks
    function(grid, (threads,), tuple(map(_argument, args)), shared_mem=shared)


def _argument(x: Any) -> Any:
    kind = type(x)
    if kind is float:
        return np.float32(x)  # a Python float would be passed as a double
    if kind is bool:
        return np.int32(x)
    if x is None:
        return np.intp(0)
    return x


@cache
def multiprocessors(device: int) -> int:
    """Return how many blocks of full size GPU number `device` runs at once."""
    return int(cupy.cuda.Device(device).attributes["MultiProcessorCount"])

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

__all__ = ["TYPES", "kernel", "launch", "multiprocessors", "name_of", "options", "source"]

Array = Any
FOLDER = Path(__file__).parent / "_cuda"
TYPES = {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16"}


@cache
def name_of(dtype: Any) -> str:
    """Return the name of a dtype; NumPy's own attribute would cost as much as a launch."""
    return str(dtype.name)


def source(file: str) -> str:
    """Return the text of ``_cuda/{file}.cu`` behind what all files share."""
    # A text, not an #include: CuPy keeps compiled kernels under a hash of the text.
    return "\n".join((FOLDER / name).read_text() for name in ("common.cuh", f"{file}.cu"))


def options(dtype: str, second: str | None = None) -> tuple[str, ...]:
    """Return the compiler's options for elements of the types called `dtype` and `second`."""
    found = ("-std=c++17", f"-DELEMENT={TYPES[dtype]}")
    return found if second in {None, dtype} else (*found, f"-DSECOND={TYPES[second]}")


@cache
def _module(file: str, dtype: str, second: str | None) -> Any:
    return cupy.RawModule(code=source(file), options=options(dtype, second))


@cache
def kernel(file: str, name: str, dtype: str = "float32", second: str | None = None) -> Any:
    """Return the kernel `name` of ``_cuda/{file}.cu`` for elements of the type called `dtype`.

    Parameters
    ----------
    file, name : str
        Of the source and of the kernel in it.
    dtype : str
        The type ``T`` of the source.
    second : str, optional
        The type ``U`` of the source, for kernels that take two; ``T`` without it.
    """
    return _module(file, dtype, None if second == dtype else second).get_function(name)


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

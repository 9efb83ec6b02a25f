"""Room in CuPy's memory pool, so that a training step that has run before allocates nothing.

The pool asks the device for exactly what it lacks, and joins free blocks again only if they came from one
allocation. So where blocks are taken and given back in an order that is not quite the same each time, such as
in the steps of a training run, it lacks a block every few steps, and grows without end. One large free block
ends that: what is taken from it becomes one block again.
"""

from __future__ import annotations

import cupy

__all__ = ["keep"]

SHARE, LEAST, MOST = 16, 2 << 20, 1 << 30  # a block of held / SHARE bytes, within bounds
SPARE = 4  # times as much must be free on the device

_pool = cupy.get_default_memory_pool()
_total = _pool.total_bytes
_known: dict[int, int] = {}


def keep(device: int) -> None:
    """Let the pool have a free block if it has grown since this was last asked; nobody waits for it.

    Parameters
    ----------
    device : int
        Number of the GPU, which is the current one.
    """
    held = _total()
    before = _known.get(device, 0)
    if held == before:
        return
    if held > before and not cupy.cuda.get_current_stream().is_capturing():
        _grow(held)
    _known[device] = _total()


def _grow(held: int) -> None:
    size = min(max(held // SHARE, LEAST), MOST)
    limit = _pool.get_limit()
    free, _ = cupy.cuda.runtime.memGetInfo()
    if free >= SPARE * size and (not limit or held + SPARE * size <= limit):
        _pool.malloc(size)  # and free at once

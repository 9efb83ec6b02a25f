"""Small tables in device memory, sent as arguments of a kernel: nobody waits, and no pinned memory is needed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cupy
import numpy as np

from tinyxp_cupy._modules import kernel, launch

__all__ = ["capturing", "here", "words"]

Array = Any
_WORDS = 480  # of 8 bytes, that fit into the 4 KiB of a kernel's arguments
_ARGUMENT = np.dtype([("at", np.int64, (_WORDS,))])


def capturing() -> bool:
    """Whether what is launched now is recorded instead of done."""
    stream = cupy.cuda.get_current_stream()
    return stream.ptr not in {0, 1, 2} and bool(stream.is_capturing())  # not the default streams


def here() -> tuple[int, int]:
    """Return the numbers of the current device and stream: memory written there may be read there."""
    return cupy.cuda.runtime.getDevice(), cupy.cuda.get_current_stream().ptr


def words(values: tuple[int, ...]) -> Array:
    """Return an int64 array of `values` on the current device, the one from before where there is one.

    While a graph is recorded a new one is made, and the graph fills it: an array from before may be gone
    when the graph is replayed.
    """
    return _sent(values) if capturing() else _kept(here(), values)


@lru_cache(64)
def _kept(_: tuple[int, int], values: tuple[int, ...]) -> Array:
    return _sent(values)


def _sent(values: tuple[int, ...]) -> Array:
    n = len(values)
    out = cupy.empty(n, np.int64)
    fill = kernel("updates", "keep_words")
    for first in range(0, n, _WORDS):
        part = values[first : first + _WORDS]
        argument = np.zeros((), _ARGUMENT)
        argument["at"][: len(part)] = part
        launch(fill, 1, _WORDS, argument, first, n, out)
    return out

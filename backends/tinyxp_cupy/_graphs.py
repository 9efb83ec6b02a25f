"""CUDA graphs: what a function launches, recorded once, to be launched again in one call."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import TYPE_CHECKING, Any

import cupy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["record"]


@cache
def _stream(index: int) -> Any:
    """Return the stream of a device that graphs are recorded on, as the default one cannot be."""
    with cupy.cuda.Device(index):
        return cupy.cuda.Stream(non_blocking=True)


class _Graph:
    """A graph, and the memory it works in.

    All that the function allocates comes from a pool of its own, from which nobody takes any more when it
    is recorded: so what is free there between two arrays of the graph stays the graph's.
    """

    def __init__(self, index: int) -> None:
        self.device = cupy.cuda.Device(index)
        self.pool = cupy.cuda.MemoryPool()
        self.graph: Any = None

    def record(self, function: Callable[[], Any]) -> Any:
        """Return what `function` returns: arrays that hold something after the first launch."""
        stream = _stream(self.device.id)
        with self.device, stream, cupy.cuda.using_allocator(self.pool.malloc):
            stream.begin_capture()
            try:
                result = function()
            except BaseException:
                with contextlib.suppress(cupy.cuda.runtime.CUDARuntimeError):
                    stream.end_capture()
                raise
            self.graph = stream.end_capture()
        return result

    def launch(self) -> None:
        """Do it all again, on the current stream."""
        with self.device:
            self.graph.launch()


def record(index: int, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """Record what `function` launches on device `index`; return its result and what launches it."""
    graph = _Graph(index)
    return graph.record(function), graph.launch

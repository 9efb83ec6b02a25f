"""Copies between host and GPU, and from one GPU to another.

A copy that the GPU makes on its own needs host memory that stays where it is (*pinned*). What is small goes
through a pinned buffer of its size; what is large in pieces through two buffers, one being filled while
the other is copied, so that no more than these two stay pinned. To the GPU the host does not wait: it may write
into what it gave as soon as the call returns. From the GPU it waits, for it is to read what comes.
"""

from __future__ import annotations

from typing import Any

import cupy
import cupyx
import numpy as np

__all__ = ["across", "download", "upload"]

Array = Any
PIECE = 1 << 24  # bytes; a fast bus takes half a millisecond for them


def upload(host: Any, device: Any) -> Array:
    """Return a copy of `host`, an array of NumPy, on `device`.

    Parameters
    ----------
    host : numpy.ndarray
        May be written again when this returns.
    device : cupy.cuda.Device
    """
    with device:
        if host.nbytes <= PIECE:
            return cupy.asarray(host)  # through pinned memory, which CuPy keeps until it is copied
        flat = np.ascontiguousarray(host).reshape(-1).view(np.uint8)
        out = cupy.empty(flat.shape, np.uint8)
        pieces = _Pieces(flat.size)
        for start, stop, staged in pieces:
            staged[...] = flat[start:stop]
            out[start:stop].set(staged)
            pieces.mark()
        pieces.wait()
        return out.view(host.dtype).reshape(host.shape)


def download(x: Array) -> Any:
    """Return a copy of `x` in memory of NumPy's; waits for what was asked of the GPU before."""
    with x.device:
        if x.nbytes == 0:
            return x.get()
        if x.nbytes <= PIECE:
            staged = cupyx.empty_pinned(x.shape, x.dtype)
            return x.get(out=staged).copy()
        flat = cupy.ascontiguousarray(x).reshape(-1).view(np.uint8)
        out = np.empty(flat.shape, np.uint8)
        pieces = _Pieces(flat.size)
        before: tuple[int, int, Any] | None = None
        for start, stop, staged in pieces:
            flat[start:stop].get(out=staged, blocking=False)
            pieces.mark()
            if before is not None:
                pieces.wait_for_older()
                out[before[0] : before[1]] = before[2]
            before = (start, stop, staged)
        pieces.wait()
        if before is not None:
            out[before[0] : before[1]] = before[2]
        return out.view(x.dtype).reshape(x.shape)


def across(x: Array, device: Any) -> Array:
    """Return a copy of `x` on another GPU, directly where the two can, else as the driver does it.

    Nobody waits: the streams that are current on the two devices wait for each other.
    """
    with x.device:
        x = cupy.ascontiguousarray(x)
        source = cupy.cuda.get_current_stream()
        ready = source.record(cupy.cuda.Event(disable_timing=True))
    with device:
        target = cupy.cuda.get_current_stream()
        target.wait_event(ready)
        out = cupy.empty(x.shape, x.dtype)
        out.data.copy_from_device_async(x.data, x.nbytes)
        done = target.record(cupy.cuda.Event(disable_timing=True))
    with x.device:  # the memory of x may be given to somebody else when this returns
        source.wait_event(done)
    return out


class _Pieces:
    """Pieces of `size` bytes, each with a pinned buffer that the piece before last has left."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.buffers = [cupyx.empty_pinned(PIECE, np.uint8) for _ in range(2)]
        self.events = [cupy.cuda.Event(disable_timing=True) for _ in range(2)]
        self.count = 0

    def __iter__(self) -> Any:
        for start in range(0, self.size, PIECE):
            stop = min(start + PIECE, self.size)
            if self.count > 1:
                self.events[self.count % 2].synchronize()
            yield start, stop, self.buffers[self.count % 2][: stop - start]

    def mark(self) -> None:
        """Say that the copy of the current piece was asked for."""
        self.events[self.count % 2].record()
        self.count += 1

    def wait_for_older(self) -> None:
        """Wait for the last piece but one."""
        self.events[self.count % 2].synchronize()

    def wait(self) -> None:
        """Wait for all pieces."""
        for event in self.events[: self.count]:
            event.synchronize()

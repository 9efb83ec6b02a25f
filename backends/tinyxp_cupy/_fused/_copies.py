"""Many arrays copied, converted and laid side by side in one launch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy
import numpy as np

from tinyxp_cupy._modules import kernel, launch, multiprocessors, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._arguments import Array

__all__ = ["Copies", "converted", "split"]

MOST, NUMBERS = 12, 6  # parts in a launch, and numbers that say what a part is, as in copies.cu
THREADS, EACH = 256, 16  # elements that a thread copies where there is much
PARTS = np.dtype([("at", "i8", (MOST, NUMBERS))])


class Copies:
    """A list of copies to be made in one launch.

    Parameters
    ----------
    source, target : dtype
        Of all arrays on either side.
    """

    def __init__(self, source: Any, target: Any) -> None:
        self.source, self.target = np.dtype(source), np.dtype(target)
        self.parts: list[tuple[int, ...]] = []
        self.largest = self.device = 0
        self.kept: list[Array] = []

    def add(
        self, source: Array, target: int, columns: int, from_stride: int, to_stride: int
    ) -> None:
        """Copy rows of `columns` elements, `from_stride` apart, to the address `target`, `to_stride` apart."""
        self._add(
            source.data.ptr, target, source.size // from_stride, columns, from_stride, to_stride
        )
        self.device = source.data.device_id
        self.kept.append(source)

    def _add(  # noqa: PLR0917 - the numbers of copies.cu
        self, source: int, target: int, rows: int, columns: int, down: int, to: int
    ) -> None:
        if columns == down == to:  # one long row
            rows, columns = 1, rows * columns
        self.parts.append((source, target, rows, columns, down, to))
        self.largest = max(self.largest, rows * columns)

    def convert(self, x: Array) -> Array:
        """Return an array for a copy of `x`, which `run` will make; `x` itself if it has the dtype."""
        if self.source == self.target:
            return x
        x = cupy.ascontiguousarray(x)
        out = cupy.empty(x.shape, self.target)
        self.add(x, out.data.ptr, x.size, x.size, x.size)
        return out

    def join(self, arrays: Sequence[Array]) -> Array:
        """Return an array for matrices, or vectors, of one shape laid side by side, which `run` will fill."""
        first = arrays[0]
        width, count = first.shape[-1], len(arrays)
        out = cupy.empty((*first.shape[:-1], count * width), self.target)
        start, step = out.data.ptr, width * out.itemsize
        for i, x in enumerate(map(cupy.ascontiguousarray, arrays)):
            self.add(x, start + i * step, width, width, count * width)
        return out

    def divide(self, x: Array, wanted: Iterable[bool]) -> list[Array | None]:
        """Return arrays for what `join` joined to `x`, None where it is not wanted; `run` will fill them."""
        flags = list(wanted)
        whole = x.shape[-1]
        width = whole // len(flags)
        found: list[Array | None] = []
        for i, want in enumerate(flags):
            out = cupy.empty((*x.shape[:-1], width), self.target) if want else None
            if out is not None:
                self._add(
                    x.data.ptr + i * width * x.itemsize, out.data.ptr, x.size // whole, width, whole, width
                )  # fmt: skip
            found.append(out)
        self.device = x.data.device_id
        self.kept.append(x)
        return found

    def run(self) -> None:
        """Make all copies."""
        if not self.parts:
            return
        numbers = np.zeros((), PARTS)
        numbers["at"][: len(self.parts)] = self.parts
        most = 8 * multiprocessors(self.device)
        blocks = max(1, min(most, -(-self.largest // (THREADS * EACH))))
        launch(
            kernel("copies", "copy_parts", name_of(self.source), name_of(self.target)),
            (blocks, len(self.parts)),
            THREADS,
            numbers,
        )


def converted(x: Array, dtype: Any) -> Array:
    """Return `x` with another dtype; `x` itself if it has it."""
    copies = Copies(x.dtype, dtype)
    out = copies.convert(x)
    copies.run()
    return out


def split(arrays: Sequence[Array], wanted: Sequence[Sequence[bool]]) -> list[list[Array | None]]:
    """Return each of `arrays` divided along its last axis, in arrays of their own, all in one launch.

    Parameters
    ----------
    arrays : sequence of arrays in C order
        Of one dtype.
    wanted : sequence of sequences of bool
        For each array one for each of its parts: None stands for those that are not wanted.
    """
    copies = Copies(arrays[0].dtype, arrays[0].dtype)
    found = [copies.divide(x, flags) for x, flags in zip(arrays, wanted, strict=True)]
    copies.run()
    return found

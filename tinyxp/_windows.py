"""Windows that slide over an array, and their transpose: what convolution and pooling are made of.

Both names belong to the second tier of a backend: raw arrays in, raw arrays out, with a default in terms of
the standard.
"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["NAMES", "Defaults", "window_count"]

Array = Any
NAMES = ("fold", "unfold")


def window_count(length: int, size: int, step: int, dilation: int) -> int:
    """Return how many windows fit: `size` elements, `dilation` apart, starting every `step` elements.

    Examples
    --------
    >>> window_count(7, 3, 2, 1)
    3
    """
    return max(0, (length - dilation * (size - 1) - 1) // step + 1)


def _places(
    sizes: Sequence[int], counts: Sequence[int], steps: Sequence[int], dilations: Sequence[int]
) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Yield the number of each element of a window, and where the windows have it."""
    for i, offset in enumerate(product(*map(range, sizes))):
        starts = [o * d for o, d in zip(offset, dilations, strict=True)]
        ends = [a + s * (n - 1) + 1 for a, s, n in zip(starts, steps, counts, strict=True)]
        yield i, tuple(map(slice, starts, ends, steps))


class Defaults:
    """Array-API definitions of the two."""

    if TYPE_CHECKING:

        @property
        def xp(self) -> Any:
            """The backend's extended namespace."""

    def unfold(
        self, x: Array, sizes: Sequence[int], /, *, stride: Sequence[int], dilation: Sequence[int]
    ) -> Array:
        """Return the windows over the last axes of `x` (im2col).

        Parameters
        ----------
        x : array, shape (..., n1, ..., nd)
            What is looked at.
        sizes, stride, dilation : d ints each
            Elements of a window along each axis, the distance between windows, and that between elements.

        Returns
        -------
        array, shape (..., K, L)
            The K elements of each of the L windows, both in C order.
        """
        d, xp = len(sizes), self.xp
        lead, lengths = tuple(x.shape[: x.ndim - d]), x.shape[x.ndim - d :]
        counts = list(map(window_count, lengths, sizes, stride, dilation))
        out = xp.empty((*lead, math.prod(sizes), *counts), dtype=x.dtype, device=x.device)
        if math.prod(counts):
            for i, key in _places(sizes, counts, stride, dilation):
                xp.setitem(out, (..., i, *(slice(None),) * d), xp.getitem(x, (..., *key)))
        return xp.reshape(out, (*lead, math.prod(sizes), math.prod(counts)))

    def fold(
        self,
        windows: Array,
        lengths: Sequence[int],
        sizes: Sequence[int],
        /,
        *,
        stride: Sequence[int],
        dilation: Sequence[int],
    ) -> Array:
        """Return zeros with `windows` added where `unfold` finds them: its transpose (col2im).

        Parameters
        ----------
        windows : array, shape (..., K, L)
            As `unfold` gives them.
        lengths : d ints
            The last axes of the result.
        sizes, stride, dilation : d ints each
            As for `unfold`.

        Returns
        -------
        array, shape (..., n1, ..., nd)
        """
        d, xp = len(sizes), self.xp
        kind = dtypes.of(windows.dtype)
        if kind.kind == "f" and kind.itemsize == 2:  # noqa: PLR2004 - half precision, summed in float32
            wide = self.fold(
                xp.astype(windows, xp.float32), lengths, sizes, stride=stride, dilation=dilation
            )
            return xp.astype(wide, windows.dtype)
        lead = tuple(windows.shape[: windows.ndim - 2])
        counts = list(map(window_count, lengths, sizes, stride, dilation))
        windows = xp.reshape(windows, (*lead, math.prod(sizes), *counts))
        out = xp.zeros((*lead, *lengths), dtype=windows.dtype, device=windows.device)
        if math.prod(counts):
            for i, key in _places(sizes, counts, stride, dilation):
                part = xp.getitem(windows, (..., i, *(slice(None),) * d))
                xp.setitem(out, (..., *key), xp.getitem(out, (..., *key)) + part)
        return out

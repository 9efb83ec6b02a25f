"""``x.at[key]``: new Tensors that differ from `x` at some places."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp._core import fresh
from tinyxp.ops import _dispatch
from tinyxp.ops._creation import arange, asarray
from tinyxp.ops._elementwise import maximum, minimum, multiply, positive
from tinyxp.ops._indexing import _value as adapted
from tinyxp.ops._indexing import freeze, getitem, setitem, take, unindex
from tinyxp.ops._manipulation import broadcast_to, concat, reshape
from tinyxp.ops._searching import argsort, nonzero, where
from tinyxp.ops._statistical import max as largest_along

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyxp._core import Tensor

__all__ = ["At", "Places"]


class At:
    """What ``x.at`` is: index it to name places of `x`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.Tensor([1.0, 2.0, 3.0])
    >>> x.at[xp.Tensor([0, 0])].add(10.0).tolist(), x.tolist()
    ([21.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    """

    __slots__ = ("_x",)

    def __init__(self, x: Tensor) -> None:
        self._x = x

    def __getitem__(self, key: Any) -> Places:
        return Places(self._x, key)


class Places:
    """Some places of a Tensor, to make another that differs there; `x` itself does not change.

    All methods are differentiable, in `x` and in the values. Where an integer array names an element more than
    once, `add`, `multiply`, `min` and `max` take every value into account, and `set` the last one.
    """

    __slots__ = ("_basic", "_key", "_x")

    def __init__(self, x: Tensor, key: Any) -> None:
        self._x = fresh(x)
        self._key, self._basic = freeze(key, x)

    def get(self) -> Tensor:
        """Return ``x[key]``.

        Examples
        --------
        >>> import tinyxp as xp
        >>> xp.arange(4).at[1:3].get().tolist()
        [1, 2]
        """
        return getitem(self._x, self._key)

    def set(self, values: Any) -> Tensor:
        """Return `x` with `values` at the places.

        Parameters
        ----------
        values : Tensor or number
            Broadcasts to the shape of ``x[key]``.

        Examples
        --------
        >>> import tinyxp as xp
        >>> xp.zeros(3).at[1:].set(5.0).tolist()
        [0.0, 5.0, 5.0]
        """
        if self._basic:
            return self._write(self._key, self._values(values))
        return self._reduced(lambda _, later: later, self._values(values), lambda _, new: new)

    def add(self, values: Any) -> Tensor:
        """Return `x` with `values` added at the places.

        Parameters
        ----------
        values : Tensor or number
            Broadcasts to the shape of ``x[key]``.

        Examples
        --------
        >>> import tinyxp as xp
        >>> xp.zeros(3).at[xp.Tensor([1, 1])].add(xp.Tensor([2.0, 3.0])).tolist()
        [0.0, 5.0, 0.0]
        """
        x = self._x
        return x + unindex(self._values(values), self._key, tuple(x._raw.shape))

    def multiply(self, values: Any) -> Tensor:
        """Return `x` multiplied with `values` at the places.

        Parameters
        ----------
        values : Tensor or number
            Broadcasts to the shape of ``x[key]``.

        Examples
        --------
        >>> import tinyxp as xp
        >>> xp.ones(3).at[xp.Tensor([1, 1])].multiply(xp.Tensor([2.0, 3.0])).tolist()
        [1.0, 6.0, 1.0]
        """
        return self._update(multiply, values)

    def min(self, values: Any) -> Tensor:
        """Return `x` with the smaller of its elements and `values` at the places.

        Parameters
        ----------
        values : Tensor or number
            Broadcasts to the shape of ``x[key]``.

        Examples
        --------
        >>> import tinyxp as xp
        >>> xp.ones(2).at[0].min(-1.0).tolist()
        [-1.0, 1.0]
        """
        return self._update(minimum, values)

    def max(self, values: Any) -> Tensor:
        """Return `x` with the larger of its elements and `values` at the places.

        Parameters
        ----------
        values : Tensor or number
            Broadcasts to the shape of ``x[key]``.

        Examples
        --------
        >>> import tinyxp as xp
        >>> xp.ones(2).at[0].max(3.0).tolist()
        [3.0, 1.0]
        """
        return self._update(maximum, values)

    # ------------------------------------------------------------ how
    def _values(self, values: Any) -> Tensor:
        """Return `values` in the dtype of `x` and the shape of the places."""
        x = self._x
        values = adapted(x, values)
        if not _dispatch.is_tensor(values):
            values = asarray(values, dtype=x.dtype, device=x._device)
        shape = tuple(getitem(x.detach(), self._key)._raw.shape)
        same = tuple(values._raw.shape) == shape
        return values if same else broadcast_to(values, shape)

    def _update(self, combine: Callable[[Tensor, Tensor], Tensor], values: Any) -> Tensor:
        values = self._values(values)
        if self._basic:
            return self._write(self._key, combine(self.get(), values))
        return self._reduced(combine, values, combine)

    def _write(self, key: Any, values: Tensor) -> Tensor:
        out: Tensor = positive(self._x)
        setitem(out, key, values)
        return out

    def _reduced(
        self,
        combine: Callable[[Tensor, Tensor], Tensor],
        values: Tensor,
        update: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Bring the values of each element together, and write once to each."""
        shape = tuple(self._x._raw.shape)
        cells = reshape(arange(math.prod(shape), device=self._x._device), shape)
        places = reshape(getitem(cells, self._key), (-1,))
        if places._raw.shape[0] == 0:
            return positive(self._x)
        cell, value = segment_reduce(combine, reshape(values, (-1,)), places)
        flat = positive(reshape(self._x, (-1,)))
        setitem(flat, cell, update(take(flat, cell, axis=0), value))
        return reshape(flat, shape)


def segment_reduce(
    combine: Callable[[Tensor, Tensor], Tensor], values: Tensor, indices: Tensor
) -> tuple[Tensor, Tensor]:
    """Combine the values that have the same index, in their order.

    Pairs at distance 1, 2, 4 ... are combined until every segment is one: the segmented scan of W. D. Hillis
    and G. L. Steele, "Data parallel algorithms", CACM 29 (1986).

    Parameters
    ----------
    combine : callable
        Associative, of two Tensors of one shape.
    values : Tensor, shape (n,)
    indices : integer Tensor, shape (n,)

    Returns
    -------
    cells, combined : Tensor, shape (number of different indices,)

    Examples
    --------
    >>> import tinyxp as xp
    >>> cells, sums = segment_reduce(xp.add, xp.Tensor([1.0, 2.0, 4.0]), xp.Tensor([5, 0, 5]))
    >>> cells.tolist(), sums.tolist()
    ([0, 5], [2.0, 5.0])
    """
    order = argsort(indices)
    cells, values = take(indices, order, axis=0), take(values, order, axis=0)
    starts = concat([asarray([True], device=cells._device), cells[1:] != cells[:-1]])
    (first,) = nonzero(starts)
    ends = concat(
        [first[1:], asarray([cells._raw.shape[0]], dtype=first.dtype, device=cells._device)]
    )
    step, longest = 1, int(largest_along(ends - first))
    while step < longest:
        head, tail = values[:-step], values[step:]
        joined = where(cells[step:] == cells[:-step], combine(head, tail), head)
        values = concat([joined, values[-step:]])
        step *= 2
    return take(cells, first, axis=0), take(values, first, axis=0)

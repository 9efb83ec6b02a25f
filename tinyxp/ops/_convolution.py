"""Convolution and pooling, in one and two dimensions.

Windows are laid out as the columns of a matrix (im2col; K. Chellapilla, S. Puri, P. Simard, "High performance
convolutional neural networks for document processing", 2006), so that a convolution is a matrix product and its
transpose the transposed product. What is called convolution is, as everywhere in deep learning, correlation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._windows import window_count
from tinyxp.autograd._graph import op
from tinyxp.errors import ShapeError
from tinyxp.ops import _dispatch
from tinyxp.ops._beyond import pad
from tinyxp.ops._dispatch import as_tensor
from tinyxp.ops._indexing import getitem
from tinyxp.ops._linear_algebra import matmul
from tinyxp.ops._manipulation import broadcast_to, matrix_transpose, reshape
from tinyxp.ops._statistical import max as largest_along
from tinyxp.ops._statistical import mean as mean_along

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyxp._core import Tensor

__all__ = [
    "avg_pool1d", "avg_pool2d", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "fold",
    "max_pool1d", "max_pool2d", "unfold",
]  # fmt: skip

Ints = tuple[int, ...]


# ---------------------------------------------------------------- windows
def unfold(x: Tensor, sizes: Sequence[int], /, *, stride: Any = 1, dilation: Any = 1) -> Tensor:
    """Return the windows over the last axes of `x` as columns.

    Parameters
    ----------
    x : Tensor, shape (..., n1, ..., nd)
    sizes : tuple of d ints
        Elements of a window along each of the last d axes.
    stride, dilation : int or tuple of d ints
        The distance between windows, and between the elements of one.

    Returns
    -------
    Tensor, shape (..., K, L)
        The K elements of each of the L windows, both in C order.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.unfold(xp.arange(4), (2,)).tolist()
    [[0, 1, 2], [1, 2, 3]]
    """
    x = as_tensor(x)
    d = len(sizes)
    steps, dilations = _each(stride, d, "stride"), _each(dilation, d, "dilation")
    if len(x._raw.shape) < d:
        raise ShapeError(f"unfold expects at least {d} axes; got shape {x.shape}")
    out: Tensor = _dispatch.apply("unfold", (x, tuple(sizes), steps, dilations))
    return out


def fold(
    windows: Tensor,
    lengths: Sequence[int],
    sizes: Sequence[int],
    /,
    *,
    stride: Any = 1,
    dilation: Any = 1,
) -> Tensor:
    """Return zeros with columns added where `unfold` finds them: its transpose.

    Parameters
    ----------
    windows : Tensor, shape (..., K, L)
    lengths : tuple of d ints
        The last axes of the result.
    sizes, stride, dilation
        As for `unfold`.

    Returns
    -------
    Tensor, shape (..., n1, ..., nd)

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.fold(xp.ones((2, 3)), (4,), (2,)).tolist()
    [1.0, 2.0, 2.0, 1.0]
    """
    windows = as_tensor(windows)
    d = len(sizes)
    steps, dilations = _each(stride, d, "stride"), _each(dilation, d, "dilation")
    counts = map(window_count, lengths, sizes, steps, dilations)
    expected = (math.prod(sizes), math.prod(counts))
    if tuple(windows._raw.shape[-2:]) != expected:
        raise ShapeError(f"fold expects windows of shape (..., {expected[0]}, {expected[1]}); got {windows.shape}")
    out: Tensor = _dispatch.apply("fold", (windows, tuple(lengths), tuple(sizes), steps, dilations))
    return out


def _unfold_rule(
    xp: Any, g: Any, _out: Any, _x: Any, sizes: Ints, steps: Ints, dilations: Ints
) -> Any:
    return xp.fold(g, tuple(_x.shape[-len(sizes) :]), sizes, steps, dilations)


def _fold_rule(
    xp: Any, g: Any, _out: Any, _x: Any, _lengths: Ints, sizes: Ints, steps: Ints, dilations: Ints
) -> Any:
    return xp.unfold(g, sizes, steps, dilations)

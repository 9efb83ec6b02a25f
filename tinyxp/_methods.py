"""Functions of the namespace as methods of `Tensor`, with the names that NumPy's and PyTorch's users know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import ops
from tinyxp._operators import elementwise

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyxp._core import Tensor


_view, _reshape = ops._dispatch.view, ops.reshape
_UNSET = {"dtype", "out"}  # what numpy.sum(x) and its like pass on as None


def _axis(axis: Any, dim: Any) -> Any:
    if axis is not None and dim is not None:
        raise TypeError(f"axis and dim are two names of one option; got axis={axis} and dim={dim}")
    return axis if dim is None else dim


def _reduction(name: str) -> Callable[..., Tensor]:
    function = getattr(ops, name)

    def method(
        self: Tensor,
        axis: Any = None,
        keepdims: bool = False,  # noqa: FBT001, FBT002 - positional as in NumPy
        *,
        dim: Any = None,
        keepdim: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        if dim is not None:
            axis = _axis(axis, dim)
        given = (
            {k: v for k, v in kwargs.items() if v is not None or k not in _UNSET}
            if kwargs
            else kwargs
        )
        found: Tensor = function(self, axis=axis, keepdims=keepdims or keepdim, **given)
        return found

    method.__name__ = name
    method.__doc__ = f"Return ``tinyxp.{name}`` of this Tensor; ``dim`` and ``keepdim`` are other names of the options."
    return method


def reshape(self: Tensor, *shape: Any, copy: bool | None = None) -> Tensor:
    """Return ``tinyxp.reshape`` of this Tensor; the shape may be spread over the arguments."""
    if len(shape) == 1 and type(shape[0]) is not int:
        shape = shape[0]
    if copy is None and self._alias is None and type(shape) is tuple:
        return _view("reshape", self, self._device.xp.reshape, _reshape, (shape,))
    return _reshape(self, shape, copy=copy)


def _spread(values: tuple[Any, ...]) -> tuple[int, ...]:
    if len(values) == 1 and isinstance(values[0], (tuple, list)):
        return tuple(values[0])
    return values


def permute(self: Tensor, *axes: Any) -> Tensor:
    """Return ``tinyxp.permute_dims`` of this Tensor; the axes may be spread over the arguments."""
    return ops.permute_dims(self, _spread(axes))


def transpose(self: Tensor, *axes: Any) -> Tensor:
    """Return a view with two axes swapped, with all in a given order, or, without arguments, reversed."""
    n = len(self._raw.shape)
    given = _spread(axes)
    if not given:
        given = tuple(reversed(range(n)))
    elif len(given) == 2 and n != 2:  # noqa: PLR2004 - a pair to swap
        order = list(range(n))
        i, j = given
        order[i], order[j] = order[j], order[i]
        given = tuple(order)
    elif len(given) == 2:  # noqa: PLR2004 - a pair
        given = (1, 0) if given[0] % 2 != given[1] % 2 else (0, 1)
    return ops.permute_dims(self, given)


def swapaxes(self: Tensor, axis1: int, axis2: int) -> Tensor:
    """Return a view with two axes swapped."""
    order = list(range(len(self._raw.shape)))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return ops.permute_dims(self, order)


def squeeze(self: Tensor, axis: Any = None, *, dim: Any = None) -> Tensor:
    """Return a view without axes of length 1, by default without any."""
    axis = _axis(axis, dim)
    if axis is None:
        axis = tuple(i for i, n in enumerate(self._raw.shape) if n == 1)
    return ops.squeeze(self, axis)


def unsqueeze(self: Tensor, axis: int) -> Tensor:
    """Return a view with an axis of length 1 inserted."""
    return ops.expand_dims(self, axis=axis)


def flatten(self: Tensor, start: int = 0, end: int = -1) -> Tensor:
    """Return this Tensor with the axes from `start` to `end` joined."""
    shape = self.shape
    n = max(len(shape), 1)
    start, end = start % n, end % n
    return ops.reshape(self, (*shape[:start], -1, *shape[end + 1 :]))


def clip(self: Tensor, min: Any = None, max: Any = None) -> Tensor:  # noqa: A002 - the standard's names
    """Return ``tinyxp.clip`` of this Tensor."""
    return ops.clip(self, min, max)


def astype(self: Tensor, dtype: Any, *, copy: bool = True) -> Tensor:
    """Return ``tinyxp.astype`` of this Tensor."""
    return ops.astype(self, dtype, copy=copy)


def argmax(self: Tensor, axis: Any = None, *, keepdims: bool = False, dim: Any = None) -> Tensor:
    """Return ``tinyxp.argmax`` of this Tensor."""
    return ops.argmax(self, axis=_axis(axis, dim), keepdims=keepdims)


def argmin(self: Tensor, axis: Any = None, *, keepdims: bool = False, dim: Any = None) -> Tensor:
    """Return ``tinyxp.argmin`` of this Tensor."""
    return ops.argmin(self, axis=_axis(axis, dim), keepdims=keepdims)


def matmul(self: Tensor, other: Tensor) -> Tensor:
    """Return ``tinyxp.matmul`` of this Tensor and another."""
    return ops.matmul(self, other)


class Methods:
    """Functions of the namespace with the Tensor in front."""

    __slots__ = ()
    view = reshape
    reshape = reshape
    permute = permute
    transpose = transpose
    swapaxes = swapaxes
    squeeze = squeeze
    unsqueeze = unsqueeze
    flatten = flatten
    clip = clip
    astype = astype
    argmax = argmax
    argmin = argmin
    matmul = matmul
    sum = _reduction("sum")
    mean = _reduction("mean")
    prod = _reduction("prod")
    max = _reduction("max")
    min = _reduction("min")
    var = _reduction("var")
    std = _reduction("std")
    all = _reduction("all")
    any = _reduction("any")
    exp = elementwise("exp")
    log = elementwise("log")
    sqrt = elementwise("sqrt")
    tanh = elementwise("tanh")
    sin = elementwise("sin")
    cos = elementwise("cos")
    abs = elementwise("abs")
    square = elementwise("square")
    sign = elementwise("sign")
    floor = elementwise("floor")
    ceil = elementwise("ceil")
    round = elementwise("round")
    conj = elementwise("conj")
    erf = elementwise("erf")
    isnan = elementwise("isnan")
    isfinite = elementwise("isfinite")

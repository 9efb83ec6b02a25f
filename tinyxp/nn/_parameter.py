"""Tensors that a module trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp._core import Tensor, fresh, is_leaf, set_leaf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyxp.backend import Device
    from tinyxp.dtypes import DTypeLike

__all__ = ["Parameter", "adopt", "rebuild"]


class Parameter(Tensor):
    """A Tensor that belongs to a module's parameters, also while it is frozen.

    Parameters
    ----------
    data : number, nested sequence, array or Tensor
        The value to start from.
    requires_grad : bool
        False for a parameter that is frozen from the start.
    dtype : DTypeLike, optional
        A floating dtype, by default that of `data`.
    device : Device or str, optional
        Where it lives.

    Examples
    --------
    >>> from tinyxp import nn
    >>> nn.Parameter([1.0, 2.0]).requires_grad
    True
    """

    __slots__ = ()

    def __init__(
        self,
        data: Any,
        requires_grad: bool = True,  # noqa: FBT001, FBT002 - the order of Tensor's arguments
        *,
        dtype: DTypeLike | None = None,
        device: Device | str | None = None,
    ) -> None:
        super().__init__(data, requires_grad, dtype=dtype, device=device)


def adopt(t: Tensor) -> Parameter:
    """Return a Parameter around the array of a Tensor that nobody else holds."""
    p = Parameter.__new__(Parameter)
    p._raw, p._device = t._raw, t._device
    p._node, p._index, p._alias, p._version, p._shared = None, 0, None, 0, False
    set_leaf(p)
    return p


def rebuild(t: Tensor, targets: Sequence[Any]) -> None:
    """Move `t` to devices and convert it, if it is floating, to dtypes, without making another object.

    A gradient moves along. Integer Tensors keep their dtype.
    """
    new, grad = fresh(t).detach(), t.grad
    floating = t.dtype.kind in "fc"
    for target in targets:
        moved = new.to(target)
        new = moved if floating or moved.dtype == new.dtype else new
        grad = None if grad is None else grad.to(target)
    if new.device is t.device and new.dtype == t.dtype:
        return
    leaf = is_leaf(t)
    t._raw, t._device, t._node, t._alias, t._shared = new._raw, new._device, None, None, False
    t._version += 1
    if leaf:
        set_leaf(t)
        t.grad = grad

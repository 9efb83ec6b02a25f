"""Clipping of gradients, by their common norm or by value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp import _core, dtypes
from tinyxp._devices import on
from tinyxp.backend import get_default_device
from tinyxp.errors import DeviceMismatchError

from ._optimizer import tier3

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tinyxp._core import Tensor
    from tinyxp.backend import Device

__all__ = ["clip_grad_norm_", "clip_grad_value_", "grad_norm"]

Array = Any  # an array of a backend's library


def clip_grad_norm_(
    params: Iterable[Tensor] | Tensor,
    max_norm: float,
    norm_type: float = 2.0,
    *,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients in place by one factor, so that their common norm is at most `max_norm`.

    The factor is ``min(1, max_norm / (norm + 1e-6))``; nothing is copied from the device to find it.
    R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", 2013,
    algorithm 1.

    Parameters
    ----------
    params : iterable of Tensor, or one Tensor
        Parameters; those without gradient are passed over, and each gradient is scaled once.
    max_norm : float
        Largest norm to keep.
    norm_type : float
        Which norm, ``math.inf`` for the largest element.
    error_if_nonfinite : bool
        Raise if the norm is infinite or NaN. This waits for the device.

    Returns
    -------
    0-d Tensor
        Norm before clipping, on the gradients' device: float64 if a gradient is, otherwise float32.

    Raises
    ------
    DeviceMismatchError
        If the gradients are on several devices.
    ValueError
        If `max_norm` is negative, or the norm is not finite and `error_if_nonfinite`.

    Examples
    --------
    >>> import tinyxp
    >>> w = tinyxp.Tensor([0.0, 0.0], requires_grad=True)
    >>> w.grad = tinyxp.Tensor([3.0, 4.0])
    >>> clip_grad_norm_([w], 1.0).item()
    5.0
    >>> [round(x, 4) for x in w.grad.tolist()]
    [0.6, 0.8]
    """
    if not max_norm >= 0.0:
        raise ValueError(f"clip_grad_norm_ expects max_norm >= 0; got {max_norm}")
    grads = _grads(params)
    if grads and _is_euclidean(grads, norm_type):
        device, dtype = _place(grads)
        with on(device), device.backend.quiet():
            raw, factor = tier3(device, "norm_and_factor")([g.data for g in grads], dtype, max_norm)
        norm = _wrapped(raw, device)
    else:
        norm, factor = _norm(grads, norm_type), None
        device = norm.device
    if error_if_nonfinite and not math.isfinite(norm.item()):
        raise ValueError(
            f"the gradients have the norm {norm.item()}; look for the operation that made it with "
            "tinyxp.set_detect_anomaly(True), or pass error_if_nonfinite=False"
        )
    if grads:
        with on(device), device.backend.quiet():
            if factor is None:
                factor = device.xp.clip(max_norm / (norm.data + 1e-6), max=1.0)
            _scale(grads, factor, device)
    return norm


def _scale(grads: list[Tensor], factor: Array, device: Device) -> None:
    """Multiply `grads`, all on `device`, by one number, in place."""
    free = []
    for g in grads:
        if g._shared or _core.root_of(g) is not g:  # saved by a graph, or a view of another array
            with _core.grad_mode(False):  # noqa: FBT003 - the mode is the argument
                g *= _wrapped(device.xp.astype(factor, g.data.dtype), device)  # noqa: PLW2901 - in place
        else:
            free.append(g)
    tier3(device, "scale_all")([g.data for g in free], factor)
    for g in free:
        _core.written(g)


def grad_norm(params: Iterable[Tensor] | Tensor, norm_type: float = 2.0) -> Tensor:
    """Return the common norm of all gradients, a 0-d Tensor on their device.

    Parameters
    ----------
    params : iterable of Tensor, or one Tensor
        Parameters; those without gradient are passed over.
    norm_type : float
        Which norm, ``math.inf`` for the largest element.

    Examples
    --------
    >>> import tinyxp
    >>> w = tinyxp.Tensor([1.0], requires_grad=True)
    >>> (3 * w).sum().backward()
    >>> grad_norm([w]).item()
    3.0
    """
    return _norm(_grads(params), norm_type)


def clip_grad_value_(params: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """Limit every element of every gradient to ``[-clip_value, clip_value]``, in place.

    Parameters
    ----------
    params : iterable of Tensor, or one Tensor
        Parameters; those without gradient are passed over.
    clip_value : float
        Largest magnitude to keep.

    Examples
    --------
    >>> import tinyxp
    >>> w = tinyxp.Tensor([0.0, 0.0], requires_grad=True)
    >>> w.grad = tinyxp.Tensor([3.0, -0.5])
    >>> clip_grad_value_([w], 1.0)
    >>> w.grad.tolist()
    [1.0, -0.5]
    """
    if not clip_value >= 0.0:
        raise ValueError(f"clip_grad_value_ expects clip_value >= 0; got {clip_value}")
    for g in _grads(params):
        xp, raw = g.device.xp, g.data
        with on(g.device), _core.grad_mode(False):  # noqa: FBT003 - the mode is the argument
            g[...] = _wrapped(xp.clip(raw, min=-clip_value, max=clip_value), g.device)


def _grads(params: Iterable[Tensor] | Tensor) -> list[Tensor]:
    """Return the gradients of `params`, each once."""
    found: list[Any] = [params] if isinstance(params, _core.Tensor) else list(params)
    grads = [p.grad for p in found if p.grad is not None]
    return list({id(g): g for g in grads}.values())


def _norm(grads: list[Tensor], norm_type: float) -> Tensor:
    if not norm_type > 0.0:
        raise ValueError(f"the norm of gradients expects norm_type > 0; got {norm_type}")
    if not grads:
        d = get_default_device()
        return _core.wrap(d.xp.zeros((), dtype=d.xp.float32, device=d.native), d)
    d, dtype = _place(grads)
    with on(d):
        return _wrapped(_raw_norm(grads, d, dtype, norm_type), d)


def _raw_norm(grads: list[Tensor], d: Device, dtype: Any, norm_type: float) -> Array:
    xp = d.xp
    if _is_euclidean(grads, norm_type):
        return tier3(d, "sum_of_squares")([g.data for g in grads], dtype) ** 0.5
    parts = [_part(xp, g.data, dtype, norm_type) for g in grads if g.size]
    parts = parts or [xp.zeros((), dtype=dtype, device=d.native)]
    if norm_type == math.inf:
        return xp.max(xp.stack(parts))
    return xp.sum(xp.stack(parts)) ** (1.0 / norm_type)


def _place(grads: list[Tensor]) -> tuple[Device, Any]:
    """Return the device of all `grads`, and the dtype of their norm."""
    d = grads[0].device
    others = {str(g.device) for g in grads if g.device is not d}
    if others:
        raise DeviceMismatchError(
            f"the norm of gradients is taken on one device; got gradients on {', '.join({str(d)} | others)}: "
            "clip the parameters of each device on its own"
        )
    wide = any(dtypes.of(g.dtype).name in ("float64", "complex128") for g in grads)
    return d, d.xp.float64 if wide else d.xp.float32


def _is_euclidean(grads: list[Tensor], norm_type: float) -> bool:
    """Whether the norm is the root of a sum of squares of real numbers."""
    return norm_type == 2.0 and all(dtypes.of(g.dtype).kind == "f" for g in grads)  # noqa: PLR2004 - the Euclidean norm


def _wrapped(raw: Array, device: Device) -> Tensor:
    """Return `raw` as a Tensor, also where the library gave a scalar instead of a 0-d array."""
    return _core.wrap(raw if type(raw) is device.array_type else device.wrap(raw), device)


def _part(xp: Any, g: Array, dtype: Any, norm_type: float) -> Array:
    """Return what one gradient adds to the norm: a sum of powers, or the largest magnitude."""
    g = xp.reshape(g, (-1,))
    if xp.isdtype(g.dtype, "complex floating"):
        g = xp.abs(g)
    g = xp.astype(g, dtype, copy=False)
    if norm_type == math.inf:
        return xp.max(xp.abs(g))
    if norm_type == 2.0:  # noqa: PLR2004 - the Euclidean norm
        return xp.vecdot(g, g)
    return xp.sum(xp.abs(g) ** norm_type)

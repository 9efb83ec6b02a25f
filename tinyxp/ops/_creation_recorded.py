"""Creation functions whose numbers are Tensors: the results are part of their graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp._core import MODE, TENSORS, Tensor
from tinyxp.errors import ShapeError
from tinyxp.ops import _dispatch

if TYPE_CHECKING:
    from tinyxp.dtypes import DTypeLike

DeviceLike = Any  # a Device, its string, or None for the default


def filled(
    value: Tensor, shape: tuple[int, ...], dtype: DTypeLike, device: DeviceLike, name: str
) -> Tensor:
    """Compute `full` of a Tensor of one element."""
    from tinyxp import ops

    if value.size != 1:
        raise ShapeError(f"{name} expects a fill_value of one element; got shape {value.shape}")
    one = ops.reshape(ops.asarray(value, dtype=dtype, device=device), ())
    return ops.asarray(ops.broadcast_to(one, shape), copy=True)


def progression(out: Tensor, start: Any, step: Any) -> Tensor:
    """Make the result of `arange` depend on a start and a step that require grad, without changing a number."""
    from tinyxp import ops

    if not MODE.grad or out.dtype.kind != "f":
        return out
    for is_step, number in enumerate((start, step)):
        if type(number) in TENSORS and number.requires_grad:
            zero = ops.astype(number - number.detach(), out.dtype).to(out.device)
            if is_step:
                zero = zero * ops.arange(out.shape[0], dtype=out.dtype, device=out.device)
            out = out + zero
    return out


def linspace_between(
    start: Any, stop: Any, num: int, *, dtype: DTypeLike, device: DeviceLike, endpoint: bool
) -> Tensor:
    """Compute `linspace` of bounds that are Tensors or a library's scalars, in their dtype as NumPy does."""
    from tinyxp import ops

    start, stop = (_dispatch.as_tensor(v) if hasattr(v, "dtype") else v for v in (start, stop))
    start, stop = ops.broadcast_arrays(start * 1.0, stop * 1.0)
    if start.shape:
        raise ShapeError(f"linspace expects bounds of shape (); got {start.shape}")
    step = (stop - start) / max(num - 1 if endpoint else num, 1)
    steps = ops.arange(num, device=step.device)
    found = ops.astype(steps, step.dtype) * step + start
    if endpoint and num > 1:
        found = ops.where(steps == num - 1, stop, found)
    out: Tensor = found.to(*(target for target in (dtype, device) if target is not None))
    return out

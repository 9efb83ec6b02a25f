"""Dynamic scaling of the loss, so that gradients in float16 are not rounded to zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import _core
from tinyxp._capture import refuse
from tinyxp._devices import on
from tinyxp.errors import CheckpointError, DTypeError, GraphError

from ._clip import _grads, _place, _scale
from ._optimizer import is_half, tier3

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinyxp._core import Tensor
    from tinyxp.backend import Device

    from ._optimizer import Optimizer

__all__ = ["GradScaler"]

_NUMBERS = ("growth_factor", "backoff_factor", "growth_interval")


class GradScaler:
    """Multiplies the loss by a factor and divides the gradients by it; finds the factor as it goes.

    P. Micikevicius and others, "Mixed precision training", arXiv:1710.03740, sections 3.2 and 3.3. The factor is
    halved, and the step left out, where the norm of the gradients is infinite or NaN; it is doubled after 2000
    steps without.
    bfloat16 reaches as far as float32 and needs none of this.

    On a GPU nothing is read back: factor, flag and count stay on the device, and a step that is left out is a
    step whose writes the device undoes. Adam counts it all the same, which changes its bias correction by
    little, and never after the first hundreds of steps. On the CPU the flag is looked at, and the step not made;
    on a GPU too before the first step of other optimizers, which could not be undone.

    Parameters
    ----------
    init_scale : float
        The first factor.
    growth_factor, backoff_factor : float
        What it is multiplied by after `growth_interval` good steps in a row, and after a bad one.
    growth_interval : int
        Number of steps.
    enabled : bool
        False: change nothing, so that a training loop need not ask.

    Examples
    --------
    >>> import tinyxp
    >>> w = tinyxp.Tensor([3.0], requires_grad=True)
    >>> optimizer, scaler = tinyxp.optim.SGD([w], lr=0.5), GradScaler(1024.0)
    >>> with tinyxp.autocast("float16"):
    ...     loss = w @ w
    >>> scaler.scale(loss).backward()
    >>> scaler.unscale_(optimizer)  # only to look at the gradients, or to clip them
    >>> w.grad.tolist()
    [6.0]
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> w.tolist()
    [0.0]
    """

    def __init__(
        self,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        *,
        enabled: bool = True,
    ) -> None:
        if not init_scale > 0 or growth_factor <= 1 or not 0 < backoff_factor < 1:
            raise ValueError(
                "GradScaler expects init_scale > 0, growth_factor > 1 and 0 < backoff_factor < 1; got "
                f"{init_scale}, {growth_factor} and {backoff_factor}"
            )
        if growth_interval < 1 or growth_interval % 1:
            raise ValueError(
                f"GradScaler expects growth_interval to be an int >= 1; got {growth_interval!r}"
            )
        self.growth_factor, self.backoff_factor = float(growth_factor), float(backoff_factor)
        self.growth_interval, self.enabled = growth_interval, enabled
        self._first: tuple[float, int] = (float(init_scale), 0)  # before there is a device
        self._scale: Tensor | None = None
        self._good: Tensor | None = None  # how many good steps in a row
        self._found: dict[Optimizer, Tensor] = {}  # whether something was infinite, since `update`
        self._stepped: set[Optimizer] = set()

    def __repr__(self) -> str:
        return f"GradScaler(growth_interval={self.growth_interval}, enabled={self.enabled})"

    # ------------------------------------------------------------ a step
    def scale(self, outputs: Any) -> Any:
        """Return a loss, or several in a tuple or list, times the factor."""
        if not self.enabled:
            return outputs
        if isinstance(outputs, (tuple, list)):
            return type(outputs)([self.scale(x) for x in outputs])
        if type(outputs) not in _core.TENSORS:
            raise TypeError(
                f"GradScaler.scale expects a loss, or several in a tuple or list; got {type(outputs).__name__}"
            )
        self._begin(outputs.device)
        if is_half(outputs):
            outputs = outputs.to("float32")  # the factor is too large for float16
        return outputs * self._scale

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients of an optimizer's parameters by the factor, and look for infinities and NaN.

        To be called before gradients are clipped or looked at; `step` does it otherwise.
        """
        if not self.enabled:
            return
        if optimizer in self._found:
            raise GraphError("GradScaler: unscale_() was already called since the last update()")
        if self._scale is None:
            raise GraphError("GradScaler: scale the loss first: scaler.scale(loss).backward()")
        params = [p for group in optimizer.param_groups for p in group["params"]]
        grads = _grads(params)
        for g in grads:
            if is_half(g):
                raise DTypeError(
                    f"GradScaler got a gradient in {g.dtype}, which would lose what the factor is for: keep the "
                    "parameters in float32 and compute in tinyxp.autocast('float16'), or take bfloat16"
                )
        device = self._scale.device
        if not grads:
            self._found[optimizer] = _wrap(device.xp.asarray(False), device)  # noqa: FBT003 - a value
            return
        where, dtype = _place(grads)
        with on(where), where.backend.quiet():
            _scale(grads, 1.0 / self._scale.to(where).data, where)
            total = tier3(where, "sum_of_squares")([g.data for g in grads], dtype)
            found = _wrap(~where.xp.isfinite(total), where)
        self._found[optimizer] = found

    def step(self, optimizer: Optimizer) -> None:
        """Let the optimizer make its step, or none if a gradient is infinite or NaN."""
        if not self.enabled:
            optimizer.step()
            return
        if optimizer in self._stepped:
            raise GraphError("GradScaler: step() was already called since the last update()")
        if optimizer not in self._found:
            self.unscale_(optimizer)
        found = self._found[optimizer]
        if not found.device.backend.host_visible:
            optimizer.step(skip=found)
        elif not bool(found):
            optimizer.step()
        self._stepped.add(optimizer)

    def update(self, new_scale: float | None = None) -> None:
        """Adapt the factor to what the steps have found, or set it to `new_scale`."""
        if not self.enabled:
            return
        if self._scale is None or self._good is None or (new_scale is None and not self._found):
            raise GraphError("GradScaler: update() comes after step()")
        device, scale, good = self._scale.device, self._scale.data, self._good.data
        xp, setitem = device.xp, device.xp.setitem
        with on(device), device.backend.quiet():
            if new_scale is not None:
                setitem(scale, ..., new_scale)
            else:
                bad = None
                for found in self._found.values():
                    flag = found.to(device).data
                    bad = flag if bad is None else bad | flag
                count = good + 1
                grown = count >= self.growth_interval
                more = xp.where(grown, scale * self.growth_factor, scale)
                more = xp.where(xp.isfinite(more), more, scale)
                setitem(scale, ..., xp.where(bad, scale * self.backoff_factor, more))
                setitem(good, ..., xp.where(bad | grown, xp.zeros_like(count), count))
        for t in (self._scale, self._good):
            _core.written(t)
        self._found, self._stepped = {}, set()

    def _begin(self, device: Device) -> None:
        if self._scale is not None:
            return
        refuse("the scaler has no factor yet")
        xp, (scale, good) = device.xp, self._first
        with on(device):
            self._scale = _wrap(xp.full((), scale, dtype=xp.float32, device=device.native), device)
            self._good = _wrap(xp.full((), good, dtype=xp.int32, device=device.native), device)

    # ------------------------------------------------------------ storing
    def get_scale(self) -> float:
        """Return the factor; this waits for the device."""
        if not self.enabled:
            return 1.0
        return self._first[0] if self._scale is None else float(self._scale)

    def state_dict(self) -> dict[str, float]:
        """Return the factor, the number of good steps and the options; this waits for the device."""
        if not self.enabled:
            return {}
        good = self._first[1] if self._good is None else int(self._good)
        options = {name: getattr(self, name) for name in _NUMBERS}
        return {"scale": self.get_scale(), "_growth_tracker": good, **options}

    def load_state_dict(self, state_dict: Mapping[str, float], /) -> None:
        """Go on with what `state_dict` returned."""
        if not self.enabled:
            return
        missing = [k for k in ("scale", "_growth_tracker", *_NUMBERS) if k not in state_dict]
        if missing:
            raise CheckpointError(
                f"the state dict of a GradScaler lacks {', '.join(missing)}; is it of one with enabled=False?"
            )
        for name in _NUMBERS:
            setattr(self, name, state_dict[name])
        self._first = float(state_dict["scale"]), int(state_dict["_growth_tracker"])
        self._scale = self._good = None
        self._found, self._stepped = {}, set()


def _wrap(raw: Any, device: Device) -> Tensor:
    return _core.wrap(raw if type(raw) is device.array_type else device.wrap(raw), device)

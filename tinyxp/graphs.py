"""Steps recorded as a graph of launches: what takes the host longest on a GPU, done in one call.

A step of a small model is hundreds of launches, and the host needs longer to ask for them than the GPU to do
them. `Captured` runs a function a few times, records what it asks of the device, and from then on has the
device repeat it.
"""

from __future__ import annotations

import operator
import warnings
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from tinyxp import _draw
from tinyxp._capture import record
from tinyxp._core import MODE, fresh, wrap
from tinyxp._devices import on
from tinyxp.backend import device as find_device
from tinyxp.errors import CaptureError
from tinyxp.random import Generator, default_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tinyxp._capture import Recording
    from tinyxp._core import Tensor
    from tinyxp.backend import Device

__all__ = ["Captured"]

Outputs = Any  # a Tensor, or a tuple of them
_MOST_DRAWS = 4096  # of a recorded function: a graph has 64 KiB for their keys


class Captured:
    """A function whose launches are recorded once for each shape of its arguments and then replayed.

    The function may do everything that stays on one device: a training step from the forward pass to the
    update of the weights, for instance. It must depend on nothing but its arguments, arrays that are written
    in place (parameters, the state of an optimizer), and what stays the same: `train()` and `eval()` of a module
    between calls are not seen. Each replay works in the memory
    of the recording, so gradients from before are gone; what is returned is a copy. Dropout by the default
    generator drops in each replay what it would drop without.

    Where recording is impossible the function is simply called, and a warning says why: the backend records
    nothing, something is read from the device, other random numbers are drawn, the optimizer is another than
    `AdamW` or `Adam`, products take a way that cannot be recorded.

    Parameters
    ----------
    function : callable
        Takes Tensors; returns a Tensor or a tuple of Tensors.
    parameters : iterable of Tensor
        Whose ``.grad`` the function sets: after each replay it is what the replay wrote.
    warmup : int
        How many calls with arguments of a shape come before the recording.
    device : Device or str, optional
        Where the function works, if neither arguments nor parameters say it.
    keep : int
        How many shapes to keep the graphs of; the one not used for longest goes first.

    Attributes
    ----------
    reason : str or None
        Why nothing is recorded; None while nothing speaks against it.

    Examples
    --------
    >>> import tinyxp
    >>> w = tinyxp.Tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = tinyxp.optim.AdamW([w], lr=0.1)
    >>> def step(x):
    ...     optimizer.zero_grad()
    ...     loss = ((w - x) ** 2).sum()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> fast = Captured(step, parameters=[w], warmup=1)
    >>> fast(tinyxp.zeros(2)).item()
    5.0
    """

    def __init__(
        self,
        function: Callable[..., Outputs],
        *,
        parameters: Iterable[Tensor] = (),
        warmup: int = 2,
        keep: int = 4,
        device: Device | str | None = None,
    ) -> None:
        if warmup < 1 or keep < 1:
            raise ValueError(
                f"Captured expects warmup >= 1 and keep >= 1; got warmup={warmup}, keep={keep}"
            )
        self.function, self.parameters = function, list(parameters)
        self.warmup, self.keep = warmup, keep
        self.devices = set() if device is None else {find_device(device)}
        self.reason: str | None = None
        self._calls: dict[Any, int] = {}
        self._graphs: OrderedDict[Any, _Graph] = OrderedDict()

    def __call__(self, *args: Tensor) -> Outputs:
        """Do what the function does, and return what it returns, detached."""
        if self.reason is not None:
            return _detached(self.function(*args))
        key = (
            *((x.shape, x.dtype, str(x.device)) for x in args),
            MODE.grad,
            MODE.fused,
            MODE.compute,
        )
        graph = self._graphs.get(key)
        if graph is not None:
            if graph.prepare():
                self._graphs.move_to_end(key)
                return graph.replay(args)
            del self._graphs[key]  # an array was replaced: by load_state_dict(), say
            self._calls[key] = self.warmup - 1  # what is missing is made by a call without a graph
        if self._calls.setdefault(key, 0) < self.warmup:
            self._calls[key] += 1
            return _detached(self.function(*args))
        return self._record(key, args)

    def _record(self, key: Any, args: tuple[Tensor, ...]) -> Outputs:
        before = [p.grad for p in self.parameters]
        try:
            graph = _Graph(self.function, self.parameters, args, self.devices)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the call below says it aloud if it is no matter of recording
            for p, g in zip(self.parameters, before, strict=True):
                p.grad = g
            self.reason = _first(exc)
            warn(self.reason)
            return _detached(self.function(*args))
        self._graphs[key] = graph
        while len(self._graphs) > self.keep:
            self._calls.pop(self._graphs.popitem(last=False)[0])
        graph.prepare()
        return graph.replay(args)


class _Graph:
    """One recording: the Tensors it reads and writes, and what starts it."""

    def __init__(
        self,
        function: Callable[..., Outputs],
        parameters: list[Tensor],
        args: tuple[Tensor, ...],
        devices: set[Device],
    ) -> None:
        devices = devices | {x.device for x in (*args, *parameters)}
        if len(devices) != 1:
            names = ", ".join(sorted(map(str, devices))) or "none"
            raise ValueError(f"a graph is recorded on one device; the Tensors are on {names}")
        (self.device,) = devices
        backend = self.device.backend
        self.inputs = [wrap(backend.copy(fresh(x)._raw), self.device) for x in args]
        self.parameters, self.kept = parameters, _lasting(parameters)
        draws = _Draws(self.device)
        with record(draws) as self.host:
            self.outputs, self.launch = backend.capture(
                lambda: _detached(function(*self.inputs)), self.device.local
            )
        draws.repeat(self.host)
        self.grads = [p.grad for p in parameters]

    def prepare(self) -> bool:
        """Do the host's part of a replay; return False if the graph no longer fits what it writes."""
        now = _lasting(self.parameters)
        return all(map(operator.is_, now, self.kept)) and self.host.prepare()

    def replay(self, args: tuple[Tensor, ...]) -> Outputs:
        """Copy `args` to where the graph reads them, start it, and return copies of what it wrote."""
        device = self.device
        with on(device):
            for mine, given in zip(self.inputs, args, strict=True):
                device.xp.setitem(mine._raw, ..., fresh(given)._raw)
            self.launch()
            for p, g in zip(self.parameters, self.grads, strict=True):
                p.grad = g
            return _each(self.outputs, lambda x: wrap(device.backend.copy(x._raw), device))


class _Draws(Generator):
    """Stands for the default generator in a recording, whose replays draw as if nothing were recorded.

    The key of a draw is a row of a table on the device, which is written before each replay. A draw that a
    checkpoint makes again has its row again, for rows are counted as draws are. The default generator itself
    stays where it is until there is a replay.
    """

    def __init__(self, device: Device) -> None:
        self.origin, self.device = default_generator(), device
        super().__init__(0)
        self.load_state_dict(self.origin.state_dict())
        self.start, self.rows = (self._key, self._drawn), 0
        # Made before the recording: in the memory of a graph something else might be written over it.
        xp = device.xp
        self.table = xp.empty((_MOST_DRAWS, 2), dtype=xp.int64, device=device.native)

    def _key_on(self, device: Device) -> Tensor:
        """Return the row of the next draw."""
        row = self._row(0, self.rows)
        if device != self.device or row == _MOST_DRAWS:
            raise CaptureError(
                f"dropout is recorded on {self.device}, at most {_MOST_DRAWS} times; this is number {row + 1}, on {device}"
            )
        self._drawn += 1
        self.rows = max(self.rows, row + 1)
        return wrap(device.xp.getitem(self.table, row), device)

    def _row(self, least: int, most: int) -> int:
        """Return the row of the next draw, if it is one of those that come into question."""
        key, first = self.start
        row = self._drawn - first
        if self._key != key or not least <= row <= most:
            raise CaptureError("the state of the default generator is set inside of the function")
        return row

    def repeat(self, made: Recording) -> None:
        """Let each replay draw by keys of its own, as many as were drawn in the recording."""
        rows, origin, device = self._row(self.rows, self.rows), self.origin, self.device
        table = device.xp.getitem(self.table, slice(rows))

        def act() -> None:
            with origin._lock:
                key, first = origin._key, origin._drawn
                origin._drawn += rows
            draw = _draw.Draw(device.xp, key, (), device.native)
            with on(device):  # a key is a block of the cipher, as in `_draw.derive`
                for i, words in enumerate(_draw.blocks(draw, first, first + rows)):
                    device.xp.setitem(table, (slice(None), i), words)

        if rows:
            made.actions.append(act)


def warn(reason: str) -> None:
    """Say why something that was to be replayed from a graph is done in the ordinary way."""
    warnings.warn(f"steps are not replayed from a graph: {reason}", RuntimeWarning, stacklevel=3)


def _lasting(parameters: list[Tensor]) -> list[Any]:
    """Return the arrays of `parameters`, and which of them get gradients: the same as long as a graph fits."""
    return [x for p in parameters for x in (p.data, p.requires_grad)]


def _first(exc: BaseException) -> str:
    """Return what the innermost of the exceptions says that led to `exc`."""
    while exc.__context__ is not None:
        exc = exc.__context__
    return str(exc) or type(exc).__name__


def _each(outputs: Outputs, function: Callable[[Tensor], Tensor]) -> Outputs:
    if isinstance(outputs, tuple):
        return tuple([function(x) for x in outputs])
    return function(outputs)


def _detached(outputs: Outputs) -> Outputs:
    return _each(outputs, lambda x: x.detach())

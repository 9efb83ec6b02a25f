"""The base of all optimizers: groups of parameters, their state, and how both are stored."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any, ClassVar

from tinyxp import _core, dtypes
from tinyxp._capture import refuse
from tinyxp._devices import explaining, on
from tinyxp._updates import unless
from tinyxp.backend import PLAIN
from tinyxp.errors import (
    CheckpointError,
    DeviceMismatchError,
    DTypeError,
    GraphError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tinyxp._core import Tensor
    from tinyxp.backend import Device

__all__ = ["Optimizer", "check_betas", "check_not_negative", "is_half", "tier3"]

Group = dict[str, Any]
State = dict[str, Any]
_NO_STATE = "the optimizer has no state yet, which a graph would make anew in each replay"
RESERVED = ("params", "param_names", "initial_lr", "name")


class Optimizer:
    """Base class of the optimizers.

    An optimizer of your own is a subclass that passes its options to ``super().__init__`` and defines
    `update`.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor) or of dict
        What to optimise. A dict is a group: its entry ``"params"`` holds the Tensors, its other entries
        are options that differ from the defaults.
    defaults : dict
        Options of every group that does not set its own, such as ``{"lr": 0.1}``.

    Attributes
    ----------
    param_groups : list of dict
        ``"params"`` and the options of each group. Changing ``group["lr"]`` is how schedules work.
    state : dict of Tensor to dict
        What the optimizer remembers of each parameter, on its device and in its dtype, float32 if that is half
        precision.

    Raises
    ------
    ValueError, TypeError, GraphError
        If there are no parameters, one comes twice, is no Tensor or is not a leaf, or an option is wrong.

    Examples
    --------
    >>> import tinyxp
    >>> class SignDescent(Optimizer):
    ...     def __init__(self, params, lr=0.1):
    ...         super().__init__(params, {"lr": lr})
    ...
    ...     def update(self, p, g, state, group, xp):
    ...         p -= xp.sign(g) * group["lr"]
    >>> w = tinyxp.Tensor([1.0, -2.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> SignDescent([w], lr=0.5).step()
    >>> w.tolist()
    [0.5, -1.5]
    """

    kinds: ClassVar[str] = "f"  # kinds of dtypes that it can optimise

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, State] = {}
        self._written: dict[
            Tensor, int
        ] = {}  # of those in half precision: the version that we wrote
        for group in _groups(params):
            self.add_param_group(group)

    def __repr__(self) -> str:
        lines = [type(self).__name__ + "("]
        for group in self.param_groups:
            options = ", ".join(f"{k}={v!r}" for k, v in group.items() if k not in RESERVED)
            count = sum(p.size for p in group["params"])
            lines.append(f"  {len(group['params'])} parameters, {count:,} elements: {options}")
        return "\n".join([*lines, ")"])

    # ------------------------------------------------------------ groups
    def add_param_group(self, group: Mapping[str, Any], /) -> None:
        """Optimise the parameters of one more group.

        Parameters
        ----------
        group : dict
            ``"params"``: a Tensor or an iterable as the constructor takes it, and options.
        """
        new = {**self.defaults, **group, "params": []}
        names = []
        for name, p in _named(group["params"]):
            self._check_param(p, name, new["params"])
            new["params"].append(p)
            names.append(name)
        if not new["params"]:
            raise ValueError(
                f"{type(self).__name__} got a group without parameters; a generator gives its items once only"
            )
        if None not in names:
            new["param_names"] = names
        self._check_keys(new)
        self.check(new)
        self.param_groups.append(new)

    def _check_param(self, p: Any, name: str | None, before: list[Tensor]) -> None:
        who = f"{type(self).__name__} got " + (f"parameter {name!r}" if name else "a parameter")
        if type(p) not in _core.TENSORS:
            raise TypeError(f"{who} of type {type(p).__name__}; it optimises Tensors")
        if p.requires_grad and not _core.is_leaf(p):
            raise GraphError(
                f"{who} of shape {p.shape} that was computed from others; only leaves can be optimised: "
                "pass what it was computed from, or p.detach().requires_grad_()"
            )
        if dtypes.of(p.dtype).kind not in self.kinds:
            raise DTypeError(f"{who} of dtype {p.dtype}; it optimises floating Tensors")
        if any(
            p is q for group in (*self.param_groups, {"params": before}) for q in group["params"]
        ):
            raise ValueError(f"{who} twice; a tied parameter belongs into one group, once")

    def _check_keys(self, group: Group) -> None:
        for key in group:
            if key in self.defaults or key in RESERVED:
                continue
            near = difflib.get_close_matches(key, self.defaults, n=1)
            if near:
                raise ValueError(
                    f"{type(self).__name__} has no option {key!r}; did you mean {near[0]!r}?"
                )

    def check(self, group: Group, /) -> None:
        """Raise if an option of `group` is out of range; a subclass adds its own."""
        check_not_negative(self, group, "lr")
        if "weight_decay" in group:
            check_not_negative(self, group, "weight_decay")

    # ------------------------------------------------------------ steps
    def step(self, closure: Callable[[], Any] | None = None, *, skip: Tensor | None = None) -> Any:
        """Update every parameter that has a gradient, in place.

        A parameter in half precision has a float32 master in the state: the master makes the step, and the
        parameter becomes what it rounds to. Whoever writes into the parameter between steps sets the master.

        Parameters
        ----------
        closure : callable or None
            Computes the loss anew, calls ``backward()`` and returns the loss.
        skip : 0-d Tensor of bool, optional
            Change nothing but the count of steps if it is true. It is on the device of all parameters, and is not
            read by the host; but for the first step of optimizers other than Adam.

        Returns
        -------
        What `closure` returned, or None.
        """
        loss = None
        if closure is not None:
            with _core.grad_mode(True):  # noqa: FBT003 - the mode is the argument
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            with explaining(params[0].device if params else None):
                if skip is None:
                    self.update_group(params, group)
                elif params:
                    self.update_group_unless(skip, params, group)
        return loss

    def update_group_unless(self, skip: Tensor, params: list[Tensor], group: Group, /) -> None:
        """Do what `update_group` does, or nothing where `skip` is true.

        It is read only where a parameter has made no step yet: what a first step makes cannot be undone.
        """
        if any(p not in self.state for p in params):
            if not bool(skip):
                self.update_group(params, group)
            return
        for p in params:
            self._begin(p, group)
        arrays = [p.data for p in params]
        for p in params:
            kept = (x for x in self.state[p].values() if type(x) in _core.TENSORS)
            arrays += [self._raw(x, p) for x in kept]
        device = params[0].device
        with on(device), unless(device.xp, self._raw(skip, params[0]), arrays):
            self.update_group(params, group)

    def _begin(self, p: Tensor, group: Group) -> None:
        """Put the arrays into the state of `p` that a first step needs."""
        state, half = self.state.setdefault(p, {}), is_half(p)
        if half:
            self._make_master(p, state)
        missing = [name for name in self.slots(group) if name not in state]
        if missing:
            refuse(_NO_STATE)
            device = p.device
            raw = {k: self._raw(v, p) for k, v in state.items() if k in self.slots(group)}
            with on(device):
                self.fill(raw, group, state["master"].data if half else p.data, device.xp)
            state |= {name: _core.wrap(raw[name], device) for name in missing}

    def _make_master(self, p: Tensor, state: State) -> None:
        """Put the master of `p` into its state, anew where it no longer rounds to `p`: somebody has written there."""
        if "master" in state and self._written.get(p) == p._version:
            return
        refuse(_NO_STATE)
        device, xp, raw = p.device, p.device.xp, p.data
        with on(device):
            master = xp.astype(raw, xp.float32)
            if "master" in state:  # loaded, or `p` was written
                old = self._raw(state["master"], p)
                master = xp.where(xp.astype(old, raw.dtype) == raw, old, master)
            state["master"] = _core.wrap(master, device)
        self._written[p] = p._version

    def _was_written(self, p: Tensor) -> None:
        """Say that this optimizer has written into `p`."""
        _core.written(p)
        if is_half(p):
            self._written[p] = p._version

    def update_group(self, params: list[Tensor], group: Group, /) -> None:
        """Update `params` of `group`, all of which have a gradient, one after the other."""
        refuse(f"{type(self).__name__} computes with numbers of the host that change between steps")
        for p in params:
            self._update(p, p.grad, group)  # type: ignore[arg-type]  # not None: filtered above

    def _update(self, p: Tensor, grad: Tensor, group: Group) -> None:
        device, state, half = p.device, self.state.setdefault(p, {}), is_half(p)
        if half:
            self._make_master(p, state)
        raw = {k: self._raw(v, p) if type(v) in _core.TENSORS else v for k, v in state.items()}
        with on(device):
            target, g, xp = p.data, self._raw(grad, p), device.xp
            if half:
                target = raw.pop("master")
                g = xp.astype(g, xp.float32)
            self.update(target, g, raw, group, xp)
            if half:
                xp.setitem(p.data, ..., xp.astype(target, p.data.dtype))
        for key, value in raw.items():
            if type(state.get(key)) not in _core.TENSORS:
                is_array = isinstance(value, device.array_type)
                state[key] = _core.wrap(value, device) if is_array else value
        self._was_written(p)

    def _raw(self, t: Tensor, p: Tensor) -> Any:
        if t.device is not p.device:
            raise DeviceMismatchError(
                f"{type(self).__name__} has a gradient or state on {t.device} for a parameter on {p.device}; "
                "move the model before the first backward() and step(), or load the state dict again"
            )
        return t.data

    def _raws(self, tensors: list[Tensor], params: list[Tensor]) -> list[Any]:
        """Return the arrays of `tensors`, one for each of `params`, which are on one device.

        As `_raw` for each, which takes some ten times as long where there is nothing to make again.
        """
        device = params[0]._device
        if [t for t in tensors if t._device is not device or t._alias is not None]:
            return [self._raw(t, p) for t, p in zip(tensors, params, strict=True)]
        return [t._raw for t in tensors]

    def update(self, p: Any, g: Any, state: State, group: Group, xp: Any) -> None:
        """Update one parameter in place; each optimizer defines this.

        Parameters
        ----------
        p, g : raw arrays of one shape
            Parameter (to be written) and gradient (only to be read).
        state : dict
            Empty at first, later what earlier calls put in: raw arrays, written in place, and numbers.
        group : dict
            Options.
        xp : Namespace
            The backend's extended namespace.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `update`")

    def slots(self, group: Group, /) -> tuple[str, ...]:  # noqa: ARG002 - subclasses look
        """Return the names of the state's arrays, which have the parameter's shape."""
        return ()

    def fill(self, state: State, group: Group, p: Any, xp: Any) -> None:
        """Put zeros into `state` for each of the `slots` that it lacks."""
        for name in self.slots(group):
            if name not in state:
                state[name] = xp.zeros_like(p)

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT001, FBT002 - as PyTorch has it
        """Forget the gradients of all parameters, or write zeros into them."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    with _core.grad_mode(False):  # noqa: FBT003 - the mode is the argument
                        p.grad[...] = 0

    # ------------------------------------------------------------ storing
    def state_dict(self) -> dict[str, Any]:
        """Return options and state, parameters numbered in the order of the groups.

        Returns
        -------
        dict
            ``"state"``: number of a parameter to what is remembered of it (Tensors, not copied, and
            numbers). ``"param_groups"``: the groups, with numbers for Tensors.
        """
        numbers = {p: i for i, (p, _) in enumerate(_flat(self.param_groups))}
        groups = [
            {**group, "params": [numbers[p] for p in group["params"]]}
            for group in self.param_groups
        ]
        state = {numbers[p]: dict(s) for p, s in self.state.items()}
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Take options and state from `state_dict`, copied to each parameter's device and dtype.

        Raises
        ------
        CheckpointError
            If the groups or the shapes differ; then nothing has changed.
        """
        groups = state_dict["param_groups"]
        self._check_groups(groups)
        new = [
            {**old, **g, "params": old["params"]}
            for old, g in zip(self.param_groups, groups, strict=True)
        ]
        for group in new:
            self.check(group)
        numbers = [i for g in groups for i in g["params"]]
        known = {i: (p, g) for i, (p, g) in zip(numbers, _flat(new), strict=True)}
        state = {}
        for i, stored in state_dict["state"].items():
            if i not in known:
                raise CheckpointError(
                    f"the state dict has a state for parameter {i}, which no group has"
                )
            p, group = known[i]
            state[p] = self._loaded(stored, p, group, i)
        self.param_groups[:], self.state = new, state
        self._written.clear()

    def _check_groups(self, groups: list[Group]) -> None:
        mine = [len(g["params"]) for g in self.param_groups]
        theirs = [len(g["params"]) for g in groups]
        if mine != theirs:
            raise CheckpointError(
                f"the state dict has groups of {theirs} parameters; this {type(self).__name__} has {mine}"
            )

    def _loaded(self, stored: State, p: Tensor, group: Group, i: int) -> State:
        missing = [name for name in self.slots(group) if name not in stored]
        if missing:
            raise CheckpointError(
                f"the state dict lacks {', '.join(missing)} for parameter {i}; it has {', '.join(stored)}: "
                f"is it of another optimizer than {type(self).__name__}?"
            )
        kept = {k: v for k, v in stored.items() if k != "master" or is_half(p)}
        return {k: _copied(v, p, f"{k} of parameter {i}") for k, v in kept.items()}


def is_half(p: Tensor) -> bool:
    """Whether `p` is in half precision, and so has a master."""
    d = dtypes.of(p._raw.dtype)
    return d.kind == "f" and d.itemsize == 2  # noqa: PLR2004 - bytes


def tier3(device: Device, name: str) -> Callable[..., Any]:
    """Return the update step `name` of the device's backend, its default where fused kernels are off."""
    return getattr(device.xp, name if _core.MODE.fused else PLAIN + name)  # type: ignore[no-any-return]  # arrays and modules are Any to the type checker


def _flat(groups: list[Group]) -> list[tuple[Tensor, Group]]:
    return [(p, group) for group in groups for p in group["params"]]


def _copied(value: Any, p: Tensor, what: str) -> Any:
    if type(value) not in _core.TENSORS:
        return value
    if value.ndim == 0 and p.ndim != 0:
        return value.item()  # a number that was kept as an array
    if tuple(value.shape) != tuple(p.shape):
        raise CheckpointError(
            f"the state dict has {what} of shape {value.shape}; expected {p.shape}"
        )
    device = p.device
    moved = value.detach().to(device).data
    dtype = device.xp.float32 if is_half(p) else p.data.dtype
    with on(device):
        return _core.wrap(device.backend.copy(device.xp.astype(moved, dtype)), device)


# ---------------------------------------------------------------- arguments
def _groups(params: Iterable[Any]) -> list[Mapping[str, Any]]:
    if type(params) in _core.TENSORS:
        raise TypeError("an optimizer takes an iterable of parameters; got one Tensor: write [p]")
    if isinstance(params, (set, frozenset)):
        raise TypeError("an optimizer takes parameters in an order; got a set: write a list")
    found = list(params)
    if not found:
        raise ValueError("an optimizer got an empty list of parameters")
    if isinstance(found[0], dict):
        return found
    return [{"params": found}]


def _named(params: Any) -> list[tuple[str | None, Any]]:
    """Return (name, parameter) for each of `params`, the name None where there is none."""
    if type(params) in _core.TENSORS:
        return [(None, params)]
    if isinstance(params, (set, frozenset)):
        raise TypeError("a group takes parameters in an order; got a set: write a list")
    return [p if isinstance(p, tuple) and len(p) == 2 else (None, p) for p in params]  # noqa: PLR2004 - a pair


def check_not_negative(optimizer: Optimizer, group: Group, *names: str) -> None:
    """Raise unless the options called `names` are finite numbers of at least 0."""
    for name in names:
        value = group[name]
        if not (isinstance(value, (int, float)) and 0.0 <= value < math.inf):
            raise ValueError(
                f"{type(optimizer).__name__} expects {name} to be a number >= 0; got {value!r}"
            )


def check_betas(optimizer: Optimizer, group: Group) -> None:
    """Raise unless ``group["betas"]`` are two numbers in [0, 1)."""
    betas = group["betas"]
    pair = isinstance(betas, (tuple, list)) and len(betas) == 2  # noqa: PLR2004 - a pair
    if not pair or not all(0.0 <= b < 1.0 for b in betas):
        raise ValueError(
            f"{type(optimizer).__name__} expects betas to be two numbers in [0, 1); got {betas}"
        )

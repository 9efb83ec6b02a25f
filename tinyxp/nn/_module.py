"""The base class of layers and models."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tinyxp._core import TENSORS, Tensor, is_leaf
from tinyxp.nn import _state
from tinyxp.nn._parameter import Parameter, rebuild
from tinyxp.nn._repr import tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tinyxp.backend import Device
    from tinyxp.dtypes import DTypeLike
    from tinyxp.nn._state import LoadResult

__all__ = ["Module", "functional_call", "replaced"]


class Slot(NamedTuple):
    """A place where a module, or a list or dict in it, holds a Tensor."""

    name: str  # dotted, as in a state dict
    owner: Any  # Module, list or dict
    key: Any  # attribute name, index or key
    value: Tensor

    def set(self, value: Tensor) -> None:
        """Put `value` there."""
        if isinstance(self.owner, Module):
            setattr(self.owner, self.key, value)
        else:
            self.owner[self.key] = value


class Module:
    """Something with parameters and a `forward`: a layer, a model, a loss.

    Parameters, buffers and further modules are simply attributes; lists, tuples and dicts of them count
    too. An attribute is a parameter if it is a `Parameter`, or any other Tensor made with
    ``requires_grad=True``; it is a buffer if `register_buffer` named it. The order is that in which the
    attributes were set, a module's own parameters before those of the modules inside it.

    Attributes
    ----------
    training : bool
        Whether dropout drops; `train` and `eval` set it.

    Examples
    --------
    >>> import tinyxp
    >>> from tinyxp import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         self.factor = nn.Parameter(2.0)
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> Scale()(tinyxp.ones(2)).tolist()
    [2.0, 2.0]
    >>> [name for name, _ in Scale().named_parameters()]
    ['factor']
    """

    training: bool = True
    _persistent: dict[str, bool]  # of buffers, by attribute name; made by register_buffer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `forward`."""
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; a subclass defines this."""
        raise NotImplementedError(
            f"{type(self).__name__} must define forward(self, …) to be called with "
            f"{len(args) + len(kwargs)} arguments"
        )

    # ------------------------------------------------------------ modules
    def named_modules(self) -> list[tuple[str, Module]]:
        """Return this module, under the name ``""``, and all inside it, each once."""
        return list(_modules(self, "", set()))

    def modules(self) -> list[Module]:
        """Return this module and all inside it, each once."""
        return [m for _, m in self.named_modules()]

    def named_children(self) -> list[tuple[str, Module]]:
        """Return the modules right below this one."""
        return list(_children(self, ""))

    def children(self) -> list[Module]:
        """Return the modules right below this one."""
        return [m for _, m in self.named_children()]

    def apply(self, f: Callable[[Module], object]) -> Self:
        """Call ``f(module)`` for every module, the innermost first, and return this one."""
        for m in reversed(self.modules()):
            f(m)
        return self

    def _contents(self) -> list[tuple[str, Any]]:
        """Return what the module holds, by name; containers override this."""
        return [(k, v) for k, v in vars(self).items() if k != "_persistent"]

    # ------------------------------------------------------------ parameters and buffers
    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """Return the parameters with their dotted names.

        A parameter that stands in several places (tied weights) is listed once, under its first name.
        """
        return _first_names(s for s in self._slots() if _is_parameter(s.value))

    def parameters(self) -> list[Tensor]:
        """Return the parameters, each once."""
        return [p for _, p in self.named_parameters()]

    def num_parameters(self) -> int:
        """Return the number of elements of all parameters."""
        return sum(p.size for p in self.parameters())

    def register_buffer(self, name: str, value: Tensor, *, persistent: bool = True) -> None:
        """Make `value` an attribute that moves with the module but is not trained.

        Parameters
        ----------
        name : str
            Name of the attribute.
        value : Tensor
            Anything without gradient, such as a mask or running statistics.
        persistent : bool
            Whether it belongs to the state dict.
        """
        vars(self).setdefault("_persistent", {})[name] = persistent
        setattr(self, name, value)

    def named_buffers(self) -> list[tuple[str, Tensor]]:
        """Return the buffers with their dotted names, each once."""
        return _first_names(s for s in self._slots() if _is_buffer(s))

    def buffers(self) -> list[Tensor]:
        """Return the buffers, each once."""
        return [b for _, b in self.named_buffers()]

    def _slots(self) -> Iterator[Slot]:
        """Yield every place that holds a parameter or buffer, also several with the same Tensor."""
        for prefix, module in self.named_modules():
            yield from _own_slots(module, prefix)

    # ------------------------------------------------------------ state
    def state_dict(self) -> dict[str, Tensor]:
        """Return parameters and persistent buffers by dotted name.

        The Tensors look into the same storage as the parameters; tied ones appear once.
        """
        kept = (s for s in self._slots() if _is_parameter(s.value) or _is_persistent(s))
        return {name: value.detach() for name, value in _first_names(kept)}

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> LoadResult:
        """Write the values of `state` into the parameters and buffers of the same names.

        Values are cast to the dtype and moved to the device of what they are written into.

        Parameters
        ----------
        state : mapping of str to Tensor or array
            As `state_dict` returns it.
        strict : bool
            Refuse missing and unexpected names. Wrong shapes are always refused, and then nothing at all
            is written.

        Returns
        -------
        LoadResult
            ``missing`` and ``unexpected`` names.

        Raises
        ------
        CheckpointError
            With all missing, unexpected and mis-shaped names at once.
        """
        kept = [s for s in self._slots() if _is_parameter(s.value) or _is_persistent(s)]
        return _state.load(
            type(self).__name__, [(s.name, s.value) for s in kept], state, strict=strict
        )

    # ------------------------------------------------------------ modes, gradients, places
    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - model.train(False) is common
        """Let dropout drop (or, with False, not), in every module."""
        for m in self.modules():
            m.training = mode
        return self

    def eval(self) -> Self:
        """Switch dropout off in every module."""
        return self.train(False)  # noqa: FBT003 - the mode is the argument

    def requires_grad_(self, requires_grad: bool = True) -> Self:  # noqa: FBT001, FBT002 - as Tensor's
        """Freeze (False) or thaw all parameters."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for p in self.parameters():
            p.grad = None

    def to(
        self,
        target: Device | DTypeLike | None = None,
        *,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Move to a device, or convert floating parameters and buffers to a dtype, in place.

        Parameters
        ----------
        target : Device, dtype or str
            One of the two, as in ``model.to("cuda")`` and ``model.to("float64")``.
        device : Device or str, optional
            Where to.
        dtype : dtype or str, optional
            A floating dtype.

        Returns
        -------
        Module
            This one. Its parameters are the same objects as before, so an optimizer keeps them.
        """
        targets = [t for t in (target, device, dtype) if t is not None]
        for t in {id(s.value): s.value for s in self._slots()}.values():
            rebuild(t, targets)
        return self

    def cpu(self) -> Self:
        """Move to the CPU."""
        return self.to(device="cpu")

    def cuda(self) -> Self:
        """Move to the CUDA GPU."""
        return self.to(device="cuda")

    # ------------------------------------------------------------ text
    def extra_repr(self) -> str:
        """Return what stands between the parentheses behind the class name."""
        return ""

    def __repr__(self) -> str:
        return tree(self)


# ---------------------------------------------------------------- finding what a module holds
def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(str(k), v) for k, v in value.items()]
    if isinstance(value, list | tuple):
        return [(str(i), v) for i, v in enumerate(value)]
    return []


def _children(holder: Any, prefix: str) -> Iterator[tuple[str, Module]]:
    found = holder._contents() if isinstance(holder, Module) else _items(holder)
    for key, value in found:
        if isinstance(value, Module):
            yield prefix + key, value
        elif isinstance(value, dict | list | tuple):
            yield from _children(value, f"{prefix}{key}.")


def _modules(module: Module, name: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    yield name, module
    for child_name, child in _children(module, f"{name}." if name else ""):
        yield from _modules(child, child_name, seen)


def _own_slots(module: Module, prefix: str) -> Iterator[Slot]:
    stack: list[tuple[str, Any, Any, Any]] = [
        (prefix, module, key, value) for key, value in reversed(module._contents())
    ]
    while stack:
        path, owner, key, value = stack.pop()
        name = f"{path}.{key}" if path else str(key)
        if type(value) in TENSORS:
            if _is_parameter(value) or _is_buffer(Slot(name, owner, key, value)):
                yield Slot(name, owner, key, value)
        elif isinstance(value, dict):
            stack += [(name, value, k, v) for k, v in reversed(value.items())]
        elif isinstance(value, list | tuple):
            stack += [(name, value, i, value[i]) for i in reversed(range(len(value)))]


def _is_parameter(value: Tensor) -> bool:
    return isinstance(value, Parameter) or is_leaf(value)


def _is_buffer(slot: Slot) -> bool:
    return isinstance(slot.owner, Module) and slot.key in vars(slot.owner).get("_persistent", ())


def _is_persistent(slot: Slot) -> bool:
    return _is_buffer(slot) and slot.owner._persistent[slot.key]


def _first_names(slots: Iterator[Slot]) -> list[tuple[str, Tensor]]:
    named: dict[int, tuple[str, Tensor]] = {}
    for slot in slots:
        named.setdefault(id(slot.value), (slot.name, slot.value))
    return list(named.values())


# ---------------------------------------------------------------- calling with other parameters
@contextmanager
def replaced(module: Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Let `module` use other Tensors for some of its parameters and buffers inside a ``with`` block.

    Parameters
    ----------
    module : Module
        Whose attributes are exchanged, and put back at the end.
    values : mapping of str to Tensor
        By dotted name; a tied parameter is exchanged in all its places.

    Raises
    ------
    KeyError
        If `module` has no parameter or buffer of such a name.
    """
    slots = list(module._slots())
    by_name = {s.name: id(s.value) for s in slots}
    unknown = [name for name in values if name not in by_name]
    if unknown:
        raise KeyError(
            f"{type(module).__name__} has no parameter or buffer {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(by_name)}"
        )
    new = {by_name[name]: value for name, value in values.items()}
    exchanged = [s for s in slots if id(s.value) in new]
    try:
        for s in exchanged:
            s.set(new[id(s.value)])
        yield
    finally:
        for s in exchanged:
            s.set(s.value)


def functional_call(
    module: Module, parameters: Mapping[str, Tensor], *args: Any, **kwargs: Any
) -> Any:
    """Call `module` as a function of its parameters.

    Parameters
    ----------
    module : Module
        What to call; it is as before afterwards.
    parameters : mapping of str to Tensor
        Values by dotted name; the module's own where a name is missing.
    *args, **kwargs
        Arguments of the call.

    Examples
    --------
    >>> import tinyxp
    >>> from tinyxp import nn
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> weight = tinyxp.asarray([[1.0], [2.0]])
    >>> functional_call(layer, {"weight": weight}, tinyxp.ones((1, 2))).tolist()
    [[3.0]]
    """
    with replaced(module, parameters):
        return module(*args, **kwargs)


def is_plain(module: Module, kind: type[Module]) -> bool:
    """Whether `module` is a `kind` and no subclass, with its forward unchanged: what may be computed in one go."""
    return type(module) is kind and "forward" not in vars(module)

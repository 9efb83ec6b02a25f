"""Recomputation instead of memory."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from tinyxp._core import (
    MODE,
    TENSORS,
    Tensor,
    computing,
    fresh,
    grad_mode,
    save_mark,
    set_leaf,
    watch,
    wrap,
)
from tinyxp.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyxp._core import Node


def checkpoint(function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function(*args)`` without keeping what it computes on the way; backward computes it again.

    The nodes that the call records lose their saved arrays at once. When backward reaches one of them, the
    function runs a second time, with the state that the default generator had, and all of them get their
    arrays back. So parameters that the function only closes over are differentiated as well, and gradients
    of gradients are right. Memory for time: T. Chen, B. Xu, C. Zhang, C. Guestrin, "Training deep nets with
    sublinear memory cost", arXiv:1604.06174.

    Parameters
    ----------
    function : callable
        Takes and returns Tensors; called again it must do the same.
    *args : Tensor or any
        Its arguments.

    Returns
    -------
    Tensor or tuple of Tensor
        What the function returns.

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.Tensor([1.0, 2.0], requires_grad=True)
    >>> checkpoint(lambda t: xp.exp(t) * t, x).sum().backward()
    >>> [round(g, 3) for g in x.grad.tolist()]
    [5.437, 22.167]
    """
    if not MODE.grad:
        return function(*args)
    again = Recompute(function, args)
    nodes: list[Node] = []
    with watch(nodes.append):
        out = function(*args)
    again.strip(nodes)
    return out


class Recompute:
    """Stands where the saved arrays of checkpointed nodes were, and brings them back.

    It refers to the nodes weakly, for they hold it.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        from tinyxp import random

        self.function = function
        self.checks: list[tuple[Tensor, int]] = []
        self.args = tuple(self._snapshot(a) for a in args)
        self.fused = MODE.fused  # kernels and defaults do not keep the same
        self.compute = MODE.compute
        self.random_state = random.default_generator().state_dict()
        self.names: list[str] = []
        self.nodes: list[weakref.ref[Node]] = []

    def _snapshot(self, a: Any) -> Any:
        if type(a) not in TENSORS:
            return a
        save_mark(fresh(a), self.checks)
        t = wrap(a._raw, a._device)
        t._shared = True
        if a._node is not None:
            set_leaf(t)
        return t

    def strip(self, nodes: list[Node]) -> None:
        """Drop the saved arrays of `nodes`; their checks stay, for what is computed again must be the same."""
        self.names = [n.name for n in nodes]
        self.nodes = [weakref.ref(n) for n in nodes]
        for node in nodes:
            node.args, node.out, node.aux = self, None, ()

    def restore(self) -> None:
        """Run the function again, and give its saved arrays to the nodes of the first run."""
        again = self._run()
        first = dict(zip(again, self.nodes, strict=True))
        for new, ref in first.items():
            old = ref()
            if old is not None:
                old.args, old.out, old.aux = new.args, new.out, new.aux
                old.checks += tuple(self.checks)
        for inner in {
            n.args for n in again if type(n.args) is Recompute
        }:  # a checkpoint in the function
            inner.nodes = [first[n] for n in (ref() for ref in inner.nodes) if n is not None]
        self.nodes = []

    def _run(self) -> list[Node]:
        """Run the function as it ran the first time, and return the nodes that it records."""
        from tinyxp import random

        generator = random.default_generator()
        state = generator.state_dict()
        nodes: list[Node] = []
        generator.load_state_dict(self.random_state)
        fused, MODE.fused = MODE.fused, self.fused
        try:
            with grad_mode(True), computing(self.compute), watch(nodes.append):  # noqa: FBT003 - the mode is the argument
                self.function(*self.args)
        finally:
            generator.load_state_dict(state)
            MODE.fused = fused
        if [n.name for n in nodes] != self.names:
            raise GraphError(
                "checkpoint: the function did other operations when it was called again in backward; "
                "it must depend on nothing but its arguments, parameters and the default generator"
            )
        return nodes

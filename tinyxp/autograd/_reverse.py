"""Gradients of chosen inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp._core import TENSORS, Tensor, fresh
from tinyxp.autograd import _graph
from tinyxp.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Sequence


def _listed(x: Any) -> list[Any]:
    return [x] if type(x) in TENSORS or x is None else list(x)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of `outputs` with respect to `inputs`, and leave every ``.grad`` alone.

    Parameters
    ----------
    outputs : Tensor or sequence of Tensor
        What to differentiate.
    inputs : Tensor or sequence of Tensor
        With respect to what; leaves or results of operations.
    grad_outputs : Tensor or sequence, optional
        Cotangents of the outputs; may be left out, or None, for single elements.
    retain_graph : bool, optional
        Keep the graph for another pass; by default as `create_graph`.
    create_graph : bool
        Record the pass, so that the gradients can be differentiated.
    allow_unused : bool
        Give None, instead of an error, for an input that the outputs do not depend on.

    Returns
    -------
    tuple of Tensor
        One for each input, of its shape.

    Raises
    ------
    GraphError
        If an output does not require grad, or an input is not used.

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.Tensor(2.0, requires_grad=True)
    >>> (g,) = grad(x**3, x, create_graph=True)
    >>> (h,) = grad(g, x)
    >>> g.item(), h.item()
    (12.0, 12.0)
    """
    outs, ins = _listed(outputs), _listed(inputs)
    seeds = [None] * len(outs) if grad_outputs is None else _listed(grad_outputs)
    if len(seeds) != len(outs):
        raise ValueError(
            f"grad expects one cotangent for each of {len(outs)} outputs; got {len(seeds)}"
        )
    for i, t in enumerate(ins):
        if fresh(t)._node is None:
            raise GraphError(
                f"grad: input {i} does not require grad; call requires_grad_() on it before it is used"
            )
    if all(fresh(o)._node is None for o in outs):
        if allow_unused:
            return (None,) * len(ins)
        raise GraphError(
            "grad: no output requires grad; was it computed under no_grad, or from other Tensors?"
        )
    keep = create_graph if retain_graph is None else retain_graph
    found = _graph.backward(
        outs, seeds, inputs=ins, retain_graph=keep, create_graph=create_graph, accumulate=False
    )
    for i, g in enumerate(found):
        if g is None and not allow_unused:
            raise GraphError(
                f"grad: the outputs do not depend on input {i}; allow_unused=True gives None for it"
            )
    return tuple(found)

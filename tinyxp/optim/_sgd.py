"""Stochastic gradient descent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._optimizer import Optimizer, check_not_negative

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SGD"]


class SGD(Optimizer):
    """Gradient descent, with momentum on request.

    ``d = g + weight_decay p``; ``b = momentum b + (1 - dampening) d``, in the first step ``b = d``;
    ``p = p - lr b``, with `nesterov` ``p = p - lr (d + momentum b)``.

    I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and momentum in deep
    learning", 2013, in PyTorch's form: the learning rate is not part of the velocity.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor) or of dict
        Parameters, or groups with options of their own.
    lr : float
        Learning rate.
    momentum, dampening, weight_decay : float
        As in the equations.
    nesterov : bool
        Needs a momentum and no dampening.
    maximize : bool
        Climb instead of descend.

    Examples
    --------
    >>> import tinyxp
    >>> w = tinyxp.Tensor([3.0, -1.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [1.5, -0.5]
    """

    kinds = "fc"

    def __init__(  # noqa: PLR0917 - PyTorch's signature
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,  # noqa: FBT001, FBT002 - PyTorch's signature
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any], /) -> None:
        """Raise if an option of `group` is out of range."""
        super().check(group)
        check_not_negative(self, group, "momentum")
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(
                "SGD with nesterov=True expects momentum > 0 and dampening 0; "
                f"got momentum={group['momentum']}, dampening={group['dampening']}"
            )

    def slots(self, group: dict[str, Any], /) -> tuple[str, ...]:
        """Return the name of the velocity, if there is momentum."""
        return ("momentum_buffer",) if group["momentum"] else ()

    def update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any], xp: Any) -> None:
        """Write one step into `p` and its velocity."""
        first = not state
        self.fill(state, group, p, xp)
        xp.sgd_step(
            p,
            g,
            state.get("momentum_buffer") if group["momentum"] else None,
            lr=group["lr"],
            momentum=group["momentum"],
            dampening=0.0 if first else group["dampening"],
            nesterov=group["nesterov"],
            weight_decay=group["weight_decay"],
            maximize=group["maximize"],
        )

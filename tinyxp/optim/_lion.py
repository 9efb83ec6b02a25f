"""Lion: steps of one length, along the signs of a momentum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._optimizer import Optimizer, check_betas

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Lion"]


class Lion(Optimizer):
    """Steps of length `lr` in every coordinate, along the sign of an average of gradients.

    ``p = (1 - lr weight_decay) p - lr sign(β₁ m + (1 - β₁) g)``; then ``m = β₂ m + (1 - β₂) g``.

    X. Chen and others, "Symbolic discovery of optimization algorithms", 2023, algorithm 2. The paper takes
    a learning rate 3 to 10 times smaller than AdamW's and a decay as much larger. One array of state.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor) or of dict
        Parameters, or groups with options of their own.
    lr : float
        Learning rate.
    betas : tuple of two float
        β₁ and β₂, in [0, 1).
    weight_decay : float
        Share of the parameter, in units of the learning rate, that goes in each step.
    maximize : bool
        Climb instead of descend.

    Examples
    --------
    >>> import tinyxp
    >>> w = tinyxp.Tensor([3.0, -1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> Lion([w], lr=0.5).step()
    >>> w.tolist()
    [2.5, -0.5]
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any], /) -> None:
        """Raise if an option of `group` is out of range."""
        super().check(group)
        check_betas(self, group)

    def slots(self, group: dict[str, Any], /) -> tuple[str, ...]:  # noqa: ARG002 - always the same
        """Return the name of the running mean."""
        return ("exp_avg",)

    def update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any], xp: Any) -> None:
        """Write one step into `p` and its mean."""
        self.fill(state, group, p, xp)
        xp.lion_step(
            p,
            g,
            state["exp_avg"],
            lr=group["lr"],
            betas=tuple(group["betas"]),
            weight_decay=group["weight_decay"],
            maximize=group["maximize"],
        )

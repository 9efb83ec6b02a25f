"""Muon: momentum made orthogonal, for the matrices of hidden layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp.errors import ShapeError

from ._optimizer import Optimizer, check_betas, check_not_negative

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Muon"]

# K. Jordan's quintic: the steepest slope at 0 for which five steps keep singular values near 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(Optimizer):
    """Gradient descent whose step has the singular vectors of the momentum and singular values near 1.

    ``m = momentum m + (1 - momentum) g``; ``u = (1 - momentum) g + momentum m`` (Nesterov);
    ``p = (1 - lr weight_decay) p - lr s O``, where ``O`` is `u` after `ns_steps` Newton-Schulz iterations.

    K. Jordan and others, "Muon: an optimizer for hidden layers in neural networks", 2024
    (kellerjordan.github.io/posts/muon), in PyTorch's form; ``s`` is ``sqrt(max(1, m / n))`` for an m x n
    matrix, or Moonshot's ``0.2 sqrt(max(m, n))`` (J. Liu and others, "Muon is scalable for LLM training",
    2025, equation 4), which lets the learning rate of AdamW be used. The iterations run in the dtype of
    the parameter, where PyTorch always takes bfloat16.

    Muon is for matrices of hidden layers. The rest, embeddings, heads, gains and biases, goes into a group
    with ``"adamw": True``, which is updated by AdamW; `muon_groups` makes both groups.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor) or of dict
        Matrices, or groups with options of their own.
    lr : float
        Learning rate.
    weight_decay : float
        Share of the parameter, in units of the learning rate, that goes in each step.
    momentum : float
        Decay rate of the running mean, in [0, 1).
    nesterov : bool
        Whether the gradient counts once more.
    ns_coefficients : tuple of three float
        Coefficients of the iteration.
    eps : float
        Least norm that a matrix is divided by.
    ns_steps : int
        Number of iterations.
    adjust_lr_fn : {None, "original", "match_rms_adamw"}
        Which ``s``; None means "original".
    betas, adamw_eps : tuple of two float, float
        Options of the groups with ``"adamw": True``.

    Raises
    ------
    ShapeError
        If a parameter of a group without ``"adamw": True`` is not a matrix.

    Examples
    --------
    >>> import tinyxp
    >>> w = tinyxp.Tensor([[3.0, 0.0], [0.0, 4.0]], requires_grad=True)
    >>> b = tinyxp.Tensor([1.0, 1.0], requires_grad=True)
    >>> groups = [{"params": [w]}, {"params": [b], "adamw": True, "lr": 0.01}]
    >>> optimizer = Muon(groups, lr=0.02)
    >>> ((w @ b) ** 2).sum().backward()
    >>> optimizer.step()
    """

    def __init__(  # noqa: PLR0917 - PyTorch's signature
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,  # noqa: FBT001, FBT002 - PyTorch's signature
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        adamw_eps: float = 1e-8,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
            "adamw": False,
            "betas": betas,
            "adamw_eps": adamw_eps,
        }
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any], /) -> None:
        """Raise if an option of `group` is out of range or a parameter is no matrix."""
        super().check(group)
        check_not_negative(self, group, "eps", "adamw_eps", "ns_steps")
        check_betas(self, group)
        if not 0.0 <= group["momentum"] < 1.0:
            raise ValueError(f"Muon expects momentum in [0, 1); got {group['momentum']}")
        if group["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                "Muon expects adjust_lr_fn None, 'original' or 'match_rms_adamw'; "
                f"got {group['adjust_lr_fn']!r}"
            )
        for p in () if group["adamw"] else group["params"]:
            if p.ndim != 2:  # noqa: PLR2004 - a matrix
                raise ShapeError(
                    f"Muon expects matrices; got a parameter of shape {p.shape}; put it into a group with "
                    "'adamw': True (tinyxp.optim.muon_groups makes the groups of a model)"
                )

    def slots(self, group: dict[str, Any], /) -> tuple[str, ...]:
        """Return the name of the momentum, or of AdamW's means."""
        return ("exp_avg", "exp_avg_sq") if group["adamw"] else ("momentum_buffer",)

    def update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any], xp: Any) -> None:
        """Write one step into `p` and its momentum."""
        self.fill(state, group, p, xp)
        if group["adamw"]:
            self._adamw(p, g, state, group, xp)
            return
        xp.muon_step(
            p,
            g,
            state["momentum_buffer"],
            lr=group["lr"],
            scale=_scale(group["adjust_lr_fn"], *p.shape),
            momentum=group["momentum"],
            nesterov=group["nesterov"],
            weight_decay=group["weight_decay"],
            coefficients=tuple(group["ns_coefficients"]),
            steps=group["ns_steps"],
            eps=group["eps"],
        )

    @staticmethod
    def _adamw(p: Any, g: Any, state: dict[str, Any], group: dict[str, Any], xp: Any) -> None:
        state["step"] = int(state.get("step", 0)) + 1
        xp.adamw_step(
            p,
            g,
            state["exp_avg"],
            state["exp_avg_sq"],
            None,
            step=state["step"],
            lr=group["lr"],
            betas=tuple(group["betas"]),
            eps=group["adamw_eps"],
            weight_decay=group["weight_decay"],
            decoupled=True,
            maximize=False,
        )


def _scale(rule: str | None, rows: int, columns: int) -> float:
    if rule == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns))

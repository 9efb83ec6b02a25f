"""Sorting a model's parameters into groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tinyxp._core import Tensor

__all__ = ["decay_groups", "muon_groups"]

Named = tuple[str | None, Any]
MATRIX_NDIM = 2


def decay_groups(params: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Sort parameters into those that decay, the matrices, and those that do not, gains and biases.

    As GPT-2's successors are trained: T. Brown and others, "Language models are few-shot learners", 2020,
    appendix B, decays weights, and A. Karpathy's nanoGPT takes those of two and more axes for them.

    Parameters
    ----------
    params : Module, or iterable of Tensor or of (name, Tensor)
        What to sort. Parameters that do not require grad are left out.
    weight_decay : float
        Decay of the parameters with at least two axes.

    Returns
    -------
    list of dict
        One or two groups, for an optimizer.

    Examples
    --------
    >>> from tinyxp import nn, optim
    >>> groups = optim.decay_groups(nn.Linear(3, 2), 0.1)
    >>> [(g["weight_decay"], [p.shape for _, p in g["params"]]) for g in groups]
    [(0.1, [(3, 2)]), (0.0, [(2,)])]
    """
    matrices, others = _partition(params, lambda _, p: p.ndim >= MATRIX_NDIM)
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [g for g in groups if g["params"]]


def muon_groups(
    params: Any,
    *,
    adamw_lr: float,
    weight_decay: float = 0.1,
    exclude: tuple[str, ...] = ("embedding", "lm_head"),
) -> list[dict[str, Any]]:
    """Sort a model's parameters for `Muon`: hidden matrices, and what AdamW shall update.

    Parameters
    ----------
    params : Module or iterable of (name, Tensor)
        What to sort. Parameters that do not require grad are left out.
    adamw_lr : float
        Learning rate of the parameters that AdamW updates.
    weight_decay : float
        Decay of the matrices of both kinds; the other parameters have none.
    exclude : tuple of str
        A matrix whose name contains one of these goes to AdamW.

    Returns
    -------
    list of dict
        Up to three groups, for `Muon`.

    Examples
    --------
    >>> from tinyxp import nn, optim
    >>> groups = optim.muon_groups(nn.Linear(3, 2), adamw_lr=1e-3)
    >>> [g["adamw"] for g in groups]
    [False, True]
    """
    hidden, rest = _partition(
        params,
        lambda name, p: p.ndim == MATRIX_NDIM and not any(e in (name or "") for e in exclude),
    )
    groups: list[dict[str, Any]] = [
        {"params": hidden, "weight_decay": weight_decay, "adamw": False},
        *({**g, "adamw": True, "lr": adamw_lr} for g in decay_groups(rest, weight_decay)),
    ]
    return [g for g in groups if g["params"]]


def _partition(
    params: Any, chosen: Callable[[str | None, Tensor], bool]
) -> tuple[list[Named | Any], list[Named | Any]]:
    """Return the items of `params` that are `chosen`, and the others, in their order."""
    yes: list[Any] = []
    no: list[Any] = []
    items: Iterable[Any] = (
        params.named_parameters() if hasattr(params, "named_parameters") else params
    )
    for item in items:
        name, p = item if isinstance(item, tuple) else (None, item)
        if p.requires_grad:
            (yes if chosen(name, p) else no).append(item)
    return yes, no

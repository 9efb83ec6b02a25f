"""Learning rates as functions of the step, and `Schedule`, which sets an optimizer's.

The functions return a factor of the base rate for step 0, 1, … They all begin with `warmup` steps in which
the factor rises in a straight line, ``(step + 1) / (warmup + 1)``, so that it is never 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._optimizer import Optimizer

__all__ = ["Schedule", "constant", "cosine", "linear", "wsd"]


def constant(step: int, *, warmup: int = 0) -> float:
    """Return 1 after the warm-up.

    Parameters
    ----------
    step : int
        Number of the step, from 0.
    warmup : int
        Steps of the warm-up.

    Examples
    --------
    >>> [constant(step, warmup=3) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    _check("constant", step=step, warmup=warmup)
    return min(1.0, (step + 1) / (warmup + 1))


def cosine(step: int, *, total: int, warmup: int = 0, floor: float = 0.0) -> float:
    """Return half a wave of the cosine from 1 at the end of the warm-up to `floor` at step `total`.

    I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, equation 5,
    without the restarts.

    Parameters
    ----------
    step : int
        Number of the step, from 0.
    total : int
        Steps until the floor is reached; it stays there.
    warmup : int
        Steps of the warm-up.
    floor : float
        Last factor.

    Examples
    --------
    >>> [round(cosine(step, total=4, floor=0.1), 3) for step in range(6)]
    [1.0, 0.868, 0.55, 0.232, 0.1, 0.1]
    """
    done = _progress("cosine", step, total, warmup)
    fall = floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done))
    return fall if done > 0.0 else constant(step, warmup=warmup)


def linear(step: int, *, total: int, warmup: int = 0, floor: float = 0.0) -> float:
    """Return a straight line from 1 at the end of the warm-up to `floor` at step `total`.

    Parameters
    ----------
    step : int
        Number of the step, from 0.
    total : int
        Steps until the floor is reached; it stays there.
    warmup : int
        Steps of the warm-up.
    floor : float
        Last factor.

    Examples
    --------
    >>> [linear(step, total=4) for step in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    done = _progress("linear", step, total, warmup)
    return 1.0 - (1.0 - floor) * done if done > 0.0 else constant(step, warmup=warmup)


def wsd(step: int, *, total: int, decay: int, warmup: int = 0, floor: float = 0.0) -> float:
    """Return warm-up, a plateau at 1, and a straight fall to `floor` in the last `decay` steps.

    S. Hu and others, "MiniCPM: unveiling the potential of small language models", 2024, section 4.2, with
    the linear fall of A. Hägele and others, "Scaling laws and compute-optimal training beyond fixed
    training durations", 2024.

    Parameters
    ----------
    step : int
        Number of the step, from 0.
    total : int
        Steps until the floor is reached; it stays there.
    decay : int
        Steps of the fall.
    warmup : int
        Steps of the warm-up.
    floor : float
        Last factor.

    Examples
    --------
    >>> [wsd(step, total=6, decay=2, warmup=1) for step in range(7)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    if decay > total - warmup:
        raise ValueError(
            f"wsd expects warmup + decay <= total; got warmup={warmup}, decay={decay}, total={total}"
        )
    done = _progress("wsd", step, total, total - decay)
    return 1.0 - (1.0 - floor) * done if done > 0.0 else constant(step, warmup=warmup)


def _progress(name: str, step: int, total: int, start: int) -> float:
    """Return how much of the way from `start` to `total` is done at `step`, in [0, 1]."""
    _check(name, step=step, total=total, warmup=start)
    if start > total:
        raise ValueError(f"{name} expects warmup <= total; got warmup={start}, total={total}")
    if step >= total:
        return 1.0
    return (step - start) / (total - start) if step > start else 0.0


def _check(name: str, **counts: int) -> None:
    for what, value in counts.items():
        if value < 0:
            raise ValueError(f"{name} expects {what} >= 0; got {value}")


class Schedule:
    """Sets the learning rate of every group of an optimizer, step by step.

    Parameters
    ----------
    optimizer : Optimizer
        Whose groups to drive. The rate of each group now is its base rate.
    factor : callable
        ``factor(step, **options)``, one of this module's functions or your own.
    **options
        Passed to `factor` with every step.

    Attributes
    ----------
    last_step : int
        The step whose rates are set: 0 at first.

    Examples
    --------
    >>> import tinyxp
    >>> from tinyxp.optim import SGD, schedules
    >>> w = tinyxp.Tensor([1.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.1)
    >>> schedule = schedules.Schedule(optimizer, schedules.linear, total=2)
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     schedule.step()
    >>> schedule.get_last_lr()
    [0.0]
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[..., float], **options: Any) -> None:
        self.optimizer, self.factor, self.options = optimizer, factor, options
        self.last_step = 0
        self._set()

    @property
    def base_lrs(self) -> list[float]:
        """Base rate of each group, which the group keeps as ``"initial_lr"``."""
        groups = self.optimizer.param_groups
        for group in groups:
            group.setdefault("initial_lr", group["lr"])
        return [group["initial_lr"] for group in groups]

    def step(self) -> None:
        """Set the rates of the next step: call it after ``optimizer.step()``."""
        self.last_step += 1
        self._set()

    def _set(self) -> None:
        factor = self.factor(self.last_step, **self.options)
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * factor

    def get_last_lr(self) -> list[float]:
        """Return the rate that is now set, group by group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the step and the base rates, fit for JSON."""
        return {"last_step": self.last_step, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from `state`, and set its rates."""
        rates, groups = state["base_lrs"], self.optimizer.param_groups
        if len(rates) != len(groups):
            raise ValueError(f"the state has {len(rates)} groups; the optimizer has {len(groups)}")
        for group, rate in zip(groups, rates, strict=True):
            group["initial_lr"] = rate
        self.last_step = state["last_step"]
        self._set()

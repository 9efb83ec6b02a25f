"""Adam and AdamW."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, ClassVar

from tinyxp import _core
from tinyxp._capture import recording, refuse

from ._optimizer import Optimizer, check_betas, check_not_negative, is_half, tier3

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tinyxp._capture import Recording
    from tinyxp._core import Tensor

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Steps as long as the running mean of the gradient is against its running root mean square.

    ``m = β₁ m + (1 - β₁) g``; ``v = β₂ v + (1 - β₂) g²``;
    ``p = p - lr (m / (1 - β₁ᵗ)) / (sqrt(v / (1 - β₂ᵗ)) + eps)``, where ``g`` includes ``weight_decay p``.

    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1; for `amsgrad`
    S. J. Reddi, S. Kale, S. Kumar, "On the convergence of Adam and beyond", 2018, algorithm 2.

    The means have the dtype of the parameter. Of a parameter in half precision they are float32, and so is the
    master copy in the state that is stepped in its place.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor) or of dict
        Parameters, or groups with options of their own.
    lr : float
        Learning rate.
    betas : tuple of two float
        β₁ and β₂, in [0, 1).
    eps : float
        Added to the root.
    weight_decay : float
        Factor of the squared norm's gradient. `AdamW` keeps it out of the means, which mostly is better.
    amsgrad : bool
        Divide by the largest ``v`` so far.
    maximize : bool
        Climb instead of descend.

    Examples
    --------
    >>> import tinyxp
    >>> w = tinyxp.Tensor([3.0, -1.0], requires_grad=True)
    >>> optimizer = Adam([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> [round(x, 4) for x in w.tolist()]
    [2.5, -0.5]
    """

    decoupled: ClassVar[bool] = False

    def __init__(  # noqa: PLR0917 - PyTorch's signature
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,  # noqa: FBT001, FBT002 - PyTorch's signature
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        self._memos: dict[Any, dict[str, Any]] = {}  # what the backend keeps between steps
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any], /) -> None:
        """Raise if an option of `group` is out of range."""
        super().check(group)
        check_not_negative(self, group, "eps")
        check_betas(self, group)

    def slots(self, group: dict[str, Any], /) -> tuple[str, ...]:
        """Return the names of the means, and of the largest square with AMSGrad."""
        return ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))

    def update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any], xp: Any) -> None:
        """Write one step into `p` and its means."""
        self.fill(state, group, p, xp)
        state["step"] = int(state.get("step", 0)) + 1
        xp.adamw_step(
            p,
            g,
            state["exp_avg"],
            state["exp_avg_sq"],
            state["max_exp_avg_sq"] if group["amsgrad"] else None,
            step=state["step"],
            **self._options(group),
        )

    def _options(self, group: dict[str, Any]) -> dict[str, Any]:
        names = ("lr", "eps", "weight_decay", "maximize")
        options = {name: group[name] for name in names}
        return {**options, "betas": tuple(group["betas"]), "decoupled": self.decoupled}

    def update_group(self, params: list[Tensor], group: dict[str, Any], /) -> None:
        """Update all `params` of `group` that have made as many steps, in one call of the backend."""
        if type(self).update is not Adam.update:  # a subclass has a step of its own
            super().update_group(params, group)
            return
        self._update_batches(params, group, None)

    def update_group_unless(
        self, skip: Tensor, params: list[Tensor], group: dict[str, Any], /
    ) -> None:
        """Do what `update_group` does, or nothing where `skip` is true, without reading it."""
        if type(self).update is not Adam.update:
            super().update_group_unless(skip, params, group)
            return
        self._update_batches(params, group, skip)

    def _update_batches(
        self, params: list[Tensor], group: dict[str, Any], skip: Tensor | None
    ) -> None:
        batches: dict[Any, list[Tensor]] = {}
        names, known = self.slots(group), self.state.get
        needed, key, kind, half = {*names, "step"}, None, None, False
        for p in params:
            state, dtype = known(p), p._raw.dtype
            if dtype is not kind:  # most are like the one before
                kind, half = dtype, is_half(p)
            if half or state is None or not state.keys() >= needed:
                self._begin(p, group)
                state = self.state[p]
            mine = (p._device, int(state.get("step", 0)) + 1, half)
            if mine != key:
                key, batch = mine, batches.setdefault((id(p._device), *mine[1:]), [])
            batch.append(p)
        for (_, step, half), batch in batches.items():
            device, states = batch[0]._device, [self.state[p] for p in batch]
            slots = [self._raws([state[name] for state in states], batch) for name in names]
            masters = self._raws([state["master"] for state in states], batch) if half else None
            memo = self._memos.setdefault((batch[0], len(batch)), {})
            made = recording()
            memo["captured"] = made is not None
            if made is not None:
                self._repeat(made, batch, group, memo)
            function = tier3(device, "adamw_steps" if skip is None else "adamw_steps_unless")
            function(
                *(() if skip is None else (self._raw(skip, batch[0]),)),
                self._raws(batch, batch),
                self._raws([p.grad for p in batch], batch),  # type: ignore[misc]  # not None: filtered above
                *(slots if group["amsgrad"] else (*slots, None)),
                memo=memo,
                step=step,
                **({"masters": masters} if half else {}),
                **self._options(group),
            )
            if made is None:
                self._advance(batch, step)

    def _advance(self, batch: list[Tensor], step: int) -> None:
        """Count the step that all of `batch` have made."""
        for p in batch:
            self.state[p]["step"] = step
            if p._alias is None and p not in self._written:
                p._version += 1  # all that `_was_written` would do
            else:
                self._was_written(p)

    def _lasting(self, batch: list[Tensor], group: dict[str, Any]) -> list[Any]:
        """Return what is one and the same object as long as a recorded step of `batch` fits."""
        names = (*self.slots(group), "master")
        states = [self.state.get(p, {}) for p in batch]
        arrays = [
            x for p, s in zip(batch, states, strict=True) for x in (p.data, *map(s.get, names))
        ]
        return [self.state, *self.param_groups, *group["params"], *arrays]

    def _repeat(
        self, made: Recording, batch: list[Tensor], group: dict[str, Any], memo: dict[str, Any]
    ) -> None:
        """Let each replay go on with the step and the learning rate of its time."""
        if not _core.MODE.fused:
            refuse("AdamW is recorded with the backend's own kernels, which are switched off")
        state, kept = self.state, self._lasting(batch, group)

        def fits() -> bool:
            now = self._lasting(batch, group)
            return (
                len(now) == len(kept)
                and all(map(operator.is_, now, kept))
                and len({state[p]["step"] for p in batch}) == 1
                and all(self._written.get(p) == p._version for p in batch if is_half(p))
            )

        def act() -> None:
            step = int(state[batch[0]]["step"]) + 1
            numbers = tier3(batch[0].device, "adamw_numbers")
            numbers(memo=memo, step=step, **self._options(group))
            self._advance(batch, step)

        made.checks.append(fits)
        made.actions.append(act)


class AdamW(Adam):
    """Adam whose decay shrinks the parameters themselves: ``p = (1 - lr weight_decay) p`` before each step.

    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019, algorithm 2, with the decay
    scaled by the learning rate as in PyTorch. `decay_groups` puts it on matrices only.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor) or of dict
        Parameters, or groups with options of their own.
    lr : float
        Learning rate.
    betas : tuple of two float
        Decay rates of the means of the gradient and of its square, in [0, 1).
    eps : float
        Added to the root.
    weight_decay : float
        Share of the parameter, in units of the learning rate, that goes in each step.
    amsgrad : bool
        Divide by the largest mean square so far.
    maximize : bool
        Climb instead of descend.

    Examples
    --------
    >>> import tinyxp
    >>> w = tinyxp.Tensor([2.0], requires_grad=True)
    >>> w.grad = tinyxp.zeros(1)
    >>> AdamW([w], lr=0.1, weight_decay=0.5).step()
    >>> [round(x, 4) for x in w.tolist()]
    [1.9]
    """

    decoupled = True

    def __init__(  # noqa: PLR0917 - PyTorch's signature
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,  # noqa: FBT001, FBT002 - PyTorch's signature
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)

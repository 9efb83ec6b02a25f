"""Update steps and norms of many arrays in one pass over the memory."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from tinyxp._updates import Defaults
from tinyxp_numpy import _pool
from tinyxp_numpy._kernels import _steps

from ._arguments import FLOATS, Array, addresses, in_order, native

__all__ = ["UpdateKernels"]

_TASK = 1 << 15  # elements of a parameter in one task


class UpdateKernels(Defaults):
    """What optimizers do."""

    def adamw_steps(
        self,
        ps: list[Array],
        gs: list[Array],
        means: list[Array],
        squares: list[Array],
        largests: list[Array] | None,
        *,
        memo: dict[str, Any],
        masters: list[Array] | None = None,
        **options: Any,
    ) -> None:
        """Go one step with all parameters in one pass over the memory."""
        if masters is not None:
            super().adamw_steps(
                ps, gs, means, squares, largests, memo=memo, masters=masters, **options
            )
            return
        lasting = [*ps, *means, *squares, *(largests or ())]
        plan = memo.get("plan")
        if plan is None or not plan.is_of(lasting):
            plan = memo["plan"] = _Plan(lasting, ps)
        if plan.tasks is None or not plan.takes(gs):
            super().adamw_steps(ps, gs, means, squares, largests, memo=memo, **options)
            return
        held = [in_order(g) for g in gs]
        plan.places[:, 1] = addresses(held)
        kind, (beta1, beta2), step = ps[0].dtype.type, options["betas"], options["step"]
        decay, root = options["weight_decay"], math.sqrt(1 - beta2 ** options["step"])
        numbers = (
            -1 if options["maximize"] else 1,
            options["lr"] * decay if options["decoupled"] else decay,
            beta1, 1 - beta1, beta2, 1 - beta2,
            options["eps"] * root, options["lr"] * root / (1 - beta1**step),
        )  # fmt: skip
        shares = _pool.items_of(plan.parts)
        table = np.array([*plan.at, len(plan.tasks), shares, options["decoupled"]], np.int64)
        _pool.run_program(_steps.adamw(ps[0].dtype), shares, table, np.array(numbers, kind))

    def sum_of_squares(self, arrays: list[Array], dtype: Any, /) -> Array:
        """Return the sum of all squares: parts in the arrays' precision, their sum in float64."""
        arrays = [x for x in arrays if x.size]
        if not arrays or not native(*arrays):
            return super().sum_of_squares(arrays or [np.zeros(1, dtype)], dtype)
        held = [in_order(x) for x in arrays]
        tasks, weight = _tasks(held)
        sums = np.empty(len(tasks), held[0].dtype)
        like = np.empty(0, held[0].dtype)
        _pool.run(_steps.squares, len(tasks), weight, like, _table(held), tasks, sums)
        return np.asarray(sums.sum(dtype=np.float64), dtype)

    def scale_all(self, arrays: list[Array], factor: Array, /) -> None:
        """Multiply all `arrays` by `factor`, in place."""
        arrays = [x for x in arrays if x.size]
        if not arrays or not native(*arrays) or not all(x.flags.carray for x in arrays):
            super().scale_all(arrays, factor)
            return
        tasks, weight = _tasks(arrays)
        kind = arrays[0].dtype.type
        _pool.run(
            _steps.scale, len(tasks), weight, np.empty(0, kind), _table(arrays), tasks, kind(factor)
        )  # fmt: skip


class _Plan:
    """Where the parameters and moments of an optimizer lie, and how they are divided into tasks."""

    def __init__(self, arrays: list[Array], ps: list[Array]) -> None:
        self.arrays = arrays
        self.addresses = _table(arrays)
        fits = all(
            x.flags.carray
            and x.dtype == ps[0].dtype
            and x.shape == p.shape  # a kernel checks nothing
            for x, p in zip(arrays, ps * (len(arrays) // len(ps)), strict=True)
        )
        fits = fits and ps[0].dtype in FLOATS and any(p.size for p in ps)
        self.tasks: Array | None = None
        if fits:
            self.tasks, weight = _tasks(ps)
            self.parts = _pool.parts_of(len(self.tasks), weight)
            self.places = np.zeros((len(ps), 5), np.int64)
            columns = self.addresses.reshape(-1, len(ps))
            self.places[:, 0], self.places[:, 2:4] = columns[0], columns[1:3].T
            self.places[:, 4:] = columns[3:].T if len(columns) > 3 else 0  # noqa: PLR2004 - without AMSGrad three
            self.at = addresses([self.places, self.tasks])
        self.kinds, self.shapes = [p.dtype for p in ps], [p.shape for p in ps]

    def takes(self, gs: list[Array]) -> bool:
        """Whether gradients have the dtypes and shapes of their parameters."""
        return [g.dtype for g in gs] == self.kinds and [g.shape for g in gs] == self.shapes

    def is_of(self, arrays: list[Array]) -> bool:
        """Whether these are the arrays it was made for."""
        return len(arrays) == len(self.arrays) and all(map(operator.is_, arrays, self.arrays))

    def __deepcopy__(self, memo: Any) -> None:
        """Copy to nothing: the copies of the arrays lie elsewhere."""

    def __reduce__(self) -> Any:
        return type(None), ()


def _table(arrays: list[Array]) -> Array:
    return np.array(addresses(arrays), np.int64)


def _tasks(arrays: list[Array]) -> tuple[Array, int]:
    """Return rows of (array, first element, number of elements), and what such a task costs."""
    rows = [
        (i, first, min(_TASK, x.size - first))
        for i, x in enumerate(arrays)
        for first in range(0, x.size, _TASK)
    ]
    tasks = np.array(rows, np.int64)
    return tasks, 4 * int(tasks[:, 2].sum()) // len(tasks)

"""Update steps and norms of many arrays in one launch."""

from __future__ import annotations

import math
import operator
from contextlib import nullcontext
from typing import Any

import cupy
import numpy as np

from tinyxp._capture import refuse
from tinyxp._updates import Defaults, unless
from tinyxp_cupy._modules import TYPES, kernel, launch
from tinyxp_cupy._tables import capturing, here, words

__all__ = ["UpdateKernels"]

Array = Any
Kind = tuple[str, str]  # which kernel, and the dtype of the parameters
_FILE = "updates"
_CHUNK = 4096  # elements that a block works on, as in updates.cu
_THREADS = 256
_ADDING = 1024  # threads of the one block that adds up
_COUNT = 8
_NUMBERS = np.dtype([("at", np.float32, (_COUNT,))])


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
        """Go one step with all parameters in one launch, or in one for each combination of dtypes."""
        lists = (ps, gs, means, squares, largests)
        self._step(None, lists, masters, memo=memo, **options)

    def adamw_steps_unless(
        self,
        skip: Array,
        *lists: Any,
        memo: dict[str, Any],
        masters: list[Array] | None = None,
        **options: Any,
    ) -> None:
        """Do what `adamw_steps` does where `skip` is false: the kernels look."""
        self._step(skip, lists, masters, memo=memo, **options)

    def _step(
        self,
        skip: Array | None,
        lists: tuple[Any, ...],
        masters: list[Array] | None,
        *,
        memo: dict[str, Any],
        **options: Any,
    ) -> None:
        ps, gs, means, squares, largests = lists
        given = (ps, means, squares, largests, masters)
        plan = memo.get("plan")
        if plan is None or not plan.is_of(given):
            plan = memo["plan"] = _Plan(given)
        kept = _kept(memo) if memo.get("captured") else None
        numbers = _numbers(**options)
        for kind, rows in plan.sorted(gs).items():
            if kind is not None:
                held = [cupy.ascontiguousarray(gs[i]) for i in rows]
                n, layout, lasting = plan.part(rows)
                launch(
                    kernel(_FILE, *kind), n, _THREADS,
                    lasting, words(_addresses(held)), layout, len(rows), numbers, kept, skip,
                )  # fmt: skip
                continue
            refuse("AdamW is recorded for float32, float16 and bfloat16 parameters in C order only")
            left = [None if x is None else [x[i] for i in rows] for x in (*lists, masters)]
            self._default(skip, left[:5], {"masters": left[5], "memo": {}, **options})

    def _default(
        self, skip: Array | None, lists: list[list[Array] | None], options: dict[str, Any]
    ) -> None:
        """Go a step by the definition."""
        ps, _, *state = lists
        arrays = [x for part in (ps, *state, options["masters"]) for x in part or ()]
        with nullcontext() if skip is None else unless(self.xp, skip, arrays):
            super().adamw_steps(*lists, **options)  # type: ignore[arg-type]  # the first four are lists

    def adamw_numbers(self, *, memo: dict[str, Any], **options: Any) -> None:
        """Give the device the numbers of the next replay of recorded steps."""
        launch(kernel(_FILE, "keep_numbers"), 1, 32, _numbers(**options), _kept(memo))

    def norm_and_factor(
        self, arrays: list[Array], dtype: Any, most: float, /
    ) -> tuple[Array, Array]:
        """Return the norm of all `arrays` and the factor that brings it down to `most`, in two launches."""
        found = _squares(arrays, dtype)
        if found is None or not math.isfinite(most):
            return super().norm_and_factor(arrays, dtype, most)
        out = cupy.empty(2, np.float32)
        _add_up(found, most, out)
        return out[0], out[1]

    def sum_of_squares(self, arrays: list[Array], dtype: Any, /) -> Array:
        """Return the sum of all squares in two launches: chunks in float32, their sum in float64."""
        found = _squares(arrays, dtype)
        if found is None:
            return super().sum_of_squares(arrays, dtype)
        out = cupy.empty((), np.float32)
        _add_up(found, -1.0, out)
        return out

    def scale_all(self, arrays: list[Array], factor: Array, /) -> None:
        """Multiply all `arrays` by `factor`, in place, in one launch for each dtype."""
        arrays = [x for x in arrays if x.size]
        if not _fit(arrays) or factor.dtype == np.float64:
            super().scale_all(arrays, factor)
            return
        factor = factor.astype(np.float32, copy=False)
        for dtype, part in _by_dtype(arrays).items():
            n, layout = _layout(part)
            launch(
                kernel(_FILE, "scale", dtype), n, _THREADS,
                words(_addresses(part)), layout, len(part), factor,
            )  # fmt: skip


# ---------------------------------------------------------------- AdamW
class _Plan:
    """Where the parameters and moments of an optimizer lie, and which kernel steps them."""

    def __init__(self, given: tuple[list[Array] | None, ...]) -> None:
        self.lists = [None if x is None else list(x) for x in given]
        self.kinds = [
            _kinds(*(None if x is None else x[i] for x in self.lists))
            for i in range(len(given[0] or ()))
        ]
        self.known: dict[Any, tuple[int, Array, Array]] = {}

    def is_of(self, given: tuple[list[Array] | None, ...]) -> bool:
        """Whether these are the arrays it was made for."""
        return all(
            (x is None) == (y is None)
            and (x is None or (len(x) == len(y) and all(map(operator.is_, x, y))))  # type: ignore[arg-type]  # both are lists
            for x, y in zip(self.lists, given, strict=True)
        )

    def sorted(self, gs: list[Array]) -> dict[Kind | None, tuple[int, ...]]:
        """Return the numbers of the parameters that a kernel steps, for each kernel; None is the default."""
        found: dict[Kind | None, list[int]] = {}
        for i, (g, kinds) in enumerate(zip(gs, self.kinds, strict=True)):
            if g.size:
                fits = g.shape == self.lists[0][i].shape  # type: ignore[index]  # there always are parameters
                kind = kinds.get(g.dtype.name) if fits else None
                found.setdefault(kind, []).append(i)
        return {kind: tuple(rows) for kind, rows in found.items()}

    def part(self, rows: tuple[int, ...]) -> tuple[int, Array, Array]:
        """Return the number of chunks of some parameters, their layout and the addresses of what lasts."""
        key = (here(), rows)
        if key in self.known:
            return self.known[key]
        lists = [None if x is None else [x[i] for i in rows] for x in self.lists]
        addresses = [(0,) * len(rows) if x is None else _addresses(x) for x in lists]
        lasting = words(tuple(a for part in addresses for a in part))
        found = (*_layout(lists[0] or []), lasting)
        if not capturing():  # what a graph fills is that graph's
            self.known[key] = found
        return found

    def __deepcopy__(self, memo: Any) -> None:
        """Copy to nothing: the copies of the arrays lie elsewhere."""

    def __reduce__(self) -> Any:
        return type(None), ()


def _kinds(
    p: Array, mean: Array, square: Array, largest: Array | None, master: Array | None
) -> dict[str, Kind]:
    """Return the kernels that step this parameter, by the dtype of the gradient."""
    name, single = p.dtype.name, np.dtype(np.float32)
    means = [x for x in (mean, square, largest) if x is not None]
    fits = name in TYPES and all(
        x.shape == p.shape and x.device == p.device and x.flags.c_contiguous
        for x in (p, *means, *(() if master is None else (master,)))
    )
    if not fits:
        return {}
    if master is None:
        same = all(x.dtype == p.dtype for x in means)
        return {name: ("adamw_plain", name)} if same else {}
    if any(x.dtype != single for x in (*means, master)):
        return {}
    return {"float32": ("adamw_wide", name), name: ("adamw_means", name)}


def _numbers(
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> Any:
    """Return what the kernels call `Numbers`."""
    (beta1, beta2), root = betas, math.sqrt(1.0 - betas[1] ** step)
    out = np.zeros((), _NUMBERS)
    out["at"][:] = (
        -1.0 if maximize else 1.0,
        1.0 - lr * weight_decay if decoupled else 1.0,
        0.0 if decoupled else weight_decay,
        1.0 - beta1, beta2, 1.0 - beta2, eps * root, lr * root / (1.0 - beta1**step),
    )  # fmt: skip
    return out


def _kept(memo: dict[str, Any]) -> Array:
    """Return the numbers that recorded steps read, on the device.

    They are written before a replay, so they lie outside of the memory that the graph writes into.
    """
    if "numbers" not in memo:
        with cupy.cuda.using_allocator(cupy.get_default_memory_pool().malloc):
            memo["numbers"] = cupy.empty(_COUNT, np.float32)
    return memo["numbers"]


# ---------------------------------------------------------------- many arrays
def _addresses(arrays: list[Array]) -> tuple[int, ...]:
    return tuple([x.data.ptr for x in arrays])


def _layout(arrays: list[Array]) -> tuple[int, Array]:
    """Return into how many chunks `arrays` fall, and the table of them."""
    sizes, first = [x.size for x in arrays], [0]
    for size in sizes:
        first.append(first[-1] - -size // _CHUNK)
    return first[-1], words((*first, *sizes))


def _fit(arrays: list[Array]) -> bool:
    """Whether kernels take all these, of which there are some."""
    return bool(arrays) and all(
        x.dtype.name in TYPES and x.flags.c_contiguous and x.device == arrays[0].device
        for x in arrays
    )


def _by_dtype(arrays: list[Array]) -> dict[str, list[Array]]:
    found: dict[str, list[Array]] = {}
    for x in arrays:
        found.setdefault(x.dtype.name, []).append(x)
    return found


def _squares(arrays: list[Array], dtype: Any) -> Array | None:
    """Return the sum of the squares of each chunk, None where no kernel takes the arrays."""
    arrays = [cupy.ascontiguousarray(x) for x in arrays if x.size]
    if dtype != np.float32 or not _fit(arrays):
        return None
    parts = [(name, part, *_layout(part)) for name, part in _by_dtype(arrays).items()]
    sums, first = cupy.empty(sum(n for _, _, n, _ in parts), np.float32), 0
    for name, part, n, layout in parts:
        out = sums[first : first + n]
        launch(
            kernel(_FILE, "squares", name), n, _THREADS,
            words(_addresses(part)), layout, len(part), out,
        )  # fmt: skip
        first += n
    return sums


def _add_up(sums: Array, most: float, out: Array) -> None:
    launch(kernel(_FILE, "total"), 1, _ADDING, sums, sums.size, float(most), out)

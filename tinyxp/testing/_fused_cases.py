"""Arguments for every operation of the third tier: ordinary, odd, empty and extreme ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyxp import _fused, dtypes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyxp.testing._samples import Samples

__all__ = ["FUSED", "UPDATES", "Case", "arguments", "is_real"]

Array = Any


class Case(NamedTuple):
    """An operation, what its arguments are made of, and its options.

    `make` takes `Samples` and returns the positional arguments.
    """

    name: str
    make: Callable[[Samples], list[Any]]
    options: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in self.options.items())})"


def arguments(case: Case, samples: Samples) -> list[Any]:
    """Return the positional arguments of `case`."""
    return case.make(samples)


def is_real(x: Any) -> bool:
    """Whether `x` is a real floating array, and so has a cotangent."""
    return hasattr(x, "dtype") and dtypes.of(x.dtype).kind == "f"


def _real(*shapes: tuple[int, ...] | None, scale: float = 2.0) -> Callable[[Samples], list[Any]]:
    """Return a maker of real arrays of these shapes; None stays None."""
    return lambda s: [
        None if shape is None else s.real(*shape, low=-scale, high=scale) for shape in shapes
    ]


def _row(*numbers: float) -> Callable[[Samples], list[Any]]:
    return lambda s: [s.array([list(numbers)])]


_EXTREME = _row(-1e4, -90.0, -10.0, -1.0, -1e-30, 0.0, 1e-30, 1.0, 10.0, 90.0, 1e4)
_MASKED = _row(0.0, -math.inf, 1.0, -math.inf)
_HIDING = [[True, False, True], [False, False, False], [True, True, True]]
_ADDED = [[0.5, -math.inf, 1.0], [0.0, 0.0, 0.0], [-1.0, 2.0, -math.inf]]
_HEADS = (_real((2, 2, 3, 4), (2, 2, 3, 4), (2, 2, 3, 4), None), {"is_causal": True, "scale": None})


def _hidden(mask: list[Any], dtype: str | None = None) -> Callable[[Samples], list[Any]]:
    return lambda s: [s.real(2, 3, 4), s.real(2, 3, 4), s.real(2, 3, 5), s.array(mask, dtype)]


def _look_up(shape: tuple[int, ...], size: int) -> Callable[[Samples], list[Any]]:
    return lambda s: [s.ints(*shape, high=size), s.real(size, 3)]


def _classes(rows: int, *targets: int, scale: float = 2.0) -> Callable[[Samples], list[Any]]:
    return lambda s: [
        s.real(rows, 5, low=-scale, high=scale),
        s.array(list(targets), "int64"),
    ]


def _with_key(*shape: int) -> Callable[[Samples], list[Any]]:
    return lambda s: [s.real(*shape), (7, 11)]


_AT_ONE = {"ignore_index": -100, "label_smoothing": 0.0}
_SMOOTHED = {"ignore_index": 2, "label_smoothing": 0.2}

FUSED: tuple[Case, ...] = (
    Case("linear", _real((2, 3, 4), (4, 5), (5,)), {}),
    Case("linear", _real((4,), (4, 5), None), {}),
    Case("linear", _real((0, 4), (4, 5), (5,)), {}),
    Case("linear", _real((3, 1), (1, 1), (1,)), {}),
    Case("embedding", _look_up((2, 7), 4), {}),
    Case("embedding", _look_up((0,), 4), {}),
    Case("embedding", _look_up((), 1), {}),
    *(Case("gelu", _real((3, 5)), {"approximate": form}) for form in _fused.GELU_FORMS),
    *(Case("gelu", _EXTREME, {"approximate": form}) for form in _fused.GELU_FORMS),
    Case("silu", _real((3, 5)), {}),
    Case("silu", _EXTREME, {}),
    Case("silu", _real((2, 0)), {}),
    *(
        Case(name, make, {"axis": axis})
        for name in ("softmax", "log_softmax")
        for make, axis in (
            (_real((3, 5)), 0),
            (_real((2, 3, 4)), -1),
            (_EXTREME, -1),
            (_real((3, 1)), 1),
        )
    ),
    Case("softmax", _MASKED, {"axis": -1}),
    Case("softmax", _real((0, 3)), {"axis": -1}),
    Case("layer_norm", _real((2, 3, 4), (4,), (4,)), {"eps": 1e-5}),
    Case("layer_norm", _real((2, 3, 4), (3, 4), None), {"eps": 1e-5}),
    Case("layer_norm", _real((2, 4), (4,), (4,), scale=1e-8), {"eps": 1e-5}),
    Case("layer_norm", _real((0, 4), (4,), (4,)), {"eps": 1e-5}),
    Case("rms_norm", _real((2, 3, 4), (4,)), {"eps": 1e-6}),
    Case("rms_norm", lambda s: [s.real(2, 4) * 0.0, s.real(4)], {"eps": 1e-6}),
    Case("cross_entropy", _classes(4, 1, -100, 4, 0), _AT_ONE),
    Case("cross_entropy", _classes(4, 1, 2, 4, 0), _SMOOTHED),
    Case("cross_entropy", _classes(2, -100, -100), _AT_ONE),
    Case("cross_entropy", _classes(3, 0, 1, 2, scale=1e4), _AT_ONE),
    Case("attention", *_HEADS),
    Case(
        "attention", _real((2, 3, 4), (2, 5, 4), (2, 5, 2), None), {"is_causal": True, "scale": 0.3}
    ),
    Case(
        "attention",
        _real((2, 1, 4), (2, 5, 4), (2, 5, 4), None),
        {"is_causal": False, "scale": None},
    ),
    Case("attention", _hidden(_HIDING, "bool"), {"is_causal": False, "scale": None}),
    Case("attention", _hidden(_HIDING, "bool"), {"is_causal": True, "scale": None}),
    Case("attention", _hidden(_ADDED), {"is_causal": False, "scale": None}),
    Case(
        "attention", _real((2, 3, 4), (3, 4), (1, 3, 4), None), {"is_causal": False, "scale": 1.0}
    ),
    Case("dropout", _with_key(3, 5), {"p": 0.4}),
    Case("dropout", _with_key(3, 5), {"p": 1.0}),
    Case("dropout", _with_key(0, 5), {"p": 0.4}),
)

# ---------------------------------------------------------------- update steps
_ADAM = {
    "step": 3, "lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "decoupled": True,
    "maximize": False,
}  # fmt: skip
_SGD = {
    "lr": 1e-2, "momentum": 0.9, "dampening": 0.1, "nesterov": False, "weight_decay": 0.1, "maximize": False,
}  # fmt: skip
_LION = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.1, "maximize": False}
_MUON = {
    "lr": 1e-2, "scale": 0.2, "momentum": 0.95, "nesterov": True, "weight_decay": 0.1,
    "coefficients": (3.4445, -4.775, 2.0315), "steps": 5, "eps": 1e-7,
}  # fmt: skip


def _moments(shape: tuple[int, ...], *, largest: bool) -> Callable[[Samples], list[Any]]:
    def make(s: Samples) -> list[Any]:
        squares = [s.real(*shape, low=0.1, high=1.0) for _ in range(2)]
        return [
            s.real(*shape),
            s.real(*shape),
            s.real(*shape),
            squares[0],
            squares[1] if largest else None,
        ]

    return make


UPDATES: tuple[Case, ...] = (
    Case("adamw_step", _moments((3, 5), largest=False), _ADAM),
    Case(
        "adamw_step", _moments((7,), largest=True), _ADAM | {"decoupled": False, "maximize": True}
    ),
    Case("adamw_step", _moments((0, 3), largest=False), _ADAM | {"weight_decay": 0.0}),
    Case("lion_step", _real((3, 5), (3, 5), (3, 5)), _LION),
    Case("lion_step", _real((3,), (3,), (3,)), _LION | {"maximize": True, "weight_decay": 0.0}),
    Case("muon_step", _real((3, 5), (3, 5), (3, 5)), _MUON),
    Case("muon_step", _real((5, 3), (5, 3), (5, 3)), _MUON | {"nesterov": False}),
    Case("sgd_step", _real((3, 5), (3, 5), (3, 5)), _SGD),
    Case("sgd_step", _real((3, 5), (3, 5), (3, 5)), _SGD | {"nesterov": True, "dampening": 0.0}),
    Case("sgd_step", _real((3,), (3,), None), _SGD | {"maximize": True}),
)

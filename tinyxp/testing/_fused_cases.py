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


def _block(
    batch: int, time: int, width: int, *, bias: bool = True
) -> Callable[[Samples], list[Any]]:
    shapes = [(batch, time, width), *[(width, width), (width,) if bias else None] * 4]
    return _real(*shapes)


def _whole(batch: int, time: int, width: int) -> Callable[[Samples], list[Any]]:
    norm, square = [(width,)] * 2, [(width, width), (width,)]
    rest = [(width, 3 * width), (3 * width,), (3 * width, width), (width,)]
    return _real((batch, time, width), *norm, *square * 4, *norm, *rest, scale=1.0)


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
    Case("swiglu", _real((3, 5), (3, 5)), {}),
    Case("swiglu", lambda s: [*_EXTREME(s), s.real(1, 11)], {}),
    Case("swiglu", _real((0, 5), (0, 5)), {}),
    Case("rotary", _real((2, 2, 3, 4), (3, 2), (3, 2)), {}),
    Case("rotary", _real((300, 66), (300, 33), (300, 33)), {}),
    Case("rotary", _real((2, 3, 4), (2, 3, 2), (1, 2)), {}),
    Case("rotary", _real((0, 4), (0, 2), (0, 2)), {}),
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
    Case("dropout", lambda s: [s.real(3, 5), s.array([7, 11], "int64")], {"p": 0.4}),
    *(
        Case("mlp", _real((2, 3, 4), (4, 6), (6,), (6, 5), (5,)), {"approximate": form})
        for form in _fused.GELU_FORMS
    ),
    Case("mlp", _real((3, 4), (4, 6), None, (6, 5), None), {"approximate": "tanh"}),
    Case("mlp", _real((0, 4), (4, 6), (6,), (6, 4), (4,)), {"approximate": "tanh"}),
    *(
        Case("self_attention", make, {"num_heads": 2, "is_causal": causal})
        for make in (
            _block(2, 3, 4),
            _block(1, 1, 4),
            _block(2, 3, 4, bias=False),
            _block(1, 70, 2),
        )
        for causal in (True, False)
    ),
    *(
        Case(
            "transformer_block",
            _whole(*sizes),
            {"num_heads": 2, "is_causal": True, "eps": 1e-5, "approximate": "tanh"},
        )
        for sizes in ((2, 3, 4), (1, 1, 2), (3, 70, 8))
    ),
    # computed in a dtype other than that of the arguments
    *(
        case
        for half in ("bfloat16", "float16")
        for case in (
            Case(
                "mlp",
                _real((2, 3, 4), (4, 6), (6,), (6, 5), (5,)),
                {"approximate": "tanh", "compute": half},
            ),
            Case(
                "mlp",
                _real((3, 4), (4, 6), None, (6, 5), None),
                {"approximate": "none", "compute": half},
            ),
            Case(
                "self_attention",
                _block(2, 3, 4),
                {"num_heads": 2, "is_causal": True, "compute": half},
            ),
            Case(
                "self_attention",
                _block(2, 3, 4, bias=False),
                {"num_heads": 1, "is_causal": False, "compute": half},
            ),
            *(
                Case(
                    "transformer_block",
                    _whole(*sizes),
                    {
                        "num_heads": 2,
                        "is_causal": True,
                        "eps": 1e-5,
                        "approximate": "tanh",
                        "compute": half,
                    },
                )
                for sizes in ((2, 3, 4), (1, 1, 2), (3, 70, 8))
            ),
        )
    ),
    # as large as to be computed in several parts, and by several threads
    Case("linear", _real((700, 30), (30, 100), (100,)), {}),
    Case("gelu", _real((300, 257)), {"approximate": "tanh"}),
    Case("softmax", _real((300, 257)), {"axis": -1}),
    Case("layer_norm", _real((300, 257), (257,), (257,)), {"eps": 1e-5}),
    Case("dropout", _with_key(301, 257), {"p": 0.4}),
    Case(
        "attention",
        _real((2, 70, 3), (2, 150, 3), (2, 150, 2), None),
        {"is_causal": True, "scale": None},
    ),
    Case(
        "attention",
        _real((1, 3, 70, 4), (1, 3, 20, 4), (1, 3, 20, 4), None),
        {"is_causal": True, "scale": None},
    ),
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


def _many(shapes: tuple[tuple[int, ...], ...], *, largest: bool) -> Callable[[Samples], list[Any]]:
    def make(s: Samples) -> list[Any]:
        each = [_moments(shape, largest=largest)(s) for shape in shapes]
        *lists, last = map(list, zip(*each, strict=True))
        return [*lists, last if largest else None]

    return make


def _many_unless(*, skip: bool) -> Callable[[Samples], list[Any]]:
    return lambda s: [s.array(skip, "bool"), *_many(((3, 5), ()), largest=True)(s)]


def _two_and(most: float) -> Callable[[Samples], list[Any]]:
    return lambda s: [[s.real(3, 5), s.real(300, 257)], s.real(1).dtype, most]


def _position(
    batch: int, *, masked: bool, width: int = 6, hidden: int = 10
) -> Callable[[Samples], list[Any]]:
    """Return a maker of the arguments of `transformer_step`: two heads, room for 4 positions."""
    square, row = (width, width), (width,)
    shapes = [*[square, row] * 4, *[row] * 4, (width, hidden), (hidden,), (hidden, width), row]

    def make(s: Samples) -> list[Any]:
        cache = (batch, 2, 4, width // 2)
        x, keys, values = s.real(batch, width), s.real(*cache), s.real(*cache)
        mask = None
        if masked:
            first = s.device.xp.arange(batch, device=s.device.native)[:, None, None, None]
            mask = s.device.xp.arange(4, device=s.device.native) >= first
        return [x, [s.real(*shape) for shape in shapes], keys, values, mask]

    return make


def _to_clip(most: float) -> Callable[[Samples], list[Any]]:
    return lambda s: [[s.real(3, 5), s.real(300, 257)], s.real(1).dtype, most]


def _embedded(*, padded: bool) -> Callable[[Samples], list[Any]]:
    """Return a maker of the arguments of `embed_step`: 5 tokens, 4 positions."""

    def make(s: Samples) -> list[Any]:
        padding = s.ints(3, high=3) if padded else None
        return [s.ints(3, high=5), s.real(5, 6), s.real(4, 6), padding]

    return make


UPDATES: tuple[Case, ...] = (
    Case("adamw_step", _moments((3, 5), largest=False), _ADAM),
    Case(
        "adamw_step", _moments((7,), largest=True), _ADAM | {"decoupled": False, "maximize": True}
    ),
    Case("adamw_step", _moments((0, 3), largest=False), _ADAM | {"weight_decay": 0.0}),
    *(
        Case(
            "adamw_steps",
            _many(((3, 5), (), (0, 2), (300, 257)), largest=largest),
            _ADAM | {"memo": {}},
        )
        for largest in (False, True)
    ),
    *(
        Case(
            "adamw_steps_unless",
            _many_unless(skip=skip),
            _ADAM | {"memo": {}},
        )
        for skip in (False, True)
    ),
    Case(
        "sum_of_squares",
        lambda s: [[s.real(3, 5), s.real(300, 257), s.real(0)], s.real(1).dtype],
        {},
    ),
    Case("norm_and_factor", _to_clip(1.0), {}),
    Case("norm_and_factor", _to_clip(1e6), {}),
    Case("scale_all", lambda s: [[s.real(3, 5), s.real(300, 257), s.real(0)], s.array(0.5)], {}),
    Case("lion_step", _real((3, 5), (3, 5), (3, 5)), _LION),
    Case("lion_step", _real((3,), (3,), (3,)), _LION | {"maximize": True, "weight_decay": 0.0}),
    Case("muon_step", _real((3, 5), (3, 5), (3, 5)), _MUON),
    Case("muon_step", _real((5, 3), (5, 3), (5, 3)), _MUON | {"nesterov": False}),
    Case("sgd_step", _real((3, 5), (3, 5), (3, 5)), _SGD),
    Case("sgd_step", _real((3, 5), (3, 5), (3, 5)), _SGD | {"nesterov": True, "dampening": 0.0}),
    Case("sgd_step", _real((3,), (3,), None), _SGD | {"maximize": True}),
    Case("advance", lambda s: [s.ints(1), s.ints(3)], {}),
    Case("embed_step", _embedded(padded=False), {"start": 2}),
    Case("embed_step", _embedded(padded=True), {"start": 2}),
    *(
        Case(
            "sample",
            lambda s: [s.real(3, 300, low=-6.0, high=6.0), (1, 2)],
            {"temperature": temperature, "top_k": top_k, "top_p": top_p},
        )
        for temperature, top_k, top_p in ((0.0, None, None), (1.0, None, None), (0.7, 20, 0.9))
    ),
    *(
        Case(
            "transformer_step",
            _position(batch, masked=masked),
            {"start": 2, "eps": 1e-5, "approximate": form},
        )
        for batch, masked, form in ((1, False, "tanh"), (3, True, "none"), (2, False, "sigmoid"))
    ),
    *(
        Case(
            "transformer_step",
            _position(batch, masked=batch > 1, width=22, hidden=35),
            {"start": start, "eps": 0.1, "approximate": "tanh"},
        )
        for batch, start in ((1, 0), (2, 3), (11, 3))
    ),
)

"""The table: how every operation is differentiated.

A line names an operation and gives one rule for each of its arguments, ::

    rule(xp, g, out, *args, **kwargs) -> cotangent of that argument

where ``g`` is the cotangent of the result and ``xp`` the namespace: the backend's own in an ordinary
backward pass, tinyxp itself when the pass is recorded. **A parameter whose name begins with an underscore is
not read**: it has a shape and a dtype, and no data, so that the graph need not keep it. Broadcasting and
promotion are undone by the engine. For complex numbers the cotangent of x is g times the conjugate of the
derivative (PyTorch's convention; JAX's is the conjugate of it).

``passes``: a rule may give back ``g`` itself or a view of it. ``guard``: the derivative can be infinite or NaN
where the cotangent is zero, and the cotangent then stays zero.
"""

from __future__ import annotations

import math
from typing import Any

from tinyxp import dtypes
from tinyxp.autograd._record import op

Rule = Any


def define(
    name: str,
    *rules: Rule | None,
    each: Rule | None = None,
    pair: Rule | None = None,
    passes: bool = False,
    guard: bool = False,
    on_tensors: bool = False,
) -> None:
    """Fill in a line of the table."""
    op(name).define(rules, each=each, pair=pair, passes=passes, guard=guard, on_tensors=on_tensors)


def c(xp: Any, y: Any) -> Any:
    """Return the complex conjugate of an array or number, itself where it is real."""
    if type(y) is float:  # by far the most common number
        return y
    if type(y) is complex:
        return y.conjugate()
    d = getattr(y, "dtype", None)
    return y if d is None or dtypes.of(d).kind != "c" else xp.conj(y)


def is_complex(x: Any) -> bool:
    """Whether an array, or an Aval, is complex."""
    return dtypes.of(x.dtype).kind == "c"


def flat(xp: Any, g: Any, _out: Any, _x: Any, _y: Any = None) -> Any:
    """Return zeros: the rule of what is constant almost everywhere in this argument."""
    return xp.zeros_like(g)


# ================================================================ elementwise
define(
    "add",
    *[lambda xp, g, _out, _x, _y: g] * 2,
    pair=lambda xp, g, _out, _x, _y: (g, g),
    passes=True,
)
define(
    "subtract",
    lambda xp, g, _out, _x, _y: g,
    lambda xp, g, _out, _x, _y: -g,
    pair=lambda xp, g, _out, _x, _y: (g, -g),
    passes=True,
)


def _times(xp: Any, g: Any, _out: Any, x: Any, y: Any) -> tuple[Any, Any]:
    return (g * xp.conj(y), g * xp.conj(x)) if is_complex(g) else (g * y, g * x)


define(
    "multiply",
    lambda xp, g, _out, _x, y: g * c(xp, y),
    lambda xp, g, _out, x, _y: g * c(xp, x),
    pair=_times,
    guard=True,  # by a factor that is masked out
)
define(
    "divide",
    lambda xp, g, _out, _x, y: g / c(xp, y),
    lambda xp, g, out, _x, y: -g * c(xp, out / y),
    guard=True,
)
define("negative", lambda xp, g, _out, _x: -g)
define("positive", lambda xp, g, _out, _x: g, passes=True)
define("conj", lambda xp, g, _out, _x: c(xp, g), passes=True)
define("real", lambda xp, g, _out, _x: xp.astype(g, _x.dtype), passes=True)
define("imag", lambda xp, g, _out, _x: xp.astype(g, _x.dtype) * 1j)
define("abs", lambda xp, g, _out, x: g * xp.sign(x))
define("square", lambda xp, g, _out, x: g * c(xp, 2 * x))
define("sqrt", lambda xp, g, out, _x: g / c(xp, 2 * out), guard=True)
define("reciprocal", lambda xp, g, out, _x: -g * c(xp, out * out), guard=True)
define("exp", lambda xp, g, out, _x: g * c(xp, out), guard=True)
define("expm1", lambda xp, g, out, _x: g * c(xp, out + 1), guard=True)
define("log", lambda xp, g, _out, x: g / c(xp, x), guard=True)
define("log1p", lambda xp, g, _out, x: g / c(xp, 1 + x), guard=True)
define("log2", lambda xp, g, _out, x: g / c(xp, x * math.log(2)), guard=True)
define("log10", lambda xp, g, _out, x: g / c(xp, x * math.log(10)), guard=True)
define("sin", lambda xp, g, _out, x: g * c(xp, xp.cos(x)), guard=True)
define("cos", lambda xp, g, _out, x: -g * c(xp, xp.sin(x)), guard=True)
define("tan", lambda xp, g, out, _x: g * c(xp, 1 + out * out), guard=True)
define("sinh", lambda xp, g, _out, x: g * c(xp, xp.cosh(x)), guard=True)
define("cosh", lambda xp, g, _out, x: g * c(xp, xp.sinh(x)), guard=True)
define("tanh", lambda xp, g, out, _x: g * c(xp, 1 - out * out))
define("asin", lambda xp, g, _out, x: g / c(xp, xp.sqrt(1 - x) * xp.sqrt(1 + x)), guard=True)
define("acos", lambda xp, g, _out, x: -g / c(xp, xp.sqrt(1 - x) * xp.sqrt(1 + x)), guard=True)
define("atan", lambda xp, g, _out, x: g / c(xp, 1 + x * x), guard=True)
define("asinh", lambda xp, g, _out, x: g / c(xp, xp.sqrt(x * x + 1)), guard=True)
define("acosh", lambda xp, g, _out, x: g / c(xp, xp.sqrt(x - 1) * xp.sqrt(x + 1)), guard=True)
define("atanh", lambda xp, g, _out, x: g / c(xp, 1 - x * x), guard=True)
define("erf", lambda xp, g, _out, x: g * (2 / math.sqrt(math.pi)) * xp.exp(-(x * x)))

for _name in ("ceil", "floor", "round", "trunc"):
    define(_name, flat)
define("floor_divide", flat, flat)


def _sign(xp: Any, g: Any, out: Any, x: Any) -> Any:
    """Zero for real x; d(x/|x|) keeps what is orthogonal to x."""
    if not is_complex(x):
        return xp.zeros_like(g)
    length = xp.abs(x)
    safe = xp.where(length == 0, xp.ones_like(length), length)
    along = xp.astype(xp.real(xp.conj(out) * g), g.dtype)
    r = (g - out * along) / xp.astype(safe, g.dtype)
    return xp.where(length == 0, xp.zeros_like(r), r)


define("sign", _sign)


def _like(xp: Any, value: Any, ref: Any) -> Any:
    """Return a number as an array beside `ref`."""
    if hasattr(value, "dtype"):
        return value
    return xp.full_like(ref, value)


def _pow_base(xp: Any, g: Any, _out: Any, x: Any, y: Any) -> Any:
    """Return the cotangent of the base, y x^(y - 1): zero where y is, whatever x."""
    if not hasattr(y, "dtype"):
        return xp.zeros_like(g) if y == 0 else g * c(xp, y * _like(xp, x, g) ** (y - 1))
    d = y * _like(xp, x, y) ** (y - 1)
    return g * c(xp, xp.where(y == 0, xp.zeros_like(d), d))


def _pow_exponent(xp: Any, g: Any, out: Any, x: Any, _y: Any) -> Any:
    """Return the cotangent of the exponent, x^y log x: zero at x = 0, where x^y is flat for y > 0."""
    x = _like(xp, x, out)
    zero = x == 0
    d = out * xp.log(xp.where(zero, xp.ones_like(x), x))
    return g * c(xp, xp.where(zero, xp.zeros_like(d), d))


define("pow", _pow_base, _pow_exponent, guard=True)
define(
    "remainder",
    lambda xp, g, _out, _x, _y: g,
    lambda xp, g, _out, x, y: -g * xp.floor(x / y),
    passes=True,
    guard=True,
)


def _atan2(xp: Any, g: Any, x: Any, y: Any, side: Any) -> Any:
    """Return g times `side` over x^2 + y^2, zero at the origin, where the angle jumps."""
    square = x * x + y * y
    zero = square == 0
    slope = side / xp.where(zero, xp.ones_like(square), square)
    return g * xp.where(zero, xp.zeros_like(square), slope)


define(
    "atan2",
    lambda xp, g, _out, x, y: _atan2(xp, g, x, y, y),
    lambda xp, g, _out, x, y: -_atan2(xp, g, x, y, x),
    guard=True,
)


def _hypot(xp: Any, g: Any, out: Any, x: Any) -> Any:
    zero = out == 0
    return g * xp.where(zero, xp.zeros_like(out), x / xp.where(zero, xp.ones_like(out), out))


define(
    "hypot",
    lambda xp, g, out, x, _y: _hypot(xp, g, out, x),
    lambda xp, g, out, _x, y: _hypot(xp, g, out, y),
    guard=True,
)
define(
    "logaddexp",
    lambda xp, g, out, x, _y: g * xp.exp(x - out),
    lambda xp, g, out, _x, y: g * xp.exp(y - out),
    guard=True,
)


def _larger(xp: Any, g: Any, x: Any, y: Any) -> Any:
    """Pass `g` where x > y, half of it where they are equal."""
    zero = xp.zeros_like(g)
    return xp.where(x > y, g, xp.where(x == y, g / 2, zero))


define(
    "maximum",
    lambda xp, g, _out, x, y: _larger(xp, g, _like(xp, x, g), y),
    lambda xp, g, _out, x, y: _larger(xp, g, _like(xp, y, g), x),
)
define(
    "minimum",
    lambda xp, g, _out, x, y: _larger(xp, g, _like(xp, y, g), x),
    lambda xp, g, _out, x, y: _larger(xp, g, _like(xp, x, g), y),
)
define(
    "copysign",
    lambda xp, g, out, x, _y: xp.where(xp.signbit(_like(xp, x, out)) == xp.signbit(out), g, -g),
    flat,
)
define(
    "nextafter",
    lambda xp, g, _out, _x, _y: g,
    flat,
    passes=True,
)


def _outside(xp: Any, x: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """Return where x lies below its lower bound, and where above its upper one (which wins)."""
    no = xp.zeros_like(x, dtype=xp.bool)
    above = no if high is None else x > high
    below = no if low is None else (x < low) & ~above
    return below, above


def _clip_x(xp: Any, g: Any, _out: Any, x: Any, low: Any, high: Any) -> Any:
    below, above = _outside(xp, x, low, high)
    return xp.where(below | above, xp.zeros_like(g), g)


def _clip_low(xp: Any, g: Any, _out: Any, x: Any, low: Any, high: Any) -> Any:
    return xp.where(_outside(xp, x, low, high)[0], g, xp.zeros_like(g))


def _clip_high(xp: Any, g: Any, _out: Any, x: Any, low: Any, high: Any) -> Any:
    return xp.where(_outside(xp, x, low, high)[1], g, xp.zeros_like(g))


define("clip", _clip_x, _clip_low, _clip_high)
define(
    "where",
    None,
    lambda xp, g, _out, cond, _x, _y: xp.where(cond, g, xp.zeros_like(g)),
    lambda xp, g, _out, cond, _x, _y: xp.where(cond, xp.zeros_like(g), g),
)

# ================================================================ data types, devices
define("astype", lambda xp, g, _out, _x: g, passes=True)
define(
    "to_device",
    lambda xp, g, _out, _x, source, _target: xp.to_device(g, source),
    on_tensors=True,
)

# ================================================================ manipulation
define("reshape", lambda xp, g, _out, _x, _shape: xp.reshape(g, _x.shape), passes=True)
define("broadcast_to", lambda xp, g, _out, _x, _shape: g, passes=True)


def _permute(xp: Any, g: Any, _out: Any, _x: Any, axes: tuple[int, ...]) -> Any:
    n = len(axes)
    places = {a % n: i for i, a in enumerate(axes)}
    return xp.permute_dims(g, tuple(places[i] for i in range(n)))


define("permute_dims", _permute, passes=True)


def _turned(shift: Any) -> Any:
    return tuple(-s for s in shift) if isinstance(shift, (tuple, list)) else -shift


define("roll", lambda xp, g, _out, _x, *, shift, axis: xp.roll(g, _turned(shift), axis=axis))
define("tril", lambda xp, g, _out, _x, *, k: xp.tril(g, k=k))
define("triu", lambda xp, g, _out, _x, *, k: xp.triu(g, k=k))


def _repeat(xp: Any, g: Any, _out: Any, _x: Any, repeats: Any, *, axis: int) -> Any:
    n = _x.shape[axis]
    source = xp.repeat(xp.arange(n, device=g.device), repeats, axis=0)
    return xp.segment_sum(g, source, n, axis=axis)


define("repeat", _repeat)


def _concat(xp: Any, g: Any, _out: Any, _arrays: Any, *, i: int, axis: int) -> Any:
    start = sum(a.shape[axis] for a in _arrays[:i])
    key = (slice(None),) * axis + (slice(start, start + _arrays[i].shape[axis]),)
    return xp.getitem(g, key)


define("concat", each=_concat, passes=True)
define(
    "stack",
    each=lambda xp, g, _out, _arrays, *, i, axis: xp.getitem(g, (slice(None),) * axis + (i,)),
    passes=True,
)

# ================================================================ indexing
define("getitem", lambda xp, g, _out, _x, key: xp.unindex(g, key, _x.shape))
define("unindex", lambda xp, g, _out, _x, key, _shape: xp.getitem(g, key), passes=True)
define(
    "setitem",
    lambda xp, g, _out, _x, _value, where: xp.erase(g, where),
    lambda xp, g, _out, _x, _value, where: xp.locate(g, where),
    on_tensors=True,
    passes=True,
)
define(
    "take",
    lambda xp, g, _out, _x, indices, *, axis: xp.segment_sum(g, indices, _x.shape[axis], axis=axis),
)
define(
    "segment_sum",
    lambda xp, g, _out, _x, indices, _size, *, axis: xp.take(g, indices, axis=axis),
)


def _scatter_lines(xp: Any, g: Any, _out: Any, _x: Any, indices: Any, *, axis: int) -> Any:
    """Add `g` into zeros at `indices` along `axis`: lines laid end to end, then one segment sum."""
    n = _x.shape[axis]
    g, indices = xp.moveaxis(g, axis, -1), xp.moveaxis(indices, axis, -1)
    lead = tuple(g.shape[:-1])
    lines = math.prod(lead)
    starts = xp.reshape(xp.arange(lines, device=g.device) * n, (*lead, 1))
    cells = xp.where(indices < 0, indices + n, indices) + starts
    flat = xp.segment_sum(xp.reshape(g, (-1,)), xp.reshape(cells, (-1,)), lines * n)
    return xp.moveaxis(xp.reshape(flat, (*lead, n)), -1, axis)


define("take_along_axis", _scatter_lines)


def _unsort(
    xp: Any, g: Any, _out: Any, x: Any, *, axis: int, descending: bool, stable: bool
) -> Any:
    order = xp.argsort(x, axis=axis, descending=descending, stable=stable)
    return xp.take_along_axis(g, xp.argsort(order, axis=axis), axis=axis)


define("sort", _unsort)

define(
    "unfold",
    lambda xp, g, _out, _x, sizes, *, stride, dilation: xp.fold(
        g, tuple(_x.shape[-len(sizes) :]), sizes, stride=stride, dilation=dilation
    ),
)
define(
    "fold",
    lambda xp, g, _out, _x, _lengths, sizes, *, stride, dilation: xp.unfold(
        g, sizes, stride=stride, dilation=dilation
    ),
)

# ================================================================ reductions


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def _spread(xp: Any, g: Any, x: Any, axis: Any, *, keepdims: bool) -> Any:
    """Return the result of a reduction with its axes back, repeated to the shape of `x`."""
    if not keepdims:
        axes = _axes(axis, len(x.shape))
        g = xp.reshape(g, tuple(1 if a in axes else n for a, n in enumerate(x.shape)))
    return xp.broadcast_to(g, x.shape)


def _count(x: Any, axis: Any) -> int:
    return math.prod(x.shape[a] for a in _axes(axis, len(x.shape)))


define(
    "sum",
    lambda xp, g, _out, _x, *, axis, keepdims: _spread(xp, g, _x, axis, keepdims=keepdims),
    passes=True,
)
define(
    "mean",
    lambda xp, g, _out, _x, *, axis, keepdims: _spread(
        xp, g / max(_count(_x, axis), 1), _x, axis, keepdims=keepdims
    ),
    passes=True,
)


def _per_freedom(x: Any, axis: Any, correction: float) -> float:
    """Return one over the degrees of freedom, NaN like the variance where there are none."""
    freedom = _count(x, axis) - correction
    return 1 / freedom if freedom > 0 else math.nan


def _var(
    xp: Any, g: Any, _out: Any, x: Any, *, axis: Any, correction: float, keepdims: bool
) -> Any:
    d = x - xp.mean(x, axis=axis, keepdims=True)
    g = g * (2 * _per_freedom(x, axis, correction))
    return _spread(xp, g, x, axis, keepdims=keepdims) * d


define("var", _var, guard=False)


def _std(xp: Any, g: Any, out: Any, x: Any, *, axis: Any, correction: float, keepdims: bool) -> Any:
    """Return the cotangent, zero where all elements are equal."""
    d = x - xp.mean(x, axis=axis, keepdims=True)
    zero = out == 0
    scale = _per_freedom(x, axis, correction) / xp.where(zero, xp.ones_like(out), out)
    g = xp.where(zero, xp.zeros_like(g), g * scale)
    return _spread(xp, g, x, axis, keepdims=keepdims) * d


define("std", _std)


def _extremum(xp: Any, g: Any, out: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    """Share the cotangent equally among the elements that are the extremum."""
    hit = xp.astype(x == _spread(xp, out, x, axis, keepdims=keepdims), g.dtype)
    share = hit / xp.sum(hit, axis=axis, keepdims=True)
    return _spread(xp, g, x, axis, keepdims=keepdims) * share


define("max", _extremum)
define("min", _extremum)


def _running_product(xp: Any, x: Any) -> Any:
    """Return the product of all elements before each, along the last axis."""
    one = xp.ones_like(xp.getitem(x, (..., slice(0, 1))))
    return xp.concat(
        [one, xp.cumulative_prod(xp.getitem(x, (..., slice(0, -1))), axis=-1)], axis=-1
    )


def _prod(xp: Any, g: Any, _out: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    """Return the product of all the other elements, from the left times from the right: right with zeros."""
    ndim = len(x.shape)
    axes = _axes(axis, ndim)
    if not axes:
        return xp.copy(g)
    rest = tuple(a for a in range(ndim) if a not in axes)
    order = (*rest, *axes)
    moved = xp.permute_dims(x, order)
    lines = xp.reshape(moved, (*(x.shape[a] for a in rest), _count(x, axis)))
    others = (
        lines
        if lines.shape[-1] == 0
        else _running_product(xp, lines)
        * xp.flip(_running_product(xp, xp.flip(lines, axis=-1)), axis=-1)
    )
    back = xp.permute_dims(
        xp.reshape(others, moved.shape), tuple(order.index(a) for a in range(ndim))
    )
    return _spread(xp, g, x, axis, keepdims=keepdims) * c(xp, back)


define("prod", _prod)


def _drop_initial(xp: Any, g: Any, axis: int, *, include_initial: bool) -> Any:
    return xp.getitem(g, (slice(None),) * axis + (slice(1, None),)) if include_initial else g


def _cumulative_sum(
    xp: Any, g: Any, _out: Any, _x: Any, *, axis: int, include_initial: bool
) -> Any:
    g = xp.flip(_drop_initial(xp, g, axis, include_initial=include_initial), axis=axis)
    return xp.flip(xp.cumulative_sum(g, axis=axis), axis=axis)


define("cumulative_sum", _cumulative_sum)


def _cumulative_prod(
    xp: Any, g: Any, _out: Any, x: Any, *, axis: int, include_initial: bool
) -> Any:
    """Return L_i S_i with L_i = prod(x_k, k < i) and S_i = g_i + x_(i+1) S_(i+1), right also with zeros.

    The recurrence is solved by a scan in log2(n) steps over the pairs (a, b) of S_i = b + a S_(i+d).
    """
    g = xp.moveaxis(_drop_initial(xp, g, axis, include_initial=include_initial), axis, -1)
    x = xp.moveaxis(x, axis, -1)
    n = x.shape[-1]
    if n == 0:
        return xp.moveaxis(g, -1, axis)
    zero = xp.zeros_like(xp.getitem(g, (..., slice(0, 1))))
    a, b = xp.concat([c(xp, xp.getitem(x, (..., slice(1, None)))), zero], axis=-1), g
    step = 1
    while step < n:
        pad = xp.zeros_like(xp.getitem(g, (..., slice(0, step))))
        tail = slice(step, None)
        b = b + a * xp.concat([xp.getitem(b, (..., tail)), pad], axis=-1)
        a = a * xp.concat([xp.getitem(a, (..., tail)), pad], axis=-1)
        step *= 2
    return xp.moveaxis(c(xp, _running_product(xp, x)) * b, -1, axis)


define("cumulative_prod", _cumulative_prod)

# ================================================================ linear algebra


def _matmul_left(xp: Any, g: Any, _out: Any, _x: Any, y: Any) -> Any:
    """Return g y^H, of the shape of x or with leading axes that the engine sums away."""
    y = c(xp, y)
    if len(_x.shape) == 1:
        if len(y.shape) == 1:
            return g * y
        return xp.squeeze(xp.matmul(y, xp.expand_dims(g, axis=-1)), axis=-1)
    if len(y.shape) == 1:
        return xp.expand_dims(g, axis=-1) * y
    return xp.matmul(g, xp.matrix_transpose(y))


def _matmul_right(xp: Any, g: Any, _out: Any, x: Any, _y: Any) -> Any:
    """Return x^H g; for one matrix y and many rows x as a single product."""
    x = c(xp, x)
    if len(x.shape) == 1:
        if len(_y.shape) == 1:
            return g * x
        return xp.expand_dims(x, axis=-1) * xp.expand_dims(g, axis=-2)
    if len(_y.shape) == 1:
        return xp.squeeze(xp.matmul(xp.matrix_transpose(x), xp.expand_dims(g, axis=-1)), axis=-1)
    if len(_y.shape) == 2 < len(x.shape):  # noqa: PLR2004 - a matrix
        rows = math.prod(x.shape[:-1])
        x, g = xp.reshape(x, (rows, x.shape[-1])), xp.reshape(g, (rows, g.shape[-1]))
    return xp.matmul(xp.matrix_transpose(x), g)


define("matmul", _matmul_left, _matmul_right)

"""A call or more of every function of the standard, to compare a library with the host's.

A call takes a namespace and a stream of samples and returns what does not depend on conventions that the
standard leaves open, such as the signs of eigenvectors or the order of unique values.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyxp.testing._samples import Samples

__all__ = ["CALLS", "FFT", "LINALG"]

Call = "Callable[[Any, Samples], Any]"


# ---------------------------------------------------------------- elementwise
def _unary(name: str, low: float, high: float, xp: Any, s: Samples) -> Any:
    return getattr(xp, name)(s.real(2, 3, low=low, high=high))


def _binary(name: str, low: float, xp: Any, s: Samples) -> Any:
    f = getattr(xp, name)
    x, y = s.real(2, 3, low=low), s.real(3, low=low)
    return f(x, y), f(x, 1.5), f(1.5, x)


def _integer(name: str, xp: Any, s: Samples) -> Any:
    f = getattr(xp, name)
    return f(s.ints(2, 3), s.ints(3, high=5)), f(s.ints(3, dtype="int32"), 2)


def _logical(name: str, xp: Any, s: Samples) -> Any:
    return getattr(xp, name)(s.bools(2, 3), s.bools(3))


def _complex(name: str, xp: Any, s: Samples) -> Any:
    return getattr(xp, name)(s.complexes(2, 3))


def _complex2(name: str, xp: Any, s: Samples) -> Any:
    return getattr(xp, name)(s.complexes(2, 3), s.complexes(3))


CALLS: dict[str, list[Any]] = {}


def _group(make: Callable[..., Any], names: str, *args: Any) -> None:
    for name in names.split():
        CALLS.setdefault(name, []).append(partial(make, name, *args))


_group(
    _unary, "abs asinh atan ceil cos exp expm1 floor isfinite isinf isnan negative positive", -2, 2
)
_group(_unary, "round sign signbit sin sinh square tan tanh trunc", -2, 2)
_group(_unary, "acos asin atanh log1p", -0.9, 0.9)
_group(_unary, "acosh log log10 log2 reciprocal sqrt", 1.1, 3)
_group(
    _binary, "add atan2 copysign divide floor_divide hypot logaddexp maximum minimum multiply", -2
)
_group(_binary, "equal greater greater_equal less less_equal not_equal remainder subtract", -2)
_group(_binary, "pow", 0.1)
_group(_integer, "add subtract multiply maximum equal bitwise_and bitwise_left_shift bitwise_or")
_group(_integer, "bitwise_right_shift bitwise_xor")
_group(_logical, "logical_and logical_or logical_xor bitwise_and equal")
_group(
    _complex,
    "abs acos acosh asin asinh atan atanh conj cos cosh exp expm1 imag log log10 log1p log2",
)
_group(_complex, "negative real reciprocal sign sin sinh sqrt square tan tanh isfinite")
_group(_complex2, "add divide equal multiply pow subtract")

# ---------------------------------------------------------------- everything else, by chapter


def _unique(xp: Any, s: Samples) -> Any:
    x = s.ints(3, 4, high=4)
    value, index, inverse, count = xp.unique_all(x)
    flat, order = xp.reshape(x, (-1,)), xp.argsort(value)
    back = xp.take(value, xp.reshape(inverse, (-1,)))
    same = xp.all(xp.take(flat, index) == value)
    return xp.take(value, order), xp.take(count, order), xp.reshape(back, x.shape), same


def _counted(xp: Any, s: Samples) -> Any:
    value, count = xp.unique_counts(s.ints(3, 4, high=4))
    order = xp.argsort(value)
    return xp.take(value, order), xp.take(count, order)


def _inverted(xp: Any, s: Samples) -> Any:
    value, inverse = xp.unique_inverse(s.ints(12, high=4))
    return xp.take(value, inverse)


def _reduced(name: str, xp: Any, s: Samples) -> Any:
    f, x = getattr(xp, name), s.real(2, 3, 4)
    return f(x), f(x, axis=1), f(x, axis=(0, -1)), f(x, axis=-1, keepdims=True)


def _accumulated(name: str, xp: Any, s: Samples) -> Any:
    f, x = getattr(xp, name), s.real(2, 3)
    return f(x, axis=1), f(x, axis=0, include_initial=True), f(s.ints(3, dtype="int32"), axis=0)


def _promoted(name: str, xp: Any, s: Samples) -> Any:
    f = getattr(xp, name)
    return f(s.ints(3, dtype="int32")), f(s.ints(3, dtype="int32"), dtype=xp.int32)


_group(_reduced, "max mean min prod std sum var")
_group(_promoted, "prod sum")
_group(_accumulated, "cumulative_prod cumulative_sum")

_OTHERS: dict[str, Any] = {
    # creation; where the device matters, the conformance suite asks again
    "arange": lambda xp, _: (xp.arange(5), xp.arange(1, 7, 2, dtype=xp.int32), xp.arange(3.0, 0.0, -1.0, dtype=xp.float32)),
    "asarray": lambda xp, s: (xp.asarray(s.real(2)), xp.asarray([1, 2], dtype=xp.int64), xp.asarray(True)),  # noqa: FBT003 - the mode is the argument
    "empty": lambda xp, _: tuple(xp.empty((2, 3), dtype=xp.int32).shape),
    "empty_like": lambda xp, s: tuple(xp.empty_like(s.real(2, 0)).shape),
    "eye": lambda xp, _: (xp.eye(2, dtype=xp.float32), xp.eye(2, 3, k=1, dtype=xp.int64)),
    "from_dlpack": lambda xp, s: xp.from_dlpack(s.real(2, 3)),
    "full": lambda xp, _: (xp.full((2,), 7, dtype=xp.int64), xp.full((), 0.5, dtype=xp.float32)),
    "full_like": lambda xp, s: xp.full_like(s.real(2, 3), 4),
    "linspace": lambda xp, _: (xp.linspace(0, 1, 5, dtype=xp.float32), xp.linspace(0, 1, 4, dtype=xp.float32, endpoint=False)),
    "meshgrid": lambda xp, s: (*xp.meshgrid(s.real(2), s.real(3)), *xp.meshgrid(s.real(2), s.real(3), indexing="ij")),
    "ones": lambda xp, _: xp.ones((2, 3), dtype=xp.float32),
    "ones_like": lambda xp, s: xp.ones_like(s.ints(2)),
    "tril": lambda xp, s: (xp.tril(s.real(3, 4)), xp.tril(s.real(2, 3, 3), k=-1)),
    "triu": lambda xp, s: (xp.triu(s.real(3, 4)), xp.triu(s.real(3, 3), k=1)),
    "zeros": lambda xp, _: (xp.zeros((), dtype=xp.float32), xp.zeros((2, 0), dtype=xp.bool)),
    "zeros_like": lambda xp, s: xp.zeros_like(s.real(2), dtype=xp.int32),
    # data types
    "astype": lambda xp, s: (xp.astype(s.real(2), xp.int32), xp.astype(s.bools(3), xp.float32)),
    "can_cast": lambda xp, _: (xp.can_cast(xp.int8, xp.int64), xp.can_cast(xp.float64, xp.float32)),
    "finfo": lambda xp, _: (float(xp.finfo(xp.float32).eps), int(xp.finfo(xp.float32).bits)),
    "iinfo": lambda xp, _: (int(xp.iinfo(xp.int32).max), int(xp.iinfo(xp.int32).min)),
    "isdtype": lambda xp, _: (xp.isdtype(xp.float32, "real floating"), xp.isdtype(xp.int8, ("bool", xp.int16))),
    "result_type": lambda xp, s: (xp.result_type(xp.int32, xp.int64), xp.result_type(s.real(2), 1.0)),
    # elementwise with arguments of their own
    "clip": lambda xp, s: (xp.clip(s.real(5), -1.0, 1.0), xp.clip(s.real(5), 0), xp.clip(s.real(2, 3), max=s.real(3))),
    "bitwise_invert": lambda xp, s: (xp.bitwise_invert(s.ints(3)), xp.bitwise_invert(s.bools(3))),
    "logical_not": lambda xp, s: xp.logical_not(s.bools(2, 3)),
    "nextafter": lambda xp, s: xp.nextafter(s.real(3), s.real(3)),
    # indexing
    "take": lambda xp, s: (xp.take(s.real(4), s.ints(6, high=4)), xp.take(s.real(2, 4, 3), s.ints(2, high=4), axis=1)),
    "take_along_axis": lambda xp, s: (xp.take_along_axis(s.real(2, 3), s.ints(2, 5, high=3)), xp.take_along_axis(s.real(2, 3), s.ints(1, 3, high=2), axis=0)),
    # linear algebra of the main namespace
    "matmul": lambda xp, s: (xp.matmul(s.real(2, 3), s.real(3, 4)), xp.matmul(s.real(3), s.real(3)), xp.matmul(s.real(2, 1, 2, 3), s.real(5, 3, 4)), xp.matmul(s.real(2, 3, 4), s.real(4)), xp.matmul(s.complexes(2, 2), s.complexes(2, 2)), xp.matmul(s.ints(2, 2), s.ints(2, 2))),
    "matrix_transpose": lambda xp, s: xp.matrix_transpose(s.real(2, 3, 4)),
    "tensordot": lambda xp, s: (xp.tensordot(s.real(2, 3), s.real(3, 2), axes=1), xp.tensordot(s.real(2, 3, 4), s.real(4, 3), axes=((1, 2), (1, 0)))),
    "vecdot": lambda xp, s: (xp.vecdot(s.real(2, 3), s.real(3)), xp.vecdot(s.complexes(3, 2), s.complexes(3, 2), axis=-2)),
    # manipulation
    "broadcast_arrays": lambda xp, s: tuple(xp.broadcast_arrays(s.real(2, 1), s.real(3))),
    "broadcast_shapes": lambda xp, _: tuple(xp.broadcast_shapes((2, 1), (3,), ())),
    "broadcast_to": lambda xp, s: xp.broadcast_to(s.real(2, 1), (3, 2, 4)),
    "concat": lambda xp, s: (xp.concat([s.real(2, 3), s.real(1, 3)]), xp.concat((s.real(2, 1), s.real(2, 2)), axis=-1), xp.concat([s.real(2), s.real(2, 2)], axis=None)),
    "expand_dims": lambda xp, s: (xp.expand_dims(s.real(2, 3), axis=1), xp.expand_dims(s.real(2, 3), axis=-1)),
    "flip": lambda xp, s: (xp.flip(s.real(2, 3)), xp.flip(s.real(2, 3), axis=1), xp.flip(s.real(2, 3), axis=(0, -1))),
    "moveaxis": lambda xp, s: (xp.moveaxis(s.real(2, 3, 4), 0, -1), xp.moveaxis(s.real(2, 3, 4), (0, 1), (1, 2))),
    "permute_dims": lambda xp, s: xp.permute_dims(s.real(2, 3, 4), (2, 0, 1)),
    "repeat": lambda xp, s: (xp.repeat(s.real(2, 2), 2), xp.repeat(s.real(2, 3), s.ints(3, high=3), axis=1)),
    "reshape": lambda xp, s: (xp.reshape(s.real(2, 3), (3, -1)), xp.reshape(s.real(2, 3), (6,), copy=True), xp.reshape(s.real(1), ())),
    "roll": lambda xp, s: (xp.roll(s.real(2, 3), 2), xp.roll(s.real(2, 3), (1, -1), axis=(0, 1))),
    "squeeze": lambda xp, s: (xp.squeeze(s.real(1, 3, 1), axis=0), xp.squeeze(s.real(1, 3, 1), axis=(0, -1))),
    "stack": lambda xp, s: (xp.stack([s.real(2), s.real(2)]), xp.stack([s.real(2, 3), s.real(2, 3)], axis=-1)),
    "tile": lambda xp, s: (xp.tile(s.real(2, 3), (2, 1)), xp.tile(s.real(2), (2, 2, 1))),
    "unstack": lambda xp, s: (tuple(xp.unstack(s.real(2, 3))), tuple(xp.unstack(s.real(2, 3), axis=-1))),
    # searching and sets
    "argmax": lambda xp, s: (xp.argmax(s.real(2, 3)), xp.argmax(s.real(2, 3), axis=-1), xp.argmax(s.real(2, 3), axis=0, keepdims=True)),
    "argmin": lambda xp, s: (xp.argmin(s.real(2, 3)), xp.argmin(s.real(2, 3), axis=-1)),
    "count_nonzero": lambda xp, s: (xp.count_nonzero(s.ints(2, 3, high=2)), xp.count_nonzero(s.ints(2, 3, high=2), axis=1, keepdims=True)),
    "nonzero": lambda xp, s: tuple(xp.nonzero(s.ints(3, 4, high=2))),
    "searchsorted": lambda xp, s: (xp.searchsorted(xp.sort(s.real(5)), s.real(2, 3)), xp.searchsorted(xp.sort(s.ints(5)), s.ints(4), side="right")),
    "where": lambda xp, s: (xp.where(s.bools(2, 3), s.real(2, 3), s.real(3)), xp.where(s.bools(3), s.real(3), 0.0), xp.where(s.bools(3), 1.0, s.real(3))),
    "isin": lambda xp, s: (xp.isin(s.ints(2, 3), s.ints(4)), xp.isin(s.ints(5), s.ints(4), invert=True)),
    "unique_all": _unique,
    "unique_counts": _counted,
    "unique_inverse": _inverted,
    "unique_values": lambda xp, s: xp.sort(xp.unique_values(s.ints(3, 4, high=4))),
    # sorting and utilities
    "argsort": lambda xp, s: (xp.argsort(s.real(2, 5)), xp.argsort(s.ints(9, high=3)), xp.argsort(s.real(5, 2), axis=0, descending=True)),
    "sort": lambda xp, s: (xp.sort(s.real(2, 5)), xp.sort(s.real(5, 2), axis=0, descending=True)),
    "all": lambda xp, s: (xp.all(s.bools(2, 3)), xp.all(s.bools(2, 3), axis=1), xp.all(s.ints(3), axis=0, keepdims=True)),
    "any": lambda xp, s: (xp.any(s.bools(2, 3)), xp.any(s.bools(2, 3), axis=(0, 1)), xp.any(s.real(3))),
    "diff": lambda xp, s: (xp.diff(s.real(2, 5)), xp.diff(s.real(5, 2), axis=0, n=2), xp.diff(s.real(3), prepend=s.real(1))),
}  # fmt: skip
for _name, _call in _OTHERS.items():
    CALLS.setdefault(_name, []).append(_call)


# ---------------------------------------------------------------- extensions
def _definite(xp: Any, s: Samples) -> Any:
    x = s.real(2, 3, 3)
    return xp.matmul(x, xp.matrix_transpose(x)) + s.array([[2.0, 0, 0], [0, 2, 0], [0, 0, 2]])


def _from_eigenvectors(xp: Any, s: Samples) -> Any:
    x = _definite(xp, s)
    value, vector = xp.linalg.eigh(x)
    product = xp.matmul(vector * xp.expand_dims(value, axis=-2), xp.matrix_transpose(vector))
    return value, product


def _general_eigenvectors(xp: Any, s: Samples) -> Any:
    x = _definite(xp, s)
    value, vector = xp.linalg.eig(x)
    residual = xp.matmul(xp.astype(x, vector.dtype), vector) - vector * xp.expand_dims(
        value, axis=-2
    )
    return xp.sort(xp.real(value)), xp.max(xp.abs(residual)) < 1e-4  # noqa: PLR2004 - of order 10


def _from_singular_vectors(xp: Any, s: Samples) -> Any:
    u, value, vh = xp.linalg.svd(s.real(2, 4, 3), full_matrices=False)
    return value, xp.matmul(u * xp.expand_dims(value, axis=-2), vh)


def _qr(xp: Any, s: Samples) -> Any:
    q, r = xp.linalg.qr(s.real(2, 4, 3))
    return xp.matmul(q, r), xp.matmul(xp.matrix_transpose(q), q), xp.abs(r)


LINALG: dict[str, Any] = {
    "cholesky": lambda xp, s: (xp.linalg.cholesky(_definite(xp, s)), xp.linalg.cholesky(_definite(xp, s), upper=True)),
    "cross": lambda xp, s: xp.linalg.cross(s.real(2, 3), s.real(2, 3)),
    "det": lambda xp, s: xp.linalg.det(s.real(2, 3, 3)),
    "diagonal": lambda xp, s: (xp.linalg.diagonal(s.real(2, 3, 4)), xp.linalg.diagonal(s.real(3, 4), offset=1)),
    "eig": _general_eigenvectors,
    "eigh": _from_eigenvectors,
    "eigvals": lambda xp, s: xp.sort(xp.real(xp.linalg.eigvals(_definite(xp, s)))),
    "eigvalsh": lambda xp, s: xp.linalg.eigvalsh(_definite(xp, s)),
    "inv": lambda xp, s: xp.linalg.inv(_definite(xp, s)),
    "matmul": lambda xp, s: xp.linalg.matmul(s.real(2, 3), s.real(3, 4)),
    "matrix_norm": lambda xp, s: (xp.linalg.matrix_norm(s.real(2, 3, 4)), xp.linalg.matrix_norm(s.real(3, 4), ord=2, keepdims=True), xp.linalg.matrix_norm(s.real(3, 4), ord=1)),
    "matrix_power": lambda xp, s: (xp.linalg.matrix_power(s.real(2, 3, 3), 3), xp.linalg.matrix_power(_definite(xp, s), -1)),
    "matrix_rank": lambda xp, s: xp.linalg.matrix_rank(s.real(2, 3, 4)),
    "matrix_transpose": lambda xp, s: xp.linalg.matrix_transpose(s.real(2, 3, 4)),
    "outer": lambda xp, s: xp.linalg.outer(s.real(2), s.real(3)),
    "pinv": lambda xp, s: xp.linalg.pinv(s.real(2, 4, 3)),
    "qr": _qr,
    "slogdet": lambda xp, s: tuple(xp.linalg.slogdet(s.real(2, 3, 3))),
    "solve": lambda xp, s: (xp.linalg.solve(_definite(xp, s), s.real(2, 3, 2)), xp.linalg.solve(_definite(xp, s), s.real(3))),
    "svd": _from_singular_vectors,
    "svdvals": lambda xp, s: xp.linalg.svdvals(s.real(2, 4, 3)),
    "tensordot": lambda xp, s: xp.linalg.tensordot(s.real(2, 3), s.real(3, 2), axes=1),
    "trace": lambda xp, s: (xp.linalg.trace(s.real(2, 3, 4)), xp.linalg.trace(s.real(3, 4), offset=-1)),
    "vecdot": lambda xp, s: xp.linalg.vecdot(s.real(2, 3), s.real(2, 3)),
    "vector_norm": lambda xp, s: (xp.linalg.vector_norm(s.real(2, 3)), xp.linalg.vector_norm(s.real(2, 3), axis=1, ord=1), xp.linalg.vector_norm(s.real(2, 3), axis=0, keepdims=True, ord=xp.inf)),
}  # fmt: skip


def _transform(name: str, xp: Any, s: Samples) -> Any:
    f, x = getattr(xp.fft, name), s.complexes(2, 6)
    return f(x), f(x, n=4, axis=0, norm="ortho")


def _transform_n(name: str, xp: Any, s: Samples) -> Any:
    f, x = getattr(xp.fft, name), s.complexes(2, 3, 4)
    return f(x), f(x, axes=(0, 1), norm="forward")


def _from_real(name: str, xp: Any, s: Samples) -> Any:
    f, x = getattr(xp.fft, name), s.real(2, 6)
    return f(x), f(x, n=5, norm="ortho") if name != "rfftn" else f(x, s=(2, 5), axes=(0, 1))


FFT: dict[str, Any] = {
    **{n: partial(_transform, n) for n in ("fft", "ifft", "irfft", "hfft")},
    **{n: partial(_transform_n, n) for n in ("fftn", "ifftn", "irfftn")},
    **{n: partial(_from_real, n) for n in ("rfft", "ihfft", "rfftn")},
    "fftfreq": lambda xp, s: xp.fft.fftfreq(5, d=0.5, dtype=s.array(0.0).dtype),
    "rfftfreq": lambda xp, s: xp.fft.rfftfreq(5, d=0.5, dtype=s.array(0.0).dtype),
    "fftshift": lambda xp, s: (xp.fft.fftshift(s.real(5)), xp.fft.fftshift(s.real(2, 3), axes=1)),
    "ifftshift": lambda xp, s: (
        xp.fft.ifftshift(s.real(5)),
        xp.fft.ifftshift(s.real(2, 3), axes=(0,)),
    ),
}

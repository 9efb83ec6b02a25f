"""Initial values of parameters.

Each function ending in an underscore writes into a Tensor and returns it. `Linear` weights have the shape
(in, out). Random numbers come from `generator`, by default the one that `tinyxp.manual_seed` starts, and are
the same on every backend.
"""

from __future__ import annotations

import contextvars
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import tinyxp
from tinyxp.nn._parameter import Parameter, adopt
from tinyxp.nn._state import write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyxp._core import Tensor
    from tinyxp.backend import Device
    from tinyxp.dtypes import DTypeLike
    from tinyxp.random import Generator

__all__ = [
    "constant_",
    "is_skipped",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "parameter",
    "skipped",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

_skip: contextvars.ContextVar[bool] = contextvars.ContextVar("tinyxp_skip_init", default=False)


@contextmanager
def skipped() -> Iterator[None]:
    """Leave the parameters of layers made in a ``with`` block without values, to be filled in later.

    Examples
    --------
    >>> from tinyxp import nn
    >>> with nn.init.skipped():
    ...     layer = nn.Linear(2, 3)
    >>> _ = nn.init.zeros_(layer.weight)
    """
    token = _skip.set(True)
    try:
        yield
    finally:
        _skip.reset(token)


def is_skipped() -> bool:
    """Whether parameters are left without values: models that draw them all themselves ask this."""
    return _skip.get()


def parameter(
    shape: tuple[int, ...],
    *,
    value: float = 0.0,
    std: float = 0.0,
    device: Device | str | None = None,
    dtype: DTypeLike | None = None,
) -> Parameter:
    """Return a new Parameter.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    value : float
        Mean of its elements.
    std : float
        Standard deviation of its elements, normally distributed; 0 for a constant.
    device : Device or str, optional
        Where it lives, by default the default device.
    dtype : DTypeLike, optional
        A floating dtype, by default the default one.
    """
    dtype = tinyxp.get_default_dtype() if dtype is None else dtype
    if is_skipped():
        made = tinyxp.empty(shape, dtype=dtype, device=device)
    elif std:
        random = tinyxp.random.default_generator()
        made = random.normal(shape, mean=value, std=std, dtype=dtype, device=device)
    else:
        made = tinyxp.full(shape, value, dtype=dtype, device=device)
    return adopt(made)


def constant_(t: Tensor, value: float) -> Tensor:
    """Fill `t` with `value`."""
    write(t, tinyxp.full(t.shape, value, dtype=t.dtype, device=t.device))
    return t


def zeros_(t: Tensor) -> Tensor:
    """Fill `t` with zeros."""
    return constant_(t, 0.0)


def ones_(t: Tensor) -> Tensor:
    """Fill `t` with ones."""
    return constant_(t, 1.0)


def _random(generator: Generator | None) -> Generator:
    return tinyxp.random.default_generator() if generator is None else generator


def normal_(
    t: Tensor, *, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill `t` with normally distributed numbers."""
    draw = _random(generator).normal
    write(t, draw(tuple(t.shape), mean=mean, std=std, dtype=t.dtype, device=t.device))
    return t


def uniform_(
    t: Tensor, *, low: float = 0.0, high: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill `t` with numbers evenly spread over ``[low, high)``."""
    draw = _random(generator).uniform
    write(t, draw(tuple(t.shape), low=low, high=high, dtype=t.dtype, device=t.device))
    return t


def _fans(t: Tensor) -> tuple[int, int]:
    if t.ndim < 2:  # noqa: PLR2004 - a matrix has two axes
        raise tinyxp.errors.ShapeError(
            f"this initialisation expects a weight of at least 2 axes (in, out); got shape {tuple(t.shape)}"
        )
    return math.prod(t.shape[:-1]), t.shape[-1]


def xavier_uniform_(t: Tensor, *, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with ``uniform(-a, a)``, ``a = gain sqrt(6 / (in + out))`` (Glorot and Bengio, 2010, eq. 16)."""
    a = gain * math.sqrt(6 / sum(_fans(t)))
    return uniform_(t, low=-a, high=a, generator=generator)


def xavier_normal_(t: Tensor, *, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers of deviation ``gain sqrt(2 / (in + out))`` (Glorot and Bengio, 2010)."""
    return normal_(t, std=gain * math.sqrt(2 / sum(_fans(t))), generator=generator)


def kaiming_uniform_(
    t: Tensor, *, gain: float = math.sqrt(2), generator: Generator | None = None
) -> Tensor:
    """Fill with ``uniform(-a, a)``, ``a = gain sqrt(3 / in)`` (He and others, arXiv:1502.01852, eq. 10)."""
    a = gain * math.sqrt(3 / _fans(t)[0])
    return uniform_(t, low=-a, high=a, generator=generator)


def kaiming_normal_(
    t: Tensor, *, gain: float = math.sqrt(2), generator: Generator | None = None
) -> Tensor:
    """Fill with normal numbers of deviation ``gain / sqrt(in)`` (arXiv:1502.01852, eq. 10)."""
    return normal_(t, std=gain / math.sqrt(_fans(t)[0]), generator=generator)

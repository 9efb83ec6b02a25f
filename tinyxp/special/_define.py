"""How the functions of this package are made: promotion, half precision, and documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import dtypes
from tinyxp._core import TENSORS
from tinyxp.ops import _dispatch
from tinyxp.ops._data_types import astype
from tinyxp.ops._floating import floating as floating

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tinyxp._core import Tensor

HALF = 2  # bytes

_DOC = """Return {what}, element by element.

Parameters
----------
{parameters}

Returns
-------
Tensor, shape {shape}
    In the floating dtype that the arguments promote to.{notes}

Examples
--------
>>> import tinyxp as xp
>>> round(xp.special.{name}({example}).item(), 4)
{result}
"""


def call(
    name: str,
    args: Sequence[Any],
    forward: Callable[..., Any] | None = None,
    whole: tuple[int, ...] = (),
) -> Tensor:
    """Call a special function on Tensors and numbers, half precision in float32, and record it.

    Parameters
    ----------
    name : str
        Without ``special.``.
    args : sequence of Tensor or number
    forward : callable, optional
        ``forward(xp, *raws)`` computes it; by default the backend's library does.
    whole : tuple of int
        Places of arguments that count something: given as integers, they reach the library as such, since
        the next floating number may be far away.
    """
    tensors = floating(name, args)
    d = dtypes.of(tensors[0]._raw.dtype)
    if d.itemsize == HALF:
        wide = [astype(t, "float32") for t in tensors]
        return astype(call(name, wide, forward), d)
    exact = {i: args[i]._raw for i in whole if _is_integer(args[i])}
    if exact:
        forward = _with(exact, name, forward)
    with tensors[0]._device.backend.quiet():
        out: Tensor = _dispatch.apply(f"special.{name}", tensors, forward=forward)
    return out


def _is_integer(a: Any) -> bool:
    return type(a) in TENSORS and dtypes.of(a._raw.dtype).kind in "iu"


def _with(
    exact: dict[int, Any], name: str, forward: Callable[..., Any] | None
) -> Callable[..., Any]:
    """Return a forward that takes the arrays of `exact` in place of the floating ones."""

    def exactly(xp: Any, *raws: Any) -> Any:
        chosen = [exact.get(i, raw) for i, raw in enumerate(raws)]
        return getattr(xp.special, name)(*chosen) if forward is None else forward(xp, *chosen)

    return exactly


def _unary(name: str, forward: Any, whole: Any) -> Callable[[Any], Tensor]:
    def function(x: Any, /) -> Tensor:
        return call(name, (x,), forward, whole)

    return function


def _binary(name: str, forward: Any, whole: Any) -> Callable[[Any, Any], Tensor]:
    def function(x: Any, y: Any, /) -> Tensor:
        return call(name, (x, y), forward, whole)

    return function


def _ternary(name: str, forward: Any, whole: Any) -> Callable[[Any, Any, Any], Tensor]:
    def function(x: Any, y: Any, z: Any, /) -> Tensor:
        return call(name, (x, y, z), forward, whole)

    return function


def _quaternary(name: str, forward: Any, whole: Any) -> Callable[[Any, Any, Any, Any], Tensor]:
    def function(x: Any, y: Any, z: Any, t: Any, /) -> Tensor:
        return call(name, (x, y, z, t), forward, whole)

    return function


_MAKERS: tuple[Callable[[str, Any, Any], Any], ...] = (_unary, _binary, _ternary, _quaternary)


def make(
    name: str,
    arguments: str,
    what: str,
    example: str,
    result: float,
    *,
    fixed: str = "",
    whole: str = "",
    forward: Callable[..., Any] | None = None,
) -> Any:
    """Make a special function.

    Parameters
    ----------
    name : str
        SciPy's name, and without ``special.`` the table's.
    arguments : str
        Their names, separated by spaces.
    what : str
        What it computes.
    example, result : str, float
        Arguments of a call, the first of them a Tensor, and the result to four places.
    fixed : str
        The arguments with respect to which it has no closed derivative.
    whole : str
        The arguments that are whole numbers.
    forward : callable, optional
        As for `call`.
    """
    names = arguments.split()
    places = tuple(names.index(n) for n in whole.split())
    function = _MAKERS[len(names) - 1](name, forward, places)
    document(function, name, arguments, what, example, result=result, fixed=fixed)
    return function


def document(
    function: Any,
    name: str,
    arguments: str,
    what: str,
    example: str,
    *,
    result: float,
    fixed: str = "",
) -> None:
    """Give a function its name and docstring; the parameters are those of `make`."""
    names = arguments.split()
    parameters = (
        f"{', '.join(names)} : Tensor{' or number' * (len(names) > 1)}, shape (...)\n    Real"
    )
    parameters += ", of shapes that broadcast." if len(names) > 1 else "."
    notes = ""
    if fixed:
        notes = (
            f"\n\nRaises\n------\nNotDifferentiableError\n    When the gradient with respect to "
            f"{' or '.join(fixed.split())} is asked for: it has no closed form."
        )
    shape = "(...)" if len(names) == 1 else "of the arguments broadcast"
    function.__name__ = function.__qualname__ = name
    function.__module__ = "tinyxp.special"
    function.__doc__ = _DOC.format(
        what=what,
        parameters=parameters,
        shape=shape,
        notes=notes,
        name=name,
        example=example,
        result=result,
    )

"""Whether the current thread records operations, and whether it looks for NaN gradients."""

from __future__ import annotations

from contextlib import ContextDecorator
from copy import copy
from typing import TYPE_CHECKING, ClassVar

from tinyxp._core import MODE

if TYPE_CHECKING:
    from types import TracebackType

    from tinyxp._core import Node


class _Switch(ContextDecorator):
    """Sets one field of `MODE` in a ``with`` block or a decorated function."""

    field: ClassVar[str]

    def __init__(self, enabled: bool) -> None:  # noqa: FBT001 - the mode is the argument
        self.enabled = enabled
        self._before: list[bool] = []

    def _recreate_cm(self) -> _Switch:
        """Return the context for one call of a decorated function, which several threads may call at once."""
        again = copy(self)
        again._before = []
        return again

    def __enter__(self) -> None:
        self._before.append(getattr(MODE, self.field))
        setattr(MODE, self.field, self.enabled)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        setattr(
            MODE, self.field, self._before[-1]
        )  # first of all: Ctrl-C may come between two steps
        del self._before[-1]


class set_grad_enabled(_Switch):  # noqa: N801 - used like a function
    """Record operations, or do not: in a ``with`` block or a decorated function.

    Parameters
    ----------
    enabled : bool

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.Tensor([1.0], requires_grad=True)
    >>> with set_grad_enabled(False):
    ...     (2 * x).requires_grad
    False
    """

    field = "grad"


class no_grad(set_grad_enabled):  # noqa: N801 - used like a function
    """Do not record operations in a ``with`` block or a decorated function.

    Examples
    --------
    >>> import tinyxp as xp
    >>> x = xp.Tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (2 * x).requires_grad
    False
    """

    def __init__(self) -> None:
        super().__init__(False)  # noqa: FBT003 - the mode is the argument


class inference_mode(no_grad):  # noqa: N801 - used like a function
    """The same as `no_grad`, under the name that says what for.

    Examples
    --------
    >>> import tinyxp as xp
    >>> with inference_mode():
    ...     is_grad_enabled()
    False
    """


class enable_grad(set_grad_enabled):  # noqa: N801 - used like a function
    """Record operations in a ``with`` block or a decorated function, also inside `no_grad`.

    Examples
    --------
    >>> with no_grad(), enable_grad():
    ...     is_grad_enabled()
    True
    """

    def __init__(self) -> None:
        super().__init__(True)  # noqa: FBT003 - the mode is the argument


class use_fused(_Switch):  # noqa: N801 - used like a function
    """Use the backend's own kernels for fused operations, or do not, in a ``with`` block or a function.

    Without them every fused operation is computed with the library's functions, its default. The environment
    variable ``TINYXP_FUSED=0`` switches them off from the start. A graph is differentiated as it was recorded.

    Parameters
    ----------
    enabled : bool

    Examples
    --------
    >>> import tinyxp as xp
    >>> with use_fused(False):
    ...     xp.nn.functional.gelu(xp.asarray([0.0])).tolist()
    [0.0]
    """

    field = "fused"


def is_grad_enabled() -> bool:
    """Whether the current thread records operations.

    Examples
    --------
    >>> is_grad_enabled()
    True
    """
    return MODE.grad


def set_detect_anomaly(enabled: bool) -> None:  # noqa: FBT001 - the mode is the argument
    """Look for NaN gradients, and say where the operation that gave one was recorded (slow).

    Examples
    --------
    >>> set_detect_anomaly(True)
    >>> set_detect_anomaly(False)
    """
    MODE.watch = _trace if enabled else None


def _trace(node: Node) -> None:
    import traceback

    node.extra = {"trace": traceback.format_stack()[:-3]}

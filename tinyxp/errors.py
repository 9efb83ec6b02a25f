"""Every exception that tinyxp raises on purpose.

::

    TinyxpError
    ├── ShapeError(ValueError)               shapes that do not fit together
    ├── DTypeError(TypeError)                a dtype that the operation does not take
    ├── DomainError(ValueError)              a number that the function is not defined for
    ├── GraphError(RuntimeError)             misuse of the recorded graph
    ├── GradientRequiredError(TypeError)     a gradient would be lost without a word
    ├── UnknownBackendError(LookupError)     a name that no installed backend carries
    ├── DeviceUnavailableError(RuntimeError) a device that is not there, why, and what to type
    ├── DeviceMismatchError(RuntimeError)    two devices in one operation
    ├── DeviceOutOfMemoryError(MemoryError)  a device whose memory is used up
    ├── DataError(ValueError)                text or tokens that cannot be trained on
    ├── CaptureError(RuntimeError)           a step that no graph of launches can repeat
    ├── CheckpointError(ValueError)          files that do not fit the model they are loaded into
    └── NotDifferentiableError(RuntimeError) a derivative that does not exist or is not known

Each is also the builtin that a user would catch.
"""

from __future__ import annotations

__all__ = [
    "CaptureError",
    "CheckpointError",
    "DTypeError",
    "DataError",
    "DeviceMismatchError",
    "DeviceOutOfMemoryError",
    "DeviceUnavailableError",
    "DomainError",
    "GradientRequiredError",
    "GraphError",
    "NotDifferentiableError",
    "ShapeError",
    "TinyxpError",
    "UnknownBackendError",
]


class TinyxpError(Exception):
    """The root of the tree: ``except TinyxpError`` catches all of it."""


class ShapeError(TinyxpError, ValueError):
    """Shapes that do not fit together."""


class DTypeError(TinyxpError, TypeError):
    """A dtype that the operation does not take."""


class DomainError(TinyxpError, ValueError):
    """A number that the function is not defined for."""


class GraphError(TinyxpError, RuntimeError):
    """Misuse of the recorded graph, such as a second backward through freed nodes."""


class GradientRequiredError(TinyxpError, TypeError):
    """A conversion that would lose a gradient without a word."""


class UnknownBackendError(TinyxpError, LookupError):
    """A backend name that nothing installed carries."""


class DeviceUnavailableError(TinyxpError, RuntimeError):
    """A device that is not there; the message says what is missing and what to type."""


class DeviceMismatchError(TinyxpError, RuntimeError):
    """Arrays of two devices in one operation."""


class DeviceOutOfMemoryError(TinyxpError, MemoryError):
    """A device whose memory is used up; the message says what was asked, held and free.

    Attributes
    ----------
    figures : dict of str to int
        Bytes: ``"asked"``, ``"used"`` by arrays, ``"held"`` in all, ``"free"`` and ``"total"``; those that
        are known.
    """

    def __init__(self, message: str = "", figures: dict[str, int] | None = None) -> None:
        super().__init__(message)
        self.figures = figures or {}


class CaptureError(TinyxpError, RuntimeError):
    """A step that no graph of launches can repeat, such as one that reads from the device."""


class DataError(TinyxpError, ValueError):
    """Text or tokens that cannot be trained on."""


class CheckpointError(TinyxpError, ValueError):
    """Files that do not fit the model they are loaded into."""


class NotDifferentiableError(TinyxpError, RuntimeError):
    """A derivative that does not exist or is not known."""


# ---------------------------------------------------------------- teaching messages
# Wrong code, the reason, right code. Tests hold the text.

BACKWARD_TWICE = """\
backward() reached nodes whose saved arrays are freed: this graph was already used.

    loss = model(x).sum()
    loss.backward()
    loss.backward()                      # wrong: the first call freed what the second needs

Each backward() frees the graph as it goes, so that memory falls at once. Compute the loss again,
or keep the graph for another pass:

    loss.backward(retain_graph=True)     # right: the graph stays
    loss.backward()"""

SAVED_MODIFIED = """\
backward() needs a value that was overwritten in place after it was used ({what}).

    loss = model(x).sum()
    optimizer.step()                     # wrong: writes the parameters that loss was computed from
    loss.backward()

Parameters are written in place, without a copy, so call backward() before the step:

    loss = model(x).sum()
    loss.backward()                      # right
    optimizer.step()"""

LEAF_WRITE = """\
{operation} writes in place into a leaf that requires grad; its gradient would have no meaning.

    w = tinyxp.Tensor([1.0, 2.0], requires_grad=True)
    w[0] = 0.0                           # wrong

Write outside the graph, or write into a copy:

    with tinyxp.no_grad():
        w[0] = 0.0                       # right: w is a new starting point
    v = +w
    v[0] = 0.0                           # right: v is part of the graph"""

MIXED_DEVICES = """\
{operation} got arrays on {devices}; nothing moves between devices by itself.

    x = tinyxp.ones((2, 3), device={first!r})
    y = tinyxp.ones((2, 3), device={second!r})
    x + y                                # wrong
    x + y.to(x.device)                   # right{hint}"""

CONVERSION_LOSES_GRAD = """\
{operation} would drop the gradient of a Tensor that requires grad.

    {wrong:<36} # wrong: the result would not be part of the graph
    {right:<36} # right: says that the gradient ends here"""

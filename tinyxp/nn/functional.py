"""The operations of layers as functions of Tensors.

Those that a backend can do in one go (`linear`, `gelu`, `softmax`, `layer_norm`, attention …) are one node
of the graph each. Names are PyTorch's, the axis is called `axis`, and `linear` takes a weight of shape
(in, out).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import tinyxp
from tinyxp._core import CASTING
from tinyxp._fused import GELU_FORMS
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.nn._masks import scaled_dot_product_attention
from tinyxp.nn._promotion import expect_tensors, floating, promoted
from tinyxp.ops import fused
from tinyxp.ops._autocast import widened

if TYPE_CHECKING:
    from tinyxp._core import Tensor
    from tinyxp.random import Generator

__all__ = [
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "layer_norm",
    "linear",
    "log_softmax",
    "mse_loss",
    "relu",
    "rms_norm",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
]


# ---------------------------------------------------------------- layers
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``x @ weight + bias``.

    Parameters
    ----------
    x : Tensor, shape (…, in)
    weight : Tensor, shape (in, out)
    bias : Tensor, shape (out,), optional

    Returns
    -------
    Tensor, shape (…, out)

    Examples
    --------
    >>> import tinyxp
    >>> linear(tinyxp.ones((2, 3)), tinyxp.ones((3, 4))).shape
    (2, 4)
    """
    expect_tensors("linear", x, weight, bias)
    if x.ndim == 0 or x.shape[-1] != weight.shape[0]:
        raise ShapeError(
            f"linear expects the last axis of x to be {weight.shape[0]}, as the weight has shape "
            f"(in, out) = {tuple(weight.shape)}; got x of shape {tuple(x.shape)}"
        )
    return fused.linear(*promoted("linear", x, weight, bias))


def embedding(indices: Tensor, weight: Tensor) -> Tensor:
    """Look up rows of a table.

    Parameters
    ----------
    indices : Tensor of integers, shape (…)
        Row numbers in ``[0, size)``.
    weight : Tensor, shape (size, dim)

    Returns
    -------
    Tensor, shape (…, dim)

    Raises
    ------
    DTypeError
        If `indices` are not integers.
    IndexError
        If one is out of range. A GPU does not wait for this: there such rows are NaN.
    """
    return fused.embedding(_integers("embedding", "token ids", indices), weight)


def _integers(name: str, what: str, indices: Tensor) -> Tensor:
    d = indices.dtype
    if d.kind not in "iu":
        raise DTypeError(
            f"{name} expects integer {what}; got {d}; keep them integers, for a float cannot hold every id: "
            "indices.to('int64')"
        )
    return indices if d.name in ("int32", "int64") else indices.to("int64")


def dropout(
    x: Tensor, p: float = 0.5, *, training: bool = True, generator: Generator | None = None
) -> Tensor:
    """Set elements to 0 with probability `p` and divide the others by ``1 - p``.

    Parameters
    ----------
    x : Tensor, shape (…)
    p : float
        Probability of 0, in [0, 1].
    training : bool
        Return `x` as it is if False.
    generator : Generator, optional
        Gives the key of the mask, by default the generator that `tinyxp.manual_seed` starts.

    Returns
    -------
    Tensor, shape (…)

    Notes
    -----
    Srivastava and others, "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15
    (2014). The mask is a function of the key and the shape, the same on every backend.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout expects a probability p in [0, 1]; got {p}")
    if not training or p == 0:
        return x
    random = tinyxp.random.default_generator() if generator is None else generator
    return fused.dropout(floating("dropout", x), random._key_on(x._device), p=float(p))


# ---------------------------------------------------------------- activations
def relu(x: Tensor) -> Tensor:
    """Compute ``max(x, 0)``; the derivative at 0 is 0, and NaN stays NaN."""
    return tinyxp.where(x <= 0, 0, x)


def sigmoid(x: Tensor) -> Tensor:
    """Compute ``1 / (1 + exp(-x))``, without overflow."""
    y: Tensor = 0.5 + 0.5 * tinyxp.tanh(0.5 * x)
    return y


def tanh(x: Tensor) -> Tensor:
    """Compute the hyperbolic tangent."""
    y: Tensor = tinyxp.tanh(x)
    return y


def silu(x: Tensor) -> Tensor:
    """Compute ``x * sigmoid(x)``, also known as swish (arXiv:1710.05941)."""
    return fused.silu(floating("silu", x))


def gelu(x: Tensor, *, approximate: str = "tanh") -> Tensor:
    """Compute the Gaussian error linear unit (Hendrycks and Gimpel, arXiv:1606.08415).

    Parameters
    ----------
    x : Tensor, shape (…)
    approximate : {"tanh", "none", "sigmoid"}
        ``"none"``: x times the normal distribution function. ``"tanh"``: its approximation by tanh, as in
        GPT-2. ``"sigmoid"``: ``x * sigmoid(1.702 x)``.

    Examples
    --------
    >>> import tinyxp
    >>> round(gelu(tinyxp.asarray(1.0), approximate="none").item(), 4)
    0.8413
    """
    if approximate not in GELU_FORMS:
        raise ValueError(
            f"gelu expects approximate to be one of {', '.join(map(repr, GELU_FORMS))}; got {approximate!r}"
        )
    return fused.gelu(floating("gelu", x), approximate=approximate)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Compute ``exp(x) / sum(exp(x))`` along `axis`."""
    return fused.softmax(floating("softmax", x), axis=_axis("softmax", x, axis))


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Compute the logarithm of the softmax along `axis`."""
    return fused.log_softmax(floating("log_softmax", x), axis=_axis("log_softmax", x, axis))


def _axis(name: str, x: Tensor, axis: int) -> int:
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"{name} got axis={axis} for x of shape {tuple(x.shape)}")
    return axis


# ---------------------------------------------------------------- normalisation
def layer_norm(
    x: Tensor, gamma: Tensor, beta: Tensor | None = None, *, eps: float = 1e-5
) -> Tensor:
    """Normalise over the last axes to mean 0 and variance 1, scale and shift.

    Parameters
    ----------
    x : Tensor, shape (…, *normalized)
    gamma, beta : Tensor, shape (*normalized)
        Their shape says which axes are normalised over; `beta` may be missing.
    eps : float
        Added to the variance.

    Returns
    -------
    Tensor, shape (…, *normalized)

    Notes
    -----
    Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450.
    """
    expect_tensors("layer_norm", x, gamma, beta)
    _check_tail("layer_norm", x, gamma)
    if beta is not None and tuple(beta.shape) != tuple(gamma.shape):
        raise ShapeError(
            f"layer_norm expects beta of the shape of gamma, {tuple(gamma.shape)}; got {tuple(beta.shape)}"
        )
    return fused.layer_norm(*promoted("layer_norm", x, gamma, beta), eps=eps)


def rms_norm(x: Tensor, gamma: Tensor, *, eps: float = 1e-5) -> Tensor:
    """Divide by the root mean square over the last axes, and scale.

    Parameters
    ----------
    x : Tensor, shape (…, *normalized)
    gamma : Tensor, shape (*normalized)
    eps : float
        Added to the mean square.

    Returns
    -------
    Tensor, shape (…, *normalized)

    Notes
    -----
    Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv:1910.07467.
    """
    expect_tensors("rms_norm", x, gamma)
    _check_tail("rms_norm", x, gamma)
    return fused.rms_norm(*promoted("rms_norm", x, gamma), eps=eps)


def _check_tail(name: str, x: Tensor, gamma: Tensor) -> None:
    tail = tuple(gamma.shape)
    if not tail or tuple(x.shape[-len(tail) :]) != tail:
        raise ShapeError(
            f"{name} expects x to end in the shape of gamma, {tail}; got x of shape {tuple(x.shape)}"
        )


# ---------------------------------------------------------------- losses
def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Compute ``-log softmax(logits)[target]`` in nats.

    Parameters
    ----------
    logits : Tensor, shape (…, C)
        Unnormalised log probabilities; the classes are the last axis.
    targets : Tensor of integers, shape (…)
        Classes in ``[0, C)``, or `ignore_index`.
    ignore_index : int
        Target that does not count, not even in the mean's denominator.
    label_smoothing : float
        Share of the target probability spread over all classes, in [0, 1] (arXiv:1512.00567, section 7).
    reduction : {"mean", "sum", "none"}
        ``"mean"`` over the targets that count, and 0 if there are none.

    Returns
    -------
    Tensor, shape () or that of `targets`

    Raises
    ------
    IndexError
        If a target is out of range. A GPU does not wait for this.

    Examples
    --------
    >>> import tinyxp
    >>> loss = cross_entropy(tinyxp.zeros((5, 4)), tinyxp.zeros(5, dtype="int64"))
    >>> abs(loss.item() - tinyxp.log(tinyxp.asarray(4.0)).item()) < 1e-6
    True
    """
    _check_classes(logits, targets, label_smoothing)
    options: dict[str, Any] = {"ignore_index": ignore_index, "label_smoothing": label_smoothing}
    targets = _integers("cross_entropy", "targets", targets)
    flat = tinyxp.reshape(floating("cross_entropy", logits), (-1, logits.shape[-1]))
    classes = tinyxp.reshape(targets, (-1,))
    if reduction == "mean":
        return fused.cross_entropy(flat, classes, **options)
    return _unreduced(flat, classes, tuple(targets.shape), reduction, **options)


def _check_classes(logits: Tensor, targets: Tensor, label_smoothing: float) -> None:
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy expects label_smoothing in [0, 1]; got {label_smoothing}")
    if logits.ndim == 0 or tuple(logits.shape[:-1]) != tuple(targets.shape):
        raise ShapeError(
            "cross_entropy expects logits (…, classes) and targets (…), one class for each row; got "
            f"logits of shape {tuple(logits.shape)} and targets of shape {tuple(targets.shape)}"
        )


def _unreduced(
    logits: Tensor,
    targets: Tensor,
    shape: tuple[int, ...],
    reduction: str,
    *,
    ignore_index: int,
    label_smoothing: float,
) -> Tensor:
    keep = targets != ignore_index
    safe = tinyxp.where(keep, targets, 0)
    if logits.dtype.itemsize == 2:  # noqa: PLR2004 - bytes: a loss in half precision would be rounded
        logits = logits.to("float32")
    logp = fused.log_softmax(logits, axis=-1)
    at_target = tinyxp.take_along_axis(logp, tinyxp.expand_dims(safe, axis=1), axis=1)[:, 0]
    loss = -(1 - label_smoothing) * at_target - label_smoothing * tinyxp.mean(logp, axis=1)
    loss = tinyxp.where(keep, loss, 0.0)
    if reduction == "sum":
        return tinyxp.sum(loss)
    if reduction == "none":
        return tinyxp.reshape(loss, shape)
    raise ValueError(f"reduction is 'mean', 'sum' or 'none'; got {reduction!r}")


def mse_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute the mean of the squared differences.

    Parameters
    ----------
    prediction, target : Tensor, shape (…)
        Of one shape: broadcasting here is nearly always a mistake.

    Returns
    -------
    Tensor, shape ()
        In the square of the unit of its arguments.
    """
    expect_tensors("mse_loss", prediction, target)
    if tuple(prediction.shape) != tuple(target.shape):
        raise ShapeError(
            f"mse_loss expects prediction and target of one shape; got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}"
        )
    if CASTING:
        prediction, target = widened(prediction, target)
    difference = prediction - target
    mean: Tensor = tinyxp.sum(difference * difference) / max(math.prod(difference.shape), 1)
    return mean

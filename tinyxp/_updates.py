"""Update steps of the optimizers: part of the third tier of a backend.

Each step takes raw arrays and writes into the parameter and its state in place; it never writes into the
gradient. There is no derivative. `Defaults` is written with the standard's functions and in-place operators;
a backend overrides a step to do it in one pass over the memory, and the conformance suite holds the override
to the default.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tinyxp.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NAMES", "Defaults", "orthogonalized", "unless"]

Array = Any  # an array of the backend's library

NAMES = (
    "adamw_numbers",
    "adamw_step",
    "adamw_steps",
    "adamw_steps_unless",
    "lion_step",
    "muon_step",
    "norm_and_factor",
    "scale_all",
    "sgd_step",
    "sum_of_squares",
)
FOR_REPLAY = {"adamw_numbers"}  # which mean something to recorded launches only


class Defaults:
    """Array-API definitions of the update steps, which a backend inherits and may override."""

    if TYPE_CHECKING:

        @property
        def xp(self) -> Any:
            """The backend's extended namespace."""

    def sgd_step(
        self,
        p: Array,
        g: Array,
        buffer: Array | None,
        *,
        lr: float,
        momentum: float,
        dampening: float,
        nesterov: bool,
        weight_decay: float,
        maximize: bool,
    ) -> None:
        """Go one step of gradient descent, with momentum if there is a `buffer`.

        I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and momentum in
        deep learning", 2013, in PyTorch's form: the learning rate stands outside of the velocity.

        Parameters
        ----------
        p, g : arrays of one shape
            Parameter (written) and gradient (read).
        buffer : array of that shape or None
            Velocity (written).
        lr, momentum, dampening, weight_decay : float
            ``d = g + weight_decay p``, ``buffer = momentum buffer + (1 - dampening) d``,
            ``p = p - lr buffer``.
        nesterov : bool
            Step along ``d + momentum buffer`` instead of ``buffer``.
        maximize : bool
            Climb instead: take ``-g`` for ``g``.
        """
        d = _direction(p, g, weight_decay, maximize=maximize)
        if buffer is not None:
            buffer *= momentum
            buffer += d * (1.0 - dampening) if dampening else d
            d = buffer * momentum + d if nesterov else buffer
        p -= d * lr

    def adamw_step(
        self,
        p: Array,
        g: Array,
        mean: Array,
        square: Array,
        largest: Array | None,
        *,
        step: int,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decoupled: bool,
        maximize: bool,
    ) -> None:
        """Go one step of AdamW, or of Adam where the decay is not `decoupled`.

        D. P. Kingma and J. Ba, "Adam", 2015, algorithm 1; I. Loshchilov and F. Hutter, "Decoupled weight
        decay regularization", 2019, algorithm 2; S. J. Reddi, S. Kale, S. Kumar, "On the convergence of
        Adam and beyond", 2018, for `largest`.

        Parameters
        ----------
        p, g : arrays of one shape
            Parameter (written) and gradient (read).
        mean, square : arrays of that shape
            Running means of the gradient and of its square (written).
        largest : array of that shape or None
            Largest `square` so far (written): AMSGrad.
        step : int
            Number of this step, the first being 1.
        lr, eps, weight_decay : float
            Learning rate, constant added to the root, decay.
        betas : tuple of two float
            Decay rates of `mean` and `square`.
        decoupled : bool
            Shrink the parameter by ``lr weight_decay`` of itself, instead of adding ``weight_decay p`` to
            the gradient.
        maximize : bool
            Climb instead: take ``-g`` for ``g``.
        """
        xp, (beta1, beta2) = self.xp, betas
        if decoupled:
            if weight_decay:
                p *= 1.0 - lr * weight_decay
            weight_decay = 0.0
        g = _direction(p, g, weight_decay, maximize=maximize)
        _lerp(mean, g, 1.0 - beta1)
        square *= beta2
        d = g * g
        d *= 1.0 - beta2
        square += d
        if largest is not None:
            largest[...] = xp.maximum(largest, square)
            square = largest
        # lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps), with the corrections gathered in two numbers
        root = math.sqrt(1.0 - beta2**step)
        d = xp.sqrt(square)
        d += eps * root
        d = mean / d
        d *= lr * root / (1.0 - beta1**step)
        p -= d

    def adamw_steps(
        self,
        ps: list[Array],
        gs: list[Array],
        means: list[Array],
        squares: list[Array],
        largests: list[Array] | None,
        *,
        memo: dict[str, Any],  # noqa: ARG002 - for backends that prepare something
        masters: list[Array] | None = None,
        **options: Any,
    ) -> None:
        """Go one `adamw_step` with many parameters.

        Parameters
        ----------
        ps, gs, means, squares : lists of arrays, of one length
        largests : list of arrays or None
            See `adamw_step`.
        memo : dict
            Empty at first and then given again with the same parameters, for the backend to keep what it
            need not find out in every step. Its entry ``"captured"`` is true while launches are recorded:
            step and learning rate are then to be read, in every replay, from where `adamw_numbers` writes
            them.
        masters : list of arrays or None
            The parameters in float32, where `ps` are in half precision: the step is made with them, in float32,
            and each parameter becomes its master rounded.
        **options
            Those of `adamw_step`.
        """
        many = [None] * len(ps) if largests is None else largests
        for i, state in enumerate(zip(means, squares, many, strict=True)):
            if masters is None:
                self.adamw_step(ps[i], gs[i], *state, **options)
            else:
                xp, p, master = self.xp, ps[i], masters[i]
                self.adamw_step(master, xp.astype(gs[i], master.dtype), *state, **options)
                xp.setitem(p, ..., xp.astype(master, p.dtype))

    def adamw_steps_unless(self, skip: Array, *lists: Any, **options: Any) -> None:
        """Do what `adamw_steps` does, or nothing if the 0-d bool array `skip` is true, without reading it.

        Parameters
        ----------
        skip : array of bool, shape ()
        *lists, **options
            Those of `adamw_steps`.
        """
        ps, _, *state = lists
        more = options.get("masters")
        with unless(self.xp, skip, [x for part in (ps, *state, more) for x in part or ()]):
            self.adamw_steps(*lists, **options)

    def adamw_numbers(self, *, memo: dict[str, Any], **options: Any) -> None:  # noqa: ARG002 - for backends that record launches
        """Give the device the numbers of the next replay of an `adamw_steps` that was recorded with `memo`.

        Parameters
        ----------
        memo : dict
            What `adamw_steps` was given.
        **options
            Those of `adamw_step`.
        """
        raise CaptureError("this backend records no steps of AdamW")

    def norm_and_factor(
        self, arrays: list[Array], dtype: Any, most: float, /
    ) -> tuple[Array, Array]:
        """Return the common Euclidean norm of real `arrays` and the factor that brings it down to `most`.

        Parameters
        ----------
        arrays : list of arrays
            At least one.
        dtype : dtype
            Of the results, which are 0-d arrays.
        most : float
            Largest norm to keep; the factor is ``min(1, most / (norm + 1e-6))``.
        """
        norm = self.sum_of_squares(arrays, dtype) ** 0.5
        return norm, self.xp.clip(most / (norm + 1e-6), max=1.0)

    def sum_of_squares(self, arrays: list[Array], dtype: Any, /) -> Array:
        """Return the sum of the squares of all elements of real `arrays`, at least one, as a 0-d array."""
        xp = self.xp
        flat = (xp.astype(xp.reshape(x, (-1,)), dtype, copy=False) for x in arrays)
        return xp.sum(xp.stack([xp.vecdot(x, x) for x in flat]))

    def scale_all(self, arrays: list[Array], factor: Array, /) -> None:
        """Multiply all `arrays` by the 0-d array `factor`, in place."""
        for x in arrays:
            x *= self.xp.astype(factor, x.dtype, copy=False)  # noqa: PLW2901 - in place

    def lion_step(
        self,
        p: Array,
        g: Array,
        mean: Array,
        *,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        maximize: bool,
    ) -> None:
        """Go one step of Lion.

        X. Chen and others, "Symbolic discovery of optimization algorithms", 2023, algorithm 2.

        Parameters
        ----------
        p, g : arrays of one shape
            Parameter (written) and gradient (read).
        mean : array of that shape
            Running mean of the gradient (written).
        lr, weight_decay : float
            Learning rate and decoupled decay.
        betas : tuple of two float
            Decay rates in the step and in `mean`.
        maximize : bool
            Climb instead: take ``-g`` for ``g``.
        """
        if weight_decay:
            p *= 1.0 - lr * weight_decay
        g = _direction(p, g, 0.0, maximize=maximize)
        d = g - mean
        d *= 1.0 - betas[0]
        d += mean
        d = self.xp.sign(d)
        d *= lr
        p -= d
        _lerp(mean, g, 1.0 - betas[1])

    def muon_step(
        self,
        p: Array,
        g: Array,
        mean: Array,
        *,
        lr: float,
        scale: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
        coefficients: tuple[float, float, float],
        steps: int,
        eps: float,
    ) -> None:
        """Go one step of Muon: momentum, made orthogonal.

        K. Jordan and others, "Muon: an optimizer for hidden layers in neural networks", 2024.

        Parameters
        ----------
        p, g : arrays of shape (m, n)
            Parameter (written) and gradient (read).
        mean : array of shape (m, n)
            Running mean of the gradient (written).
        lr, scale, weight_decay : float
            ``p = (1 - lr weight_decay) p - lr scale O``.
        momentum : float
            Decay rate of `mean`.
        nesterov : bool
            Make ``(1 - momentum) g + momentum mean`` orthogonal instead of ``mean``.
        coefficients, steps, eps
            Of `orthogonalized`.
        """
        _lerp(mean, g, 1.0 - momentum)
        d = mean
        if nesterov:
            d = mean - g
            d *= momentum
            d += g
        d = orthogonalized(self.xp, d, coefficients=coefficients, steps=steps, eps=eps)
        if weight_decay:
            p *= 1.0 - lr * weight_decay
        d *= lr * scale
        p -= d


@contextmanager
def unless(xp: Any, skip: Array, arrays: list[Array]) -> Iterator[None]:
    """Undo what the ``with`` block writes into `arrays` if the 0-d bool array `skip` is true."""
    before = [xp.copy(x) for x in arrays]
    yield
    for x, old in zip(arrays, before, strict=True):
        xp.setitem(x, ..., xp.where(skip, old, x))


def _direction(p: Array, g: Array, weight_decay: float, *, maximize: bool) -> Array:
    """Return the gradient of what is minimised, `g` itself where that is it."""
    if weight_decay:
        d = p * weight_decay
        if maximize:
            d -= g
        else:
            d += g
        return d
    return -g if maximize else g


def _lerp(mean: Array, g: Array, weight: float) -> None:
    """Move `mean` in place by `weight` of the way to `g`."""
    d = g - mean
    d *= weight
    mean += d


def orthogonalized(
    xp: Any, x: Array, *, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Array:
    """Return a matrix with the singular vectors of `x` and singular values near 1.

    The Newton-Schulz iteration ``X = a X + (b X Xᵀ + c (X Xᵀ)²) X`` on ``X / |X|``: G. Schulz, 1933, and
    Å. Björck and C. Bowie, 1971, with the coefficients of K. Jordan and others (2024), which lift small
    singular values fast and let all of them end between about 0.7 and 1.2.

    Parameters
    ----------
    xp : namespace
        Namespace of `x`.
    x : array, shape (m, n)
        What to make orthogonal; only read.
    coefficients : tuple of three float
        a, b and c.
    steps : int
        Number of iterations.
    eps : float
        Least norm to divide by.

    Returns
    -------
    array, shape (m, n)
        Written by nobody else.
    """
    a, b, c = coefficients
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    norm = xp.sqrt(xp.sum(x * x))
    x = x / xp.clip(norm, min=eps)
    for _ in range(steps):
        gram = xp.matmul(x, x.T)
        polynomial = xp.matmul(gram, gram)
        polynomial *= c
        polynomial += gram * b
        update = xp.matmul(polynomial, x)
        x *= a
        x += update
    return x.T if tall else x

"""Special functions of Tensors, under SciPy's names, differentiable to any order.

They are computed by the library of the arrays: SciPy for NumPy's and array-api-strict's (the extra
``special``), ``torch.special`` for PyTorch's, and SciPy on the same memory for what that lacks,
``cupyx.scipy.special`` for CuPy's. Those made of logarithms and exponentials, such as `xlogy` and
`logsumexp`, need none.

A derivative with respect to a shape parameter that has no closed form raises `NotDifferentiableError` when it
is asked for. Arguments are real; half precision is computed in float32. SciPy finds this module as
``xp.special`` and so computes, and differentiates, p-values and likelihoods of Tensors.
"""

from __future__ import annotations

from tinyxp.autograd import _rules_special as _rules_special
from tinyxp.special import _bessel, _distributions, _elementary, _error, _gamma, _integrals
from tinyxp.special._bessel import *  # noqa: F403 - a chapter of the namespace
from tinyxp.special._distributions import *  # noqa: F403 - a chapter of the namespace
from tinyxp.special._elementary import *  # noqa: F403 - a chapter of the namespace
from tinyxp.special._error import *  # noqa: F403 - a chapter of the namespace
from tinyxp.special._gamma import *  # noqa: F403 - a chapter of the namespace
from tinyxp.special._integrals import *  # noqa: F403 - a chapter of the namespace

__all__ = sorted(  # noqa: PLE0605 - of the modules above
    {
        name
        for module in (_bessel, _distributions, _elementary, _error, _gamma, _integrals)
        for name in module.__all__
    }
)

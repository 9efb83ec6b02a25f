"""Derivatives of functions: see `tinyxp.autograd._functional`."""

from __future__ import annotations

from tinyxp.autograd._functional import grad as grad
from tinyxp.autograd._functional import hessian as hessian
from tinyxp.autograd._functional import hvp as hvp
from tinyxp.autograd._functional import jacfwd as jacfwd
from tinyxp.autograd._functional import jacrev as jacrev
from tinyxp.autograd._functional import jvp as jvp
from tinyxp.autograd._functional import value_and_grad as value_and_grad
from tinyxp.autograd._functional import vjp as vjp
from tinyxp.autograd._implicit import custom_root as custom_root
from tinyxp.autograd._implicit import root as root
from tinyxp.nn._module import functional_call as functional_call

__all__ = [
    "custom_root",
    "functional_call",
    "grad",
    "hessian",
    "hvp",
    "jacfwd",
    "jacrev",
    "jvp",
    "root",
    "value_and_grad",
    "vjp",
]

"""Differentiation: grad modes, gradients of given inputs, and operations with rules of one's own."""

from __future__ import annotations

from tinyxp.autograd._autocast import autocast as autocast
from tinyxp.autograd._checkpoint import checkpoint as checkpoint
from tinyxp.autograd._function import Function as Function
from tinyxp.autograd._function import defvjp as defvjp
from tinyxp.autograd._modes import enable_grad as enable_grad
from tinyxp.autograd._modes import inference_mode as inference_mode
from tinyxp.autograd._modes import is_grad_enabled as is_grad_enabled
from tinyxp.autograd._modes import no_grad as no_grad
from tinyxp.autograd._modes import set_detect_anomaly as set_detect_anomaly
from tinyxp.autograd._modes import set_grad_enabled as set_grad_enabled
from tinyxp.autograd._modes import use_fused as use_fused
from tinyxp.autograd._reverse import grad as grad

__all__ = [
    "Function",
    "autocast",
    "checkpoint",
    "defvjp",
    "enable_grad",
    "grad",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
    "use_fused",
]

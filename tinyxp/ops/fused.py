"""The operations of a backend's third tier as differentiable functions on Tensors.

Each takes the arguments of its definition in `tinyxp._fused`, without the namespace in front.
"""

from __future__ import annotations

from tinyxp import _fused
from tinyxp.ops._dispatch import fused

__all__ = [*_fused.OPERATIONS]  # noqa: PLE0604 - one function for each name

globals().update({name: fused(name) for name in _fused.OPERATIONS})

"""A differentiable Array API namespace: deep learning on plain arrays.

``import tinyxp as xp`` is the namespace of the Python Array API standard over NumPy, CuPy, array-api-strict
and PyTorch arrays, with gradients; `tinyxp.nn`, `tinyxp.optim` and `tinyxp.GPT` stand on it.
"""

from __future__ import annotations

import sys as _sys
from typing import TYPE_CHECKING, Any

from tinyxp import _standard
from tinyxp import errors as errors
from tinyxp._devices import empty_cache as empty_cache
from tinyxp._devices import memory_stats as memory_stats
from tinyxp._devices import synchronize as synchronize
from tinyxp._precision import get_matmul_precision as get_matmul_precision
from tinyxp._precision import matmul_precision as matmul_precision
from tinyxp._precision import set_matmul_precision as set_matmul_precision
from tinyxp._version import __version__ as __version__
from tinyxp.autograd import _rules as _rules
from tinyxp.autograd import _rules_fft as _rules_fft
from tinyxp.autograd import _rules_linalg as _rules_linalg
from tinyxp.autograd import autocast as autocast
from tinyxp.autograd import enable_grad as enable_grad
from tinyxp.autograd import inference_mode as inference_mode
from tinyxp.autograd import is_grad_enabled as is_grad_enabled
from tinyxp.autograd import no_grad as no_grad
from tinyxp.autograd import set_detect_anomaly as set_detect_anomaly
from tinyxp.autograd import set_grad_enabled as set_grad_enabled
from tinyxp.autograd import use_fused as use_fused
from tinyxp.backend import Backend as Backend
from tinyxp.backend import Device as Device
from tinyxp.backend import available_backends as available_backends
from tinyxp.backend import device as device
from tinyxp.backend import get_backend as get_backend
from tinyxp.backend import get_default_device as get_default_device
from tinyxp.backend import registered_backends as registered_backends
from tinyxp.backend import set_default_device as set_default_device
from tinyxp.backend import use_device as use_device
from tinyxp.dtypes import DType as DType
from tinyxp.dtypes import default_dtype as default_dtype
from tinyxp.dtypes import dtype as dtype
from tinyxp.dtypes import get_default_dtype as get_default_dtype
from tinyxp.dtypes import set_default_dtype as set_default_dtype
from tinyxp.dtypes import type_names as _type_names
from tinyxp.errors import DeviceMismatchError as DeviceMismatchError
from tinyxp.errors import DeviceOutOfMemoryError as DeviceOutOfMemoryError
from tinyxp.errors import DeviceUnavailableError as DeviceUnavailableError
from tinyxp.errors import GraphError as GraphError
from tinyxp.errors import ShapeError as ShapeError
from tinyxp.ops import *  # noqa: F403 - a chapter of the namespace
from tinyxp.ops import erf as erf
from tinyxp.ops import fft as fft
from tinyxp.ops import linalg as linalg
from tinyxp.tensor import Tensor as Tensor  # isort: split

from tinyxp import consumers as consumers  # gives Tensor and DType what is beyond the standard
from tinyxp.consumers import diag as diag
from tinyxp.consumers import logspace as logspace

if TYPE_CHECKING:
    from tinyxp.models import GPT as GPT

__array_api_version__ = _standard.VERSION
# So that `from tinyxp.linalg import svd` works.
_sys.modules[f"{__name__}.fft"], _sys.modules[f"{__name__}.linalg"] = fft, linalg
float16, bfloat16 = _type_names["float16"], _type_names["bfloat16"]

# Imported when first used, so that `import tinyxp` stays light.
_LAZY = {
    "GPT": ("tinyxp.models", "GPT"),
    "save": ("tinyxp.io", "save"),
    "load": ("tinyxp.io", "load"),
    "manual_seed": ("tinyxp.random", "manual_seed"),
    **{
        name: (f"tinyxp.{name}", None)
        for name in (
            "autograd",
            "data",
            "func",
            "io",
            "models",
            "nn",
            "optim",
            "random",
            "special",
            "testing",
            "training",
        )
    },
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tinyxp' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    found = import_module(module)
    value = found if attribute is None else getattr(found, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY} - {"TYPE_CHECKING", "annotations", "Any"})


def __array_namespace_info__() -> Any:  # noqa: N807 - the standard's name
    """Return what this namespace can do, as the standard says.

    Examples
    --------
    >>> __array_namespace_info__().default_device()
    device('cpu')
    """
    from tinyxp._info import Info

    return Info()

"""The array namespace: one file for each chapter of the standard.

This module is also what derivative rules see as ``xp`` when a backward pass is itself recorded.
"""

from __future__ import annotations

from tinyxp import dtypes as _dtypes
from tinyxp.ops import fft as fft
from tinyxp.ops import fused as fused
from tinyxp.ops import linalg as linalg
from tinyxp.ops._beyond import *  # noqa: F403 - a chapter of the namespace
from tinyxp.ops._convolution import *  # noqa: F403 - a chapter of the namespace
from tinyxp.ops._creation import *  # noqa: F403 - a chapter of the namespace
from tinyxp.ops._creation import asarray
from tinyxp.ops._data_types import *  # noqa: F403 - a chapter of the namespace
from tinyxp.ops._data_types import to_device as to_device
from tinyxp.ops._einsum import *  # noqa: F403 - a chapter of the namespace
from tinyxp.ops._elementwise import *  # noqa: F403 - a chapter of the namespace
from tinyxp.ops._indexing import *  # noqa: F403 - a chapter of the namespace
from tinyxp.ops._indexing import erase as erase
from tinyxp.ops._indexing import getitem as getitem
from tinyxp.ops._indexing import inplace as inplace
from tinyxp.ops._indexing import locate as locate
from tinyxp.ops._indexing import segment_sum as segment_sum
from tinyxp.ops._indexing import setitem as setitem
from tinyxp.ops._indexing import threefry2x32 as threefry2x32
from tinyxp.ops._indexing import unindex as unindex
from tinyxp.ops._linear_algebra import *  # noqa: F403 - a chapter of the namespace
from tinyxp.ops._manipulation import *  # noqa: F403 - a chapter of the namespace
from tinyxp.ops._searching import *  # noqa: F403 - a chapter of the namespace
from tinyxp.ops._statistical import *  # noqa: F403 - a chapter of the namespace
from tinyxp.ops._tables import *  # noqa: F403 - a chapter of the namespace

e, inf, nan, pi = 2.718281828459045, float("inf"), float("nan"), 3.141592653589793
newaxis = None
globals().update(_dtypes.type_names)


def copy(x, /):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - the names of types would be in the namespace
    """Return a copy of a Tensor, recorded.

    Examples
    --------
    >>> import tinyxp as xp
    >>> copy(xp.ones(1)).tolist()
    [1.0]
    """
    return asarray(x, copy=True)


def __getattr__(name: str):  # type: ignore[no-untyped-def] # noqa: ANN202 - likewise
    """Import `special` when a rule of it is first recorded."""
    if name == "special":
        from tinyxp import special

        return special
    raise AttributeError(f"module 'tinyxp.ops' has no attribute {name!r}")

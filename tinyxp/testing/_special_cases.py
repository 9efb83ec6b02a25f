"""Results that the standard prescribes for infinities, NaN and signed zeros.

From the sections "Special cases" of the Python Array API standard, version 2025.12.
"""

from __future__ import annotations

import math
from math import inf, nan, pi
from typing import Any

__all__ = ["SPECIAL", "same_number"]

SPECIAL: tuple[tuple[str, tuple[Any, ...], Any], ...] = (
    # division and rounding
    ("floor_divide", (inf, 2.0), inf), ("floor_divide", (-inf, 2.0), -inf), ("floor_divide", (inf, -2.0), -inf),
    ("floor_divide", (1.0, inf), 0.0), ("floor_divide", (1.0, -inf), -0.0), ("floor_divide", (-1.0, inf), -0.0),
    ("floor_divide", (-0.0, 2.0), -0.0), ("floor_divide", (inf, inf), nan), ("floor_divide", (0.0, 0.0), nan),
    ("remainder", (-0.0, 1.0), 0.0), ("remainder", (0.0, -1.0), -0.0), ("remainder", (4.0, -2.0), -0.0),
    ("remainder", (1.0, inf), 1.0), ("remainder", (-1.0, inf), inf), ("remainder", (1.0, -inf), -inf),
    ("remainder", (0.0, -inf), -0.0), ("remainder", (inf, 1.0), nan), ("remainder", (1.0, 0.0), nan),
    ("divide", (1.0, -0.0), -inf), ("divide", (0.0, 0.0), nan), ("reciprocal", (-0.0,), -inf),
    ("ceil", (-0.5,), -0.0), ("floor", (-0.0,), -0.0), ("trunc", (-0.5,), -0.0), ("round", (2.5,), 2.0),
    # exponentials and powers
    ("exp", (-inf,), 0.0), ("expm1", (-0.0,), -0.0), ("expm1", (-inf,), -1.0), ("log", (0.0,), -inf),
    ("log", (-1.0,), nan), ("log1p", (-1.0,), -inf), ("log1p", (-0.0,), -0.0), ("log2", (1.0,), 0.0),
    ("sqrt", (-0.0,), -0.0), ("sqrt", (-1.0,), nan), ("pow", (1.0, nan), 1.0), ("pow", (nan, 0.0), 1.0),
    ("pow", (0.0, -1.0), inf), ("pow", (-inf, 3.0), -inf), ("logaddexp", (inf, 0.0), inf),
    # trigonometry
    ("atan2", (0.0, -0.0), pi), ("atan2", (-0.0, 0.0), -0.0), ("atan2", (inf, inf), pi / 4), ("sin", (inf,), nan),
    ("tanh", (inf,), 1.0), ("tanh", (-0.0,), -0.0), ("atanh", (1.0,), inf), ("hypot", (inf, nan), inf),
    # signs and comparison
    ("copysign", (1.0, -0.0), -1.0), ("sign", (nan,), nan), ("abs", (-0.0,), 0.0),
    ("maximum", (nan, 1.0), nan), ("minimum", (1.0, nan), nan), ("negative", (0.0,), -0.0),
    # complex
    ("expm1", (complex(inf, 0.0),), complex(inf, 0.0)), ("expm1", (complex(nan, 0.0),), complex(nan, 0.0)),
    ("expm1", (complex(-inf, inf),), complex(-1.0, 0.0)), ("expm1", (complex(inf, inf),), complex(inf, nan)),
    ("tanh", (complex(inf, 1.0),), complex(1.0, 0.0)), ("tanh", (complex(inf, 2.0),), complex(1.0, 0.0)),
    ("tanh", (complex(-0.0, -inf),), complex(-0.0, nan)), ("tanh", (complex(0.0, nan),), complex(0.0, nan)),
    ("exp", (complex(-inf, 0.0),), complex(0.0, 0.0)), ("log", (complex(-0.0, 0.0),), complex(-inf, pi)),
    ("log", (complex(-0.0, -0.0),), complex(-inf, -pi)), ("log", (complex(-inf, nan),), complex(inf, nan)),
    ("log1p", (complex(nan, inf),), complex(inf, nan)), ("log1p", (complex(-1.0, 0.0),), complex(-inf, 0.0)),
    ("acos", (complex(-0.0, 0.0),), complex(pi / 2, -0.0)), ("acos", (complex(0.0, -0.0),), complex(pi / 2, 0.0)),
    ("acosh", (complex(0.0, nan),), complex(nan, pi / 2)),
)  # fmt: skip


def _same(got: float, want: float) -> bool:
    if math.isnan(want):
        return math.isnan(got)
    close = got == want or abs(got - want) <= 1e-6 * abs(want)
    return close and (want != 0 or math.copysign(1.0, got) == math.copysign(1.0, want))


def same_number(got: Any, want: Any) -> bool:
    """Whether `got` is `want` in float32: NaN for NaN, and zeros of the same sign."""
    if isinstance(want, complex):
        got = complex(got)
        return _same(got.real, want.real) and _same(got.imag, want.imag)
    return _same(float(got.real), want)

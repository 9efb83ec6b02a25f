"""Products by cuBLASLt in every layout, type and epilogue against float64: a part of `gpu_check`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from _gpu_report import Findings

SHAPES = ((48, 24, 40), (7, 5, 3), (129, 64, 200), (1024, 768, 2304))
GELU_SLOPE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715


class Trial(NamedTuple):
    """Factors on the GPU and, in float64, on the CPU; how to compare, and how close a result must be."""

    what: str
    here: dict[str, Any]
    wide: dict[str, Any]
    error: Callable[..., float]
    limit: float


def _gelu(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(GELU_SLOPE * (x + GELU_CUBE * x**3)))


def _gelu_derivative(x: Any) -> Any:
    inner = np.tanh(GELU_SLOPE * (x + GELU_CUBE * x**3))
    slope = GELU_SLOPE * (1 + 3 * GELU_CUBE * x * x)
    return 0.5 * (1 + inner) + 0.5 * x * (1 - inner * inner) * slope


def compare(
    found: Findings,
    setting: argparse.Namespace,
    error: Callable[..., float],
    limits: dict[str, float],
) -> None:
    """Record the error of each kind of product, of factors drawn anew for each shape and type."""
    import cupy

    import tinyxp as xp
    from tinyxp_cupy import _lt

    native = xp.device(setting.device).backend.native_dtypes
    random = np.random.default_rng(4)
    for kind in ("float32", "float16", "bfloat16", "float64"):
        if kind not in native:
            found.note(kind, "ml_dtypes is not installed")
            continue
        for m, k, n in SHAPES[:3] if setting.tiny else SHAPES:
            shapes = {"x": (m, k), "w": (k, n), "bias": (n,), "g": (m, n), "sum": (m, n)}
            here = {name: cupy.asarray(random.standard_normal(shape).astype(native[kind])) for name, shape in shapes.items()}  # fmt: skip
            wide = {name: a.get().astype(np.float64) for name, a in here.items()}
            trial = Trial(f"{m}x{k}x{n} {kind}", here, wide, error, limits[kind] / 3)
            _layouts(found, _lt, trial)
            if kind != "float64":  # for which the library has no such epilogues
                _epilogues(found, _lt, trial)


def _layouts(found: Findings, lt: Any, trial: Trial) -> None:
    import cupy

    what, here, wide, error, limit = trial
    (x, w, _, g, add), (x64, w64, _, g64, add64) = here.values(), wide.values()
    found.check(f"{what} plain", error(lt.matmul(x, w), x64 @ w64), limit)
    found.check(f"{what} second transposed", error(lt.matmul(g, w.T), g64 @ w64.T), limit)
    found.check(f"{what} first transposed", error(lt.matmul(x.T, g), x64.T @ g64), limit)
    out = lt.matmul(x, w, c=add, beta=1.0)
    found.check(f"{what} added to a matrix", error(out, x64 @ w64 + add64), limit)
    total = add.copy()
    lt.matmul(x, w, total, beta=1.0)
    found.check(f"{what} added in place", error(total, x64 @ w64 + add64), limit)
    if x.dtype.itemsize == 2:  # noqa: PLR2004 - bytes
        out = lt.matmul(x.T, g, out_dtype=cupy.float32)
        found.check(f"{what} to float32", error(out, x64.T @ g64), 1e-5)
    batch, batch64 = cupy.stack([x, x[::-1]]), np.stack([x64, x64[::-1]])
    out = lt.matmul(batch, batch.swapaxes(1, 2))
    found.check(f"{what} batch", error(out, batch64 @ batch64.swapaxes(1, 2)), limit)


def _epilogues(found: Findings, lt: Any, trial: Trial) -> None:
    import cupy

    what, here, wide, error, limit = trial
    (x, w, bias, g, _), (x64, w64, bias64, g64, _) = here.values(), wide.values()
    out = lt.matmul(x, w, epilogue="bias", bias=bias)
    found.check(f"{what} bias", error(out, x64 @ w64 + bias64), limit)
    aux = lt.padded(*g.shape, g.dtype)
    out = lt.matmul(x, w, epilogue="gelu_aux_bias", bias=bias, aux=aux)
    found.check(f"{what} gelu_aux_bias", error(out, _gelu(x64 @ w64 + bias64)), limit)
    found.check(f"{what} gelu_aux_bias, aux", error(aux, x64 @ w64 + bias64), limit)
    sums = cupy.empty_like(bias)
    out = lt.matmul(x.T, g, epilogue="bgrada", bias=sums)
    found.check(f"{what} bgrada", error(out, x64.T @ g64), limit)
    found.check(f"{what} bgrada, sums", error(sums, g64.sum(0)), limit)
    slope = _gelu_derivative(aux.get().astype(np.float64))
    out = lt.matmul(x, w, epilogue="dgelu_bgrad", bias=sums, aux=aux)
    found.check(f"{what} dgelu_bgrad", error(out, x64 @ w64 * slope), limit)
    found.check(f"{what} dgelu_bgrad, sums", error(sums, (x64 @ w64 * slope).sum(0)), limit)

"""Attention by cuDNN in half precision, where the extra ``cudnn`` is installed and the GPU is of Ampere's kind or later.

A graph of one operation is built for each size, and kept. What cuDNN does not take, `forward` and `backward`
answer with None and False, and the caller's own kernel computes; a warning then says why, once for each reason.
``TINYXP_CUDNN=0`` in the environment leaves cuDNN aside.
"""

from __future__ import annotations

import os
import threading
import warnings
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import cupy
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Sizes",
    "backward",
    "backward_graph",
    "forward",
    "forward_graph",
    "packed_sizes",
    "sizes",
    "takes",
]

Array = Any
OLDEST = (
    91501  # before 9.15.1 the backward may read beyond its arrays when a CUDA graph is replayed
)
ARCHITECTURE = 80  # without which there are no kernels
EIGHT, LARGEST = (
    8,
    128,
)  # numbers in a row: multiples of 8, and as many as every architecture takes backwards
ALIGNED = 16  # bytes
Q, K, V, OUT, STATS, G, GQ, GK, GV = range(1, 10)  # names of tensors in a graph


class Sizes(NamedTuple):
    """What a graph is built for; distances are in elements, of (batch, heads, positions, dim)."""

    dtype: str
    batch: int
    heads: int
    time: int
    dim: int
    causal: bool
    scale: float
    qkv: tuple[tuple[int, ...], ...]
    out: tuple[int, ...]
    cotangents: tuple[tuple[int, ...], ...]  # of out, q, k and v; () in the forward


class _Plan(NamedTuple):
    graph: Any
    workspace: int  # bytes


# ---------------------------------------------------------------- what it can be used for
def takes(dtype: str, time: int, dim: int, *addresses: int) -> bool:
    """Whether cuDNN may be asked: the type and size are of those that it knows, and it is there.

    Parameters
    ----------
    dtype : str
        Type of all arrays.
    time, dim : int
        Positions, and numbers in a row.
    *addresses : int
        Where arrays begin, and how far their rows are apart, in bytes.
    """
    if dtype not in {"float16", "bfloat16"} or dim % EIGHT or dim > LARGEST:
        return False
    if time == 1 or any(a % ALIGNED for a in addresses):
        return False
    return _library() is not None and _is_new_enough(cupy.cuda.runtime.getDevice())


@cache
def _is_new_enough(device: int) -> bool:
    return int(cupy.cuda.Device(device).compute_capability) >= ARCHITECTURE


@cache
def _library() -> Any:
    """Return the module, or None where it, cuDNN itself, or a version without known faults is missing."""
    if os.environ.get("TINYXP_CUDNN", "1") == "0":
        return None
    try:
        import cudnn
    except ImportError:
        return None
    try:
        version = int(cudnn.backend_version())
    except RuntimeError as exc:
        _say(f"nvidia-cudnn-frontend is installed and cuDNN is not: pip install {_wheel()} ({exc})")
        return None
    if version < OLDEST:
        _say(f"cuDNN {_dotted(version)} is older than {_dotted(OLDEST)}: pip install --upgrade {_wheel()}")  # fmt: skip
        return None
    return cudnn


def _wheel() -> str:
    return f"nvidia-cudnn-cu{cupy.cuda.runtime.runtimeGetVersion() // 1000}"


def _dotted(version: int) -> str:
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"


_said: set[str] = set()


def _say(reason: str) -> None:
    if reason not in _said:
        _said.add(reason)
        text = f"attention is computed by tinyxp's own kernel, not by cuDNN: {reason}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)


# ---------------------------------------------------------------- graphs
def sizes(*arrays: Array, causal: bool, scale: float) -> Sizes:
    """Return what a graph for these arrays, (batch, heads, positions, dim), is built for.

    Parameters
    ----------
    *arrays : array
        q, k, v and out; for the backward also the cotangents of out, q, k and v.
    causal : bool
        Let no position look at later ones.
    scale : float
        Factor of the scores.
    """
    steps = tuple(map(_steps, arrays))
    batch, heads, time, dim = arrays[0].shape
    dtype = str(arrays[0].dtype.name)
    return Sizes(dtype, batch, heads, time, dim, causal, scale, steps[:3], steps[3], steps[4:])


@lru_cache(256)
def packed_sizes(
    dtype: str, shape: tuple[int, int, int, int], *, causal: bool, scale: float, backwards: bool
) -> Sizes:
    """Return the same for q, k and v in (batch, time, 3, heads, dim), and out in (batch, time, heads, dim).

    Parameters
    ----------
    dtype : str
        Type of all arrays.
    shape : tuple of int
        (batch, heads, time, dim).
    causal, scale
        As above.
    backwards : bool
        Whether the graph is that of the backward.
    """
    batch, heads, time, dim = shape
    row = heads * dim
    one, three = (time * row, dim, row, 1), (3 * time * row, dim, 3 * row, 1)
    cotangents = (one, three, three, three) if backwards else ()
    return Sizes(dtype, batch, heads, time, dim, causal, scale, (three,) * 3, one, cotangents)


def _steps(x: Array) -> tuple[int, ...]:
    return tuple(step // x.itemsize for step in x.strides)


def _graph(library: Any, n: Sizes, **where: Any) -> Any:
    kind, single = _types(library, n.dtype)
    return library.pygraph(
        io_data_type=kind, intermediate_data_type=single, compute_data_type=single, **where
    )


def _types(library: Any, dtype: str) -> tuple[Any, Any]:
    known = {"float16": library.data_type.HALF, "bfloat16": library.data_type.BFLOAT16}
    return known[dtype], library.data_type.FLOAT


def _given(library: Any, graph: Any, n: Sizes, tensors: dict[int, tuple[int, ...]]) -> list[Any]:
    shape, kind = (n.batch, n.heads, n.time, n.dim), _types(library, n.dtype)[0]
    return [
        graph.tensor(name=f"t{uid}", dim=shape, stride=steps, data_type=kind, uid=uid)
        for uid, steps in tensors.items()
    ]


def _options(library: Any, n: Sizes) -> dict[str, Any]:
    options: dict[str, Any] = {"attn_scale": n.scale}
    if n.causal:
        options["diagonal_alignment"] = library.diagonal_alignment.TOP_LEFT
        options["diagonal_band_right_bound"] = 0
    return options


def _stats(n: Sizes) -> dict[str, tuple[int, ...]]:
    return {
        "dim": (n.batch, n.heads, n.time, 1),
        "stride": (n.heads * n.time, n.time, 1, 1),
    }


def forward_graph(library: Any, n: Sizes, **where: Any) -> Any:
    """Return a graph of the forward.

    Parameters
    ----------
    library : module
        ``cudnn``.
    n : Sizes
        What it is for.
    **where
        `handle` to build it with, or `sm_version` to validate it for a GPU that is not there.
    """
    graph = _graph(library, n, **where)
    q, k, v = _given(library, graph, n, dict(zip((Q, K, V), n.qkv, strict=True)))
    out, stats = graph.sdpa(name="attention", q=q, k=k, v=v, generate_stats=True, **_options(library, n))  # fmt: skip
    shape = (n.batch, n.heads, n.time, n.dim)
    out.set_output(True).set_dim(shape).set_stride(n.out).set_uid(OUT)
    single, layout = library.data_type.FLOAT, _stats(n)
    stats.set_output(True).set_data_type(single).set_dim(layout["dim"]).set_stride(layout["stride"]).set_uid(STATS)  # fmt: skip
    return graph


def backward_graph(library: Any, n: Sizes, **where: Any) -> Any:
    """Return a graph of the backward, in an order of sums that is always the same; arguments as above."""
    graph = _graph(library, n, **where)
    q, k, v = _given(library, graph, n, dict(zip((Q, K, V), n.qkv, strict=True)))
    out, g = _given(library, graph, n, {OUT: n.out, G: n.cotangents[0]})
    stats = graph.tensor(name="stats", **_stats(n), data_type=library.data_type.FLOAT, uid=STATS)
    found = graph.sdpa_backward(
        name="attention_vjp", q=q, k=k, v=v, o=out, dO=g, stats=stats, use_deterministic_algorithm=True,
        **_options(library, n),
    )  # fmt: skip
    shape = (n.batch, n.heads, n.time, n.dim)
    for uid, x, steps in zip((GQ, GK, GV), found, n.cotangents[1:], strict=True):
        x.set_output(True).set_dim(shape).set_stride(steps).set_uid(uid)
    return graph


@lru_cache(256)
def _plan(n: Sizes, device: int) -> _Plan | None:
    """Return what computes the forward, or the backward where there are cotangents; None if cuDNN cannot."""
    library = _library()
    make = backward_graph if n.cotangents else forward_graph
    try:
        graph = make(library, n, handle=_handle(device))
        graph.build([library.heur_mode.A, library.heur_mode.FALLBACK])
        return _Plan(graph, int(graph.get_workspace_size()))
    except Exception as exc:  # noqa: BLE001 - the library has an exception class of its own, and raises others
        _say(f"{make.__name__}: {str(exc) or type(exc).__name__}")
        return None


# ---------------------------------------------------------------- execution
class _Handles(threading.local):
    """Handles of a thread, by device: one is for one stream at a time."""

    def __init__(self) -> None:
        self.of: dict[int, int] = {}


_handles = _Handles()


def _handle(device: int) -> int:
    """Return cuDNN's handle for the current device, which works on the current stream."""
    library = _library()
    found = _handles.of.get(device)
    if found is None:
        found = _handles.of[device] = library.create_handle()
    library.set_stream(handle=found, stream=cupy.cuda.get_current_stream().ptr)
    return found


def _run(n: Sizes, pointers: dict[int, int]) -> bool:
    device = cupy.cuda.runtime.getDevice()
    plan = _plan(n, device)
    if plan is None:
        return False
    workspace = cupy.empty(max(plan.workspace, 1), np.uint8)
    plan.graph.execute(pointers, workspace.data.ptr, handle=_handle(device))
    return True


def forward(n: Sizes, addresses: Sequence[int]) -> Array | None:
    """Write the output, given where q, k, v and it are; return what `backward` reads, or None if cuDNN cannot.

    Returns
    -------
    array of float32, shape (batch, heads, T, 1), or None
        The natural logarithm of each query's sum of exponentials.
    """
    if _plan(n, cupy.cuda.runtime.getDevice()) is None:
        return None
    stats = cupy.empty((n.batch, n.heads, n.time, 1), np.float32)
    _run(n, {STATS: stats.data.ptr, **dict(zip((Q, K, V, OUT), addresses, strict=True))})
    return stats


def backward(n: Sizes, stats: Array, addresses: Sequence[int]) -> bool:
    """Write cotangents, given where q, k, v, out and the cotangents of out, q, k and v are; return whether cuDNN can."""
    names = (Q, K, V, OUT, G, GQ, GK, GV)
    return _run(n, {STATS: stats.data.ptr, **dict(zip(names, addresses, strict=True))})

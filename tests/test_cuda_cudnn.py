"""Attention by cuDNN: graphs that its front end accepts, and, with a stand-in for the library, when it is asked for what.

The front end, the extra ``cudnn``, validates graphs without a GPU. The stand-in computes on a GPU, or on its emulator,
what a graph was asked for, from the addresses and distances that it was told.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import types
import warnings
from importlib.util import find_spec

import numpy as np
import pytest

import tinyxp
from tinyxp import dtypes


def works():
    return find_spec("cupy") is not None and "cupy" in tinyxp.available_backends()


cuda = pytest.mark.skipif(not works(), reason="no GPU, and no emulator of one")
frontend = pytest.mark.skipif(
    not (find_spec("cudnn") and find_spec("cupy")),
    reason="needs the extra cudnn: nvidia-cudnn-frontend",
)

HALVES = ("float16", "bfloat16")
LIMITS = {"float32": 3e-6, "float16": 2e-3, "bfloat16": 1.5e-2}  # relative to the norm
EASY = {"causal": True, "scale": 0.125}

# ---------------------------------------------------------------- the front end itself
# As much of cuDNN as the front end calls before a graph is handed to it.
LIBRARY = """
#include <stddef.h>
size_t cudnnGetVersion(void) { return 92801; }
int cudnnCreate(void** handle) { *handle = (void*)1; return 0; }
int cudnnDestroy(void* handle) { return 0; }
"""
VALIDATE = """
import json, sys, cudnn
from tinyxp_cupy import _cudnn
found = []
for dtype, shape, causal, version in json.loads(sys.argv[1]):
    said = []
    for make in (_cudnn.forward_graph, _cudnn.backward_graph):
        n = _cudnn.packed_sizes(
            dtype, tuple(shape), causal=causal, scale=0.125, backwards=make is _cudnn.backward_graph
        )
        try:
            make(cudnn, n, sm_version=version).validate()
            said.append("")
        except cudnn.cudnnGraphNotSupportedError as exc:
            said.append(str(exc))
    found.append(said)
print(json.dumps(found))
"""
ARCHITECTURES = (80, 86, 89, 90, 100, 120)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Variables with which the front end finds cuDNN, or as much of it as validation takes."""
    asked = "import cudnn; cudnn.backend_version()"
    there = subprocess.run([sys.executable, "-c", asked], check=False, capture_output=True)
    if there.returncode == 0:
        return dict(os.environ)
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs cuDNN, or a C compiler for what stands in for it")
    folder = tmp_path_factory.mktemp("cudnn")
    (folder / "library.c").write_text(LIBRARY, encoding="utf-8")
    command = [compiler, "-shared", "-fPIC", "-o", "libcudnn.so.9", "library.c"]
    subprocess.run(command, cwd=folder, check=True)
    return {**os.environ, "LD_LIBRARY_PATH": str(folder)}


def validated(environment, cases):
    command = [sys.executable, "-c", VALIDATE, json.dumps(cases)]
    run = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@frontend
def test_graphs_are_valid_wherever_cudnn_is_asked(environment):
    shapes = [(8, 12, 1024, 64), (1, 1, 2, 8), (2, 3, 70, 64), (64, 6, 256, 64), (3, 2, 129, 128)]
    cases = [
        (dtype, shape, causal, version)
        for dtype in HALVES
        for shape in shapes
        for causal in (True, False)
        for version in ARCHITECTURES
    ]
    for case, said in zip(cases, validated(environment, cases), strict=True):
        assert said == ["", ""], case


@frontend
def test_graphs_are_refused_where_it_is_not_asked(environment):
    cases = [("float16", (1, 1, 8, 12), True, 90), ("float16", (1, 1, 8, 136), True, 80)]
    short, long = validated(environment, cases)
    assert all("multiple of 8" in text for text in short)
    assert "less than or equal to 128" in long[1]
    ((old, _),) = validated(environment, [("float16", (1, 1, 8, 64), True, 75)])
    assert "SM80" in old
    ((_, single),) = validated(environment, [("float16", (1, 1, 1, 8), True, 90)])
    assert "s_q = s_kv = 1" in single


# ---------------------------------------------------------------- a stand-in
class Tensor:
    """What a graph reads or writes."""

    def __init__(self, dtype=None):
        self.dtype, self.dim, self.stride, self.uid = dtype, None, None, None

    def _set(self, **what):
        vars(self).update(what)
        return self

    def set_output(self, is_output):
        return self._set(output=is_output)

    def set_dim(self, dim):
        return self._set(dim=tuple(dim))

    def set_stride(self, stride):
        return self._set(stride=tuple(stride))

    def set_uid(self, uid):
        return self._set(uid=uid)

    def set_data_type(self, dtype):
        return self._set(dtype=dtype)

    def at(self, address):
        """The array at an address."""
        import cupy

        dtype = native(self.dtype)
        steps = tuple(s * dtype.itemsize for s in self.stride)
        size = sum((n - 1) * s for n, s in zip(self.dim, steps, strict=True)) + dtype.itemsize
        memory = cupy.cuda.UnownedMemory(address, size, None)
        return cupy.ndarray(self.dim, dtype, cupy.cuda.MemoryPointer(memory, 0), strides=steps)


class Graph:
    """A graph of one operation, computed with NumPy in float64."""

    def __init__(self, library, **options):
        assert options["intermediate_data_type"] == options["compute_data_type"] == "float32"
        self.library, self.io, self.handle = library, options["io_data_type"], options["handle"]
        self.tensors = []

    def _add(self, *tensors):
        self.tensors += tensors
        return tensors[0] if len(tensors) == 1 else list(tensors)

    def tensor(self, *, name, dim, stride, data_type, uid):
        return self._add(Tensor(data_type).set_dim(dim).set_stride(stride).set_uid(uid))

    def sdpa(self, *, name, q, k, v, generate_stats, **options):
        assert generate_stats
        self.names, self.options = {"q": q, "k": k, "v": v}, options
        self.found = self._add(Tensor(self.io), Tensor("float32"))
        return self.found

    def sdpa_backward(self, *, name, q, k, v, o, dO, stats, use_deterministic_algorithm, **options):  # noqa: N803 - the library's name
        assert use_deterministic_algorithm
        self.names, self.options = {"q": q, "k": k, "v": v, "o": o, "g": dO, "stats": stats}, options  # fmt: skip
        self.found = self._add(*(Tensor(self.io) for _ in range(3)))
        return self.found

    def build(self, heuristics):
        assert heuristics == ["A", "FALLBACK"]
        assert all(t.dim and t.stride and t.uid for t in self.tensors)
        backwards = len(self.found) == 3
        self.library.built.append("backward" if backwards else "forward")
        if self.library.built[-1] in self.library.refuses:
            raise self.library.cudnnGraphNotSupportedError("No valid execution plans built.")

    def get_workspace_size(self):
        return 24

    def execute(self, pointers, workspace, *, handle):
        import cupy

        assert workspace
        assert self.library.streams[handle] == cupy.cuda.get_current_stream().ptr
        assert sorted(pointers) == sorted(t.uid for t in self.tensors)
        at = {n: t.at(pointers[t.uid]).get().astype(np.float64) for n, t in self.names.items()}
        q, k, v = at["q"], at["k"], at["v"]
        scores = q @ np.swapaxes(k, -1, -2) * self.options["attn_scale"]
        if "diagonal_band_right_bound" in self.options:
            assert self.options["diagonal_alignment"] == "TOP_LEFT"
            seen = np.tril(np.ones(scores.shape[-2:], bool), self.options["diagonal_band_right_bound"])  # fmt: skip
            scores = np.where(seen, scores, -np.inf)
        if len(self.found) == 2:
            top = scores.max(-1, keepdims=True)
            stats = top + np.log(np.exp(scores - top).sum(-1, keepdims=True))
            results = np.exp(scores - stats) @ v, stats
        else:
            p, g = np.exp(scores - at["stats"]), at["g"]
            slope = p * (g @ np.swapaxes(v, -1, -2) - (g * at["o"]).sum(-1, keepdims=True))
            slope *= self.options["attn_scale"]
            results = slope @ k, np.swapaxes(slope, -1, -2) @ q, np.swapaxes(p, -1, -2) @ g
        for t, x in zip(self.found, results, strict=True):
            t.at(pointers[t.uid])[...] = cupy.asarray(x.astype(native(t.dtype)))


def library(*, version=92801, refuses=()):
    """A module like ``cudnn``, which remembers what was built, and for which streams."""

    class NotSupportedError(Exception):
        pass

    def backend_version():
        if version is None:
            raise RuntimeError("Unable to find symbol cudnnGetVersion")
        return version

    def create_handle():
        made.streams[len(made.streams) + 1] = None
        return len(made.streams)

    made = types.ModuleType("cudnn")
    made.built, made.streams, made.refuses = [], {}, refuses
    made.backend_version, made.create_handle = backend_version, create_handle
    made.set_stream = lambda *, handle, stream: made.streams.__setitem__(handle, stream)
    made.cudnnGraphNotSupportedError = NotSupportedError
    made.data_type = types.SimpleNamespace(HALF="float16", BFLOAT16="bfloat16", FLOAT="float32")
    made.heur_mode = types.SimpleNamespace(A="A", FALLBACK="FALLBACK")
    made.diagonal_alignment = types.SimpleNamespace(TOP_LEFT="TOP_LEFT")
    made.pygraph = lambda **options: Graph(made, **options)
    return made


@pytest.fixture
def installed(monkeypatch):
    """A function that puts a stand-in where the library would be."""
    from tinyxp_cupy import _cudnn

    def forget():
        for cached in (_cudnn._library, _cudnn._plan, _cudnn._is_new_enough):
            cached.cache_clear()
        _cudnn._handles.of.clear()
        _cudnn._said.clear()

    def install(**options):
        made = library(**options)
        monkeypatch.setitem(sys.modules, "cudnn", made)
        forget()
        return made

    yield install
    forget()


# ---------------------------------------------------------------- what is asked of it
def kernels():
    return tinyxp.device("cuda").backend.kernels


def native(dtype):
    return tinyxp.device("cuda").backend.native_dtype(dtypes.dtype(dtype))


def drawn(*shapes, dtype):
    random = np.random.default_rng(0)
    return [random.standard_normal(s).astype(native(dtype)) for s in shapes]


def expected(g, q, k, v, *, causal, scale):
    g, q, k, v = (x.astype(np.float64) for x in (g, q, k, v))
    scores = q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], scores.shape[-1] - scores.shape[-2]), scores, -np.inf)  # fmt: skip
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    slope = g @ np.swapaxes(v, -1, -2)
    slope = p * (slope - (slope * p).sum(-1, keepdims=True))
    slope *= q.shape[-1] ** -0.5 if scale is None else scale
    return p @ v, slope @ k, np.swapaxes(slope, -1, -2) @ q, np.swapaxes(p, -1, -2) @ g


def close(got, want, dtype):
    for a, b in zip(got, want, strict=True):
        a = a.get().astype(np.float64)  # noqa: PLW2901 - brought to the host
        assert a.shape == b.shape
        assert np.linalg.norm(a - b) < LIMITS[dtype] * np.linalg.norm(b)


def check(shape, dtype, *, causal, scale, keys=None, mask=None):
    import cupy

    other = (*shape[:2], keys or shape[2], shape[3])
    host = drawn(shape, shape, other, other, dtype=dtype)
    g, q, k, v = map(cupy.asarray, host)
    options = {"is_causal": causal, "scale": scale}
    out, aux = kernels().attention(q, k, v, mask, **options)
    assert out.dtype == native(dtype)
    needs = (True, True, True, False)
    grads = kernels().attention_vjp(g, out, aux, q, k, v, mask, needs=needs, **options)
    close([out, *grads[:3]], expected(*host, causal=causal, scale=scale), dtype)


def check_packed(batch, time, heads, dim, dtype, *, causal, scale=None):
    import cupy

    width = heads * dim
    g, packed = drawn((batch, time, width), (batch, time, 3 * width), dtype=dtype)
    on = cupy.asarray(packed)
    merged, aux = kernels().attention_packed(on, heads, is_causal=causal, scale=scale)
    gp = kernels().attention_packed_vjp(
        cupy.asarray(g), merged, aux, on, num_heads=heads, is_causal=causal, scale=scale
    )
    parts = [x.reshape(batch, time, -1, heads, dim).transpose(2, 0, 3, 1, 4) for x in (g, packed)]
    out, *grads = expected(parts[0][0], *parts[1], causal=causal, scale=scale)
    want = [
        out.transpose(0, 2, 1, 3).reshape(batch, time, width),
        np.stack(grads).transpose(1, 3, 0, 2, 4).reshape(batch, time, 3 * width),
    ]
    close([merged, gp], want, dtype)


@cuda
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("causal", [False, True])
def test_half_precision_goes_to_cudnn_once_built_for_each_size(installed, dtype, causal):
    made = installed()
    for _ in range(2):
        check_packed(2, 7, 3, 16, dtype, causal=causal)
        check((2, 3, 7, 16), dtype, causal=causal, scale=0.3)
    assert made.built == ["forward", "backward"] * 2
    assert list(made.streams) == [1]


@cuda
def test_a_graph_works_on_the_current_stream(installed):
    import cupy

    made = installed()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        check_packed(1, 5, 1, 8, "float16", causal=True)
        assert made.streams == {1: stream.ptr}
        stream.synchronize()
    check_packed(1, 5, 1, 8, "float16", causal=True)
    assert made.streams == {1: cupy.cuda.get_current_stream().ptr}


@cuda
def test_what_cudnn_does_not_know_is_not_asked(installed):
    import cupy

    made = installed()
    check_packed(2, 7, 3, 16, "float32", causal=True)
    check_packed(2, 7, 3, 12, "float16", causal=True)
    kernels().attention_packed(cupy.ones((2, 1, 48), np.float16), 2, is_causal=True)
    check((1, 2, 7, 16), "float32", **EASY)
    check((1, 2, 7, 12), "bfloat16", **EASY)
    check((1, 2, 7, 16), "float16", keys=9, **EASY)  # as many graphs as positions, in generation
    check((1, 2, 7, 16), "float16", mask=cupy.ones((1, 1, 1, 7), bool), **EASY)
    k, v = (cupy.ones((2, 1, 7, 16), native("float16")) for _ in range(2))
    q = cupy.ones((2, 3, 7, 16), native("float16"))
    kernels().attention(q, k, v, None, is_causal=True, scale=None)  # keys of all heads at one place
    assert made.built == []


@cuda
def test_rows_at_odd_places_are_not_cudnns(installed):
    import cupy

    made = installed()
    (host,) = drawn((3, 1, 2, 7, 20), dtype="float16")
    q, k, v = cupy.asarray(host)[..., 4:]  # at multiples of 8 bytes
    out, _ = kernels().attention(q, k, v, None, is_causal=True, scale=None)
    want = expected(host[0, ..., 4:], *host[..., 4:], causal=True, scale=None)
    close([out], want[:1], "float16")
    assert made.built == []


@cuda
def test_an_older_architecture_is_not_asked(installed, monkeypatch):
    from tinyxp_cupy import _cudnn

    made = installed()
    monkeypatch.setattr(_cudnn, "ARCHITECTURE", 1000)
    check_packed(1, 5, 1, 8, "float16", causal=True)
    assert made.built == []


# ---------------------------------------------------------------- when it fails
@cuda
@pytest.mark.parametrize("refuses", [("forward", "backward"), ("backward",)])
def test_what_cannot_be_built_is_computed_by_our_kernel_and_said_once(installed, refuses):
    made = installed(refuses=refuses)
    with pytest.warns(RuntimeWarning, match=f"{refuses[0]}_graph: No valid execution") as caught:
        check_packed(2, 7, 3, 16, "bfloat16", causal=True)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_packed(2, 7, 3, 16, "bfloat16", causal=True)
        check_packed(2, 9, 3, 16, "bfloat16", causal=True)  # another size, the same reason
        check((1, 2, 7, 16), "bfloat16", **EASY)
    tried = ["forward"] if "forward" in refuses else ["forward", "backward"]
    assert made.built == tried * 3


@cuda
def test_a_missing_cudnn_is_named_with_what_to_install(installed):
    installed(version=None)
    with pytest.warns(RuntimeWarning, match=r"cuDNN is not: pip install nvidia-cudnn-cu1\d"):
        check_packed(1, 5, 1, 8, "float16", causal=True)


@cuda
def test_a_cudnn_with_known_faults_is_left_aside(installed):
    made = installed(version=91400)
    with pytest.warns(RuntimeWarning, match=r"cuDNN 9\.14\.0 is older than 9\.15\.1"):
        check_packed(1, 5, 1, 8, "float16", causal=True)
    assert made.built == []


@cuda
def test_a_variable_leaves_it_aside(installed, monkeypatch):
    monkeypatch.setenv("TINYXP_CUDNN", "0")
    made = installed()
    check_packed(1, 5, 1, 8, "float16", causal=True)
    assert made.built == []


@cuda
def test_both_logarithms_are_of_the_same_sums():
    """What our kernel keeps is cuDNN's statistic to base 2, so either backward can follow either forward."""
    import cupy

    from tinyxp_cupy._fused import _attention

    _, q, k, v = map(cupy.asarray, drawn(*[(1, 1, 5, 8)] * 4, dtype="float32"))
    _, (lse,) = kernels().attention(q, k, v, None, is_causal=False, scale=1.0)
    want = np.log(np.exp(q.get() @ np.swapaxes(k.get(), -1, -2)).sum(-1, keepdims=True))
    np.testing.assert_allclose(lse.get()[..., None] * math.log(2), want, rtol=1e-5, atol=1e-6)
    stats = (cupy.asarray(want.astype(np.float32)),)
    np.testing.assert_allclose(_attention._binary(stats).get(), lse.get(), rtol=1e-5, atol=1e-6)

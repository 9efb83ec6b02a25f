"""Blocked attention on a GPU or its emulator, forward and backward, against NumPy's in float64."""

from __future__ import annotations

import math
import re
from contextlib import nullcontext
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import tinyxp
from tinyxp import dtypes
from tinyxp._fused import attention as composite

EMULATED = find_spec("cuda_emulator") is not None


def works():
    return find_spec("cupy") is not None and "cupy" in tinyxp.available_backends()


cuda = pytest.mark.skipif(not works(), reason="no GPU, and no emulator of one")
emulated = pytest.mark.skipif(not EMULATED, reason="counts and orders what only the emulator sees")
compiler = pytest.mark.skipif(
    EMULATED or not (find_spec("cupy") and find_spec("nvidia")),
    reason="needs CuPy's own wheel, NVRTC and its headers",
)

ORDERS = (0, 1, 7)  # of the threads of a block
LIMITS = {
    "float64": 1e-12,
    "float32": 3e-6,
    "float16": 2e-3,
    "bfloat16": 1.5e-2,
}  # relative to the norm
CASES = [  # batch, heads, queries, keys, numbers in a row
    (2, 2, 1, 9, 32),
    (1, 2, 5, 5, 8),
    (1, 1, 63, 63, 64),
    (2, 1, 65, 65, 20),
    (1, 1, 130, 130, 4),
    (1, 1, 33, 70, 128),
    (1, 2, 70, 33, 80),
]


# ---------------------------------------------------------------- the reference, in float64
def probabilities(q, k, mask, causal, scale):
    scores = q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    t, s = scores.shape[-2:]
    seen = np.ones(scores.shape, bool)
    if mask is not None:
        seen &= mask
    if causal:
        seen &= np.arange(s) <= np.arange(s - t, s)[:, None]
    scores = np.where(seen, scores, -np.inf)
    top = scores.max(-1, keepdims=True)
    e = np.exp(scores - np.where(top == -np.inf, 0, top))
    total = e.sum(-1, keepdims=True)
    return e / np.where(total == 0, 1, total)


def expected(g, q, k, v, mask=None, *, causal, scale=None):
    """The output and the cotangents of q, k and v."""
    p = probabilities(q, k, mask, causal, scale)
    out = p @ v
    slope = p * (g @ np.swapaxes(v, -1, -2) - (g * out).sum(-1, keepdims=True))
    slope *= q.shape[-1] ** -0.5 if scale is None else scale
    back = np.swapaxes
    return out, slope @ k, back(slope, -1, -2) @ q, back(p, -1, -2) @ g


# ---------------------------------------------------------------- both sides
def kernels():
    return tinyxp.device("cuda").backend.kernels


def native(dtype):
    return tinyxp.device("cuda").backend.native_dtype(dtypes.dtype(dtype))


def drawn(*shapes, dtype="float32", seed=0):
    """Arrays on the host: in the dtype, and exactly the same in float64."""
    random = np.random.default_rng(seed)
    found = [random.standard_normal(s).astype(native(dtype)) for s in shapes]
    return found, [x.astype(np.float64) for x in found]


def shapes_of(batch, heads, queries, keys, dim):
    one, other = (batch, heads, queries, dim), (batch, heads, keys, dim)
    return one, one, other, other  # g, q, k, v


def computed(g, q, k, v, mask=None, *, causal, scale=None, own=True):
    """Likewise by the backend; `own` says whether its kernel has to be the one."""
    import cupy

    g, q, k, v, mask = (None if x is None else cupy.asarray(x) for x in (g, q, k, v, mask))
    options = {"is_causal": causal, "scale": scale}
    out, aux = kernels().attention(q, k, v, mask, **options)
    assert (len(aux) == 1) == own
    needs = (True, True, True, False)
    grads = kernels().attention_vjp(g, out, aux, q, k, v, mask, needs=needs, **options)
    assert grads[3] is None
    return [cupy.asnumpy(x) for x in (out, *grads[:3])]


def close(got, want, dtype="float32", names=("out", "gq", "gk", "gv")):
    for name, a, b in zip(names, got, want, strict=True):
        assert a.shape == b.shape, name
        assert a.dtype == native(dtype), name
        error = np.linalg.norm(a.astype(np.float64) - b) / (np.linalg.norm(b) or 1)
        assert error < LIMITS[dtype], name


def padding(batch, keys, seed=1):
    """As in generation: a sequence begins behind places that nobody may look at."""
    starts = np.random.default_rng(seed).integers(0, keys, batch)
    return (np.arange(keys) >= starts[:, None])[:, None, None, :]


# ---------------------------------------------------------------- values
@cuda
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_attention_is_the_reference(case, causal):
    arrays, exact = drawn(*shapes_of(*case))
    for mask in (None, padding(case[0], case[3])):
        close(computed(*arrays, mask, causal=causal), expected(*exact, mask, causal=causal))


@cuda
@emulated
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("case", [(1, 2, 70, 70, 20), (1, 1, 33, 65, 128)], ids=str)
def test_neither_order_of_threads_nor_memory_behind_arrays_matters(case, causal):
    import cuda_emulator

    arrays, exact = drawn(*shapes_of(*case))
    mask, results = padding(case[0], case[3]), []
    for order in ORDERS:
        with cuda_emulator.schedule(order), cuda_emulator.guard():  # where outputs begin as NaN
            results.append(computed(*arrays, mask, causal=causal))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    close(results[0], expected(*exact, mask, causal=causal))


@cuda
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", [(1, 2, 40, 40, 64), (2, 1, 5, 33, 12)], ids=str)
def test_half_precision_rounds_inputs_and_results_only(case, dtype):
    arrays, exact = drawn(*shapes_of(*case), dtype=dtype)
    mask = padding(case[0], case[3])  # with which it is never cuDNN that computes
    for causal in (False, True):
        got = computed(*arrays, mask, causal=causal)
        close(got, expected(*exact, mask, causal=causal), dtype)


@cuda
@pytest.mark.parametrize("scale", [0.0, 0.3, -2.0, 30.0])
def test_scores_are_multiplied_with_the_scale(scale):
    arrays, exact = drawn(*shapes_of(1, 1, 37, 37, 16))
    got = computed(*arrays, causal=True, scale=scale)
    want = expected(*exact, causal=True, scale=scale)
    assert math.isfinite(sum(np.abs(x).sum() for x in got))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1, np.abs(b).max()) * max(1, abs(scale)))  # fmt: skip


# ---------------------------------------------------------------- masks
@cuda
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 40), (2, 1, 1, 40), (2, 1, 35, 40), (1, 3, 35, 1), (2, 3, 35, 40), (35, 40)]
)
def test_a_mask_is_read_along_the_axes_that_it_has(shape):
    arrays, exact = drawn(*shapes_of(2, 3, 35, 40, 8))
    mask = np.random.default_rng(2).random(shape) < 0.6
    for causal in (False, True):
        close(computed(*arrays, mask, causal=causal), expected(*exact, mask, causal=causal))


@cuda
def test_a_query_that_sees_nothing_gives_zeros_and_moves_nothing():
    arrays, exact = drawn(*shapes_of(1, 1, 40, 40, 8))
    mask = np.ones((1, 1, 40, 40), bool)
    mask[..., 3:37, :] = False
    out, gq, *_ = got = computed(*arrays, mask, causal=False)
    assert not out[:, :, 3:37].any()
    assert not gq[:, :, 3:37].any()
    close(got, expected(*exact, mask, causal=False))
    nothing = np.zeros((1, 1, 1, 40), bool)
    assert not any(x.any() for x in computed(*arrays, nothing, causal=True))
    arrays, _ = drawn(*shapes_of(1, 1, 40, 3, 8))  # more queries than keys
    out, gq, *_ = computed(*arrays, causal=True)
    assert not out[:, :, :37].any()
    assert not gq[:, :, :37].any()
    assert out[:, :, 37:].all()


@cuda
def test_an_additive_mask_takes_the_default_and_has_a_gradient():
    import cupy

    (g, q, k, v, mask), exact = drawn(*shapes_of(1, 1, 5, 6, 8), (5, 6))
    on = [cupy.asarray(x) for x in (q, k, v, mask)]
    out, aux = kernels().attention(*on, is_causal=False, scale=None)
    needs = (True,) * 4
    found = kernels().attention_vjp(cupy.asarray(g), out, aux, *on, needs=needs, is_causal=False, scale=None)  # fmt: skip
    p = np.exp(exact[1] @ np.swapaxes(exact[2], -1, -2) / math.sqrt(8) + exact[4])
    p /= p.sum(-1, keepdims=True)
    np.testing.assert_allclose(out.get(), p @ exact[3], atol=1e-6)
    slope = p * (exact[0] @ np.swapaxes(exact[3], -1, -2))
    slope -= p * slope.sum(-1, keepdims=True)
    np.testing.assert_allclose(found[3].get(), slope[0, 0], atol=1e-6)


# ---------------------------------------------------------------- values that are no numbers
@cuda
@pytest.mark.parametrize("where", ["q", "k", "v"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e30])
def test_extreme_values_spread_as_in_the_composite(where, value):
    """To all that look at them: nobody may look at what is hidden, so it is kept out of the way here."""
    (_, q, k, v), _ = drawn(*shapes_of(1, 1, 40, 40, 8))
    {"q": q, "k": k, "v": v}[where][0, 0, 5, 2] = value
    import cupy

    with np.errstate(all="ignore"):
        want = composite(_numpy(), *(x.astype(np.float64) for x in (q, k, v)), None, is_causal=False, scale=None)  # fmt: skip
    on = [cupy.asarray(x) for x in (q, k, v)]
    got = kernels().attention(*on, None, is_causal=False, scale=None)[0].get()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    finite = np.isfinite(want) & (np.abs(want) < 1e20)
    np.testing.assert_allclose(got[finite], want[finite], atol=2e-6)


def _numpy():
    return tinyxp.device("cpu").backend.xp


@cuda
def test_large_scores_neither_overflow_nor_lose_the_largest():
    arrays, exact = drawn(*shapes_of(1, 1, 70, 70, 16))
    q, wide = arrays[1], exact[1]
    q *= 300
    wide *= 300
    out = computed(*arrays, causal=True)[0]
    np.testing.assert_allclose(out, expected(*exact, causal=True)[0], atol=2e-3)  # scores of 10^3


# ---------------------------------------------------------------- layouts
@cuda
@pytest.mark.parametrize(
    ("q", "k", "v"),
    [
        ((7, 8), (9, 8), (9, 8)),
        ((3, 7, 8), (3, 9, 8), (3, 9, 8)),
        ((2, 2, 3, 7, 8), (2, 2, 3, 9, 8), (2, 2, 3, 9, 8)),
        ((2, 3, 7, 8), (3, 9, 8), (1, 1, 9, 8)),  # broadcast: gradients are summed
        ((3, 7, 8), (9, 8), (2, 1, 9, 8)),
        ((2, 3, 7, 6), (2, 3, 9, 6), (2, 3, 9, 6)),  # no multiple of four
        ((2, 3, 7, 3), (2, 3, 9, 3), (2, 3, 9, 8)),  # values longer than keys
        ((1, 2, 7, 33), (1, 2, 9, 33), (1, 2, 9, 1)),
    ],
)
def test_other_shapes(q, k, v):
    lead = np.broadcast_shapes(q[:-2], k[:-2], v[:-2])
    arrays, (g, *exact) = drawn((*lead, q[-2], v[-1]), q, k, v)
    full = [np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in exact]
    out, *grads = expected(g, *full, causal=True)
    summed = [_sum_to(x, y.shape) for x, y in zip(grads, exact, strict=True)]
    close(computed(*arrays, causal=True), (out, *summed))


def _sum_to(x, shape):
    x = x.sum(tuple(range(x.ndim - len(shape))))
    return x.sum(tuple(i for i, n in enumerate(shape) if n == 1 and x.shape[i] > 1), keepdims=True)


@cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_views_are_read_where_they_are_or_copied_where_they_do_not_fit(dtype):
    import cupy

    (g, *_), (wide, *_) = drawn((1, 2, 9, 8), dtype=dtype)
    base = drawn((2, 20, 2, 12), dtype=dtype)[0][0]
    views = [
        lambda x: x[:1, :9, :, :8].transpose(0, 2, 1, 3),
        lambda x: x[1:, 9:18, :, 4:].transpose(0, 2, 1, 3),
        lambda x: x[:1, :9, :, 1:9].transpose(
            0, 2, 1, 3
        ),  # rows do not begin at a multiple of four
        lambda x: x[:1, 8::-1, :, :8].transpose(0, 2, 1, 3),  # backwards
        lambda x: x[:1, :18:2, :, 7::-1].transpose(0, 2, 1, 3),
        lambda x: x.reshape(2, 2, 12, 20)[:1, :, :8, :9].transpose(0, 1, 3, 2),  # columns
    ]
    on = cupy.asarray(base)
    for q, k, v in zip(views, views[1:] + views[:1], views[2:] + views[:2], strict=True):
        host = [f(base) for f in (q, k, v)]
        out, aux = kernels().attention(q(on), k(on), v(on), None, is_causal=True, scale=None)
        found = kernels().attention_vjp(
            cupy.asarray(g), out, aux, q(on), k(on), v(on), None,
            needs=(True, True, True, False), is_causal=True, scale=None,
        )  # fmt: skip
        want = expected(wide, *(x.astype(np.float64) for x in host), causal=True)
        close([x.get() for x in (out, *found[:3])], want, dtype)


@cuda
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize(("heads", "dim"), [(3, 16), (2, 6), (1, 132)])
def test_packed_attention_is_that_of_its_parts(dtype, heads, dim):
    import cupy

    batch, time, width = 2, 37, heads * dim
    if dtype == "float64" or dim == 132:
        time = 5  # these are computed by the defaults
    shapes = (batch, time, width), (batch, time, 3 * width)
    random = np.random.default_rng(3)
    g, packed = (random.standard_normal(s).astype(native(dtype)) for s in shapes)
    split = [
        x.astype(np.float64).reshape(batch, time, -1, heads, dim).transpose(2, 0, 3, 1, 4)
        for x in (g, packed)
    ]
    for causal, scale in ((True, None), (False, 0.2)):
        on = cupy.asarray(packed)
        merged, aux = kernels().attention_packed(on, heads, is_causal=causal, scale=scale)
        options = {"num_heads": heads, "is_causal": causal, "scale": scale}
        gp = kernels().attention_packed_vjp(cupy.asarray(g), merged, aux, on, **options)
        out, *grads = expected(split[0][0], *split[1], causal=causal, scale=scale)
        want = [
            out.transpose(0, 2, 1, 3).reshape(batch, time, width),
            np.stack(grads).transpose(1, 3, 0, 2, 4).reshape(batch, time, 3 * width),
        ]
        close([merged.get(), gp.get()], want, dtype, ("merged", "gp"))


@cuda
def test_a_gradient_that_nobody_needs_is_none():
    import cupy

    (g, q, k, v), _ = drawn(*shapes_of(1, 1, 5, 5, 8))
    g, q, k, v = map(cupy.asarray, (g, q, k, v))
    out, aux = kernels().attention(q, k, v, None, is_causal=True, scale=None)
    for needs in product((True, False), repeat=3):
        found = kernels().attention_vjp(
            g, out, aux, q, k, v, None, needs=(*needs, False), is_causal=True, scale=None
        )
        assert [x is not None for x in found] == [*needs, False]


@cuda
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_heads_of_more_than_128_numbers_and_double_precision_take_the_default(dtype):
    dim = 132 if dtype == "float32" else 8
    random = np.random.default_rng(0)
    arrays = [random.standard_normal(s).astype(dtype) for s in shapes_of(1, 2, 5, 5, dim)]
    want = expected(*(x.astype(np.float64) for x in arrays), causal=True)
    close(computed(*arrays, causal=True, own=False), want, dtype)


# ---------------------------------------------------------------- what it costs
def passes(time, dim=4):
    import cupy

    packed = cupy.ones((1, time, 3 * dim), np.float32)
    merged, aux = kernels().attention_packed(packed, 1, is_causal=True)
    return kernels().attention_packed_vjp(merged, merged, aux, packed, num_heads=1, is_causal=True)


@cuda
@emulated
def test_one_launch_forward_and_two_backward_and_nothing_is_waited_for():
    import cuda_emulator

    passes(33)
    with cuda_emulator.count() as c:
        passes(33)
    assert c.launches - 1 == 3  # and one for the ones
    assert (c.library_calls, c.d2h, c.h2d, c.syncs, c.mallocs) == (0, 0, 0, 0, 0)


@cuda
def test_memory_grows_in_proportion_to_time():
    import cupy

    pool, used = cupy.cuda.MemoryPool(), {}
    with cupy.cuda.using_allocator(pool.malloc):
        for time in (256, 512, 1024):
            passes(time)
            used[time] = pool.total_bytes()
            pool.free_all_blocks()
    assert used[512] <= 2.1 * used[256]
    assert used[1024] <= 2.1 * used[512]
    assert used[1024] < 1024 * 1024 * 4 / 8  # where one array of scores would take 4 MiB


# ---------------------------------------------------------------- devices with little shared memory
@cuda
@pytest.mark.parametrize("dim", [64, 128])
def test_smaller_blocks_give_the_same(dim, monkeypatch):
    from tinyxp_cupy import _blocked

    arrays, exact = drawn(*shapes_of(1, 1, 40, 50, dim))
    monkeypatch.setattr(_blocked, "block_rows", lambda length, limit: 16)
    _blocked._kernel.cache_clear()
    try:
        close(computed(*arrays, causal=True), expected(*exact, causal=True))
    finally:
        _blocked._kernel.cache_clear()


SHARED = {"sm_75": 64 << 10, "sm_80": 163 << 10, "sm_86": 99 << 10, "sm_90": 227 << 10}


@pytest.mark.skipif(not find_spec("cupy"), reason="reads the backend's module, which imports CuPy")
@pytest.mark.parametrize("architecture", SHARED)
def test_blocks_fit_into_shared_memory(architecture):
    from tinyxp_cupy import _blocked

    limit = SHARED[architecture]
    rows = {length: _blocked.block_rows(length, limit) for length in (32, 64, 96, 128)}
    assert all(
        _blocked.shared(name, length, n) <= limit for length, n in rows.items() for name in _blocked.KERNELS
    )  # fmt: skip
    assert rows[64] == 64
    assert rows[128] == (16 if architecture == "sm_75" else 32)
    assert [_blocked.head(d) for d in (1, 32, 33, 128)] == [32, 32, 64, 128]


@compiler
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90"])
@pytest.mark.parametrize("length", [32, 64, 96, 128])
def test_every_length_compiles_and_keeps_its_numbers_in_registers(architecture, length):
    from cupy_backends.cuda.libs import nvrtc

    from tinyxp_cupy import _blocked, _modules

    headers = (Path(p) / "cu13" / "include" for p in find_spec("nvidia").submodule_search_locations)
    include = next((p for p in (*headers, Path("/usr/local/cuda/include")) if (p / "cuda_fp16.h").is_file()), None)  # fmt: skip
    if include is None:
        pytest.skip("needs the headers of CUDA")
    for dtype in _modules.TYPES if architecture == "sm_80" else ["float32"]:
        rows = _blocked.block_rows(length, SHARED[architecture])
        options = (
            *_modules.options(dtype),
            *_blocked.defines(length, rows),
            f"-arch={architecture}",
        )
        program = nvrtc.createProgram(_modules.source("attention"), "attention.cu", (), ())
        nvrtc.compileProgram(
            program, (*options, f"-I{include}", "-ftz=true", "--device-as-default-execution-space", "--ptxas-options=-v")
        )  # fmt: skip
        log = nvrtc.getProgramLog(program)
        assert [int(n) for n in re.findall(r"(\d+) bytes spill stores", log)] == [0] * 3
        assert max(int(n) for n in re.findall(r"Used (\d+) registers", log)) <= 168  # three blocks


# ---------------------------------------------------------------- through the public function
@cuda
def test_gradients_of_the_public_function_are_those_without_kernels():
    random = np.random.default_rng(0)
    arrays = [random.standard_normal((1, 2, 35, 8)).astype(np.float32) for _ in range(3)]
    mask = padding(1, 35)
    results = []
    for fused in (True, False):
        q, k, v = (tinyxp.asarray(x, device="cuda") for x in arrays)
        for t in (q, k, v):
            t.requires_grad = True
        with nullcontext() if fused else tinyxp.use_fused(False):
            out = tinyxp.nn.functional.scaled_dot_product_attention(
                q, k, v, tinyxp.asarray(mask, device="cuda"), is_causal=True
            )
            tinyxp.sum(out * out).backward()
        results.append([np.asarray(x.detach().to("cpu")) for x in (out, q.grad, k.grad, v.grad)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)

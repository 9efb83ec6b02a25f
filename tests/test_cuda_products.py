"""Products by cuBLASLt on a GPU or its emulator, against NumPy's in float64."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from _cuda import emulated

import tinyxp
from tinyxp import dtypes
from tinyxp.errors import DTypeError, ShapeError, TinyxpError

# of a product of some dozens of terms, relative to the norm of the result
LIMITS = {"float64": 1e-13, "float32": 2e-6, "float16": 2e-3, "bfloat16": 1.2e-2}
THREE = ["float32", "float16", "bfloat16"]
SCALE = 0.7978845608028654  # sqrt(2 / pi)


def gelu(u):
    return 0.5 * u * (1 + np.tanh(SCALE * (u + 0.044715 * u**3)))


def slope(u):
    t = np.tanh(SCALE * (u + 0.044715 * u**3))
    return 0.5 * (1 + t) + 0.5 * u * (1 - t * t) * SCALE * (1 + 3 * 0.044715 * u * u)


@pytest.fixture(params=["float64", *THREE])
def kit(request):
    return made(request.param)


@pytest.fixture(params=THREE)
def half_kit(request):
    return made(request.param)


def made(name):
    """Return functions that draw arrays on both sides, and that compare them, for one dtype."""
    import cupy

    from tinyxp_cupy import _lt

    dtype = tinyxp.device("cuda").backend.native_dtype(dtypes.dtype(name))
    random = np.random.default_rng(0)

    def draw(*shape):
        host = random.standard_normal(shape).astype(dtype)
        return cupy.asarray(host), host.astype(np.float64)

    def close(got, want, limit=None):
        got = cupy.asnumpy(got).astype(np.float64)
        assert got.shape == want.shape
        error = np.linalg.norm(got - want) / np.linalg.norm(want)
        assert error < (LIMITS[name] if limit is None else limit)

    def empty(*shape, dtype=dtype):
        out = cupy.empty(shape, dtype)
        out.fill(np.nan)  # nothing is read before it is written
        return out

    return SimpleNamespace(name=name, dtype=dtype, draw=draw, close=close, empty=empty, lt=_lt, cupy=cupy)  # fmt: skip


# ---------------------------------------------------------------- layouts
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (1, 7, 5), (24, 16, 40), (33, 13, 9), (5, 1, 3), (7, 64, 1)])  # fmt: skip
def test_all_layouts_of_factors(kit, m, k, n):
    (a, ha), (at, hat), (b, hb), (bt, hbt) = kit.draw(m, k), kit.draw(k, m), kit.draw(k, n), kit.draw(n, k)  # fmt: skip
    for x, hx in ((a, ha), (at.T, hat.T)):
        for y, hy in ((b, hb), (bt.T, hbt.T)):
            kit.close(kit.lt.matmul(x, y, kit.empty(m, n)), hx @ hy)
            kit.close(kit.lt.matmul(x, y, kit.empty(n, m).T), hx @ hy)


def test_views_of_wider_arrays(kit):
    wide, hwide = kit.draw(30, 48)
    b, hb = kit.draw(16, 20)
    for columns in (slice(0, 16), slice(3, 19), slice(32, 48)):
        kit.close(kit.lt.matmul(wide[:, columns], b), hwide[:, columns] @ hb)
        kit.close(kit.lt.matmul(b.T, wide[:16, columns]), hb.T @ hwide[:16, columns])
    kit.close(kit.lt.matmul(wide[::2, ::3], b), hwide[::2, ::3] @ hb)
    kit.close(kit.lt.matmul(wide[::-1, 15::-1], b), hwide[::-1, 15::-1] @ hb)
    kit.close(kit.lt.matmul(kit.cupy.broadcast_to(wide[0, :16], (5, 16)), b), np.broadcast_to(hwide[0, :16], (5, 16)) @ hb)  # fmt: skip


def test_results_in_views(kit):
    (a, ha), (b, hb) = kit.draw(11, 16), kit.draw(16, 8)
    for place in (np.s_[:, 8:16], np.s_[:, 3:11], np.s_[:, ::2]):
        whole = kit.empty(11, 24) if place[1].step is None else kit.empty(11, 16)
        kit.lt.matmul(a, b, whole[place])
        kit.close(whole[place], ha @ hb)
        untouched = kit.cupy.isnan(whole).sum().item()
        assert untouched == whole.size - 11 * 8


def test_batches(kit):
    q, hq = kit.draw(6, 24, 16)
    w, hw = kit.draw(16, 5)
    kit.close(kit.lt.matmul(q, q.swapaxes(1, 2)), hq @ hq.swapaxes(1, 2))
    kit.close(kit.lt.matmul(q, w), hq @ hw)
    kit.close(kit.lt.matmul(w.T, q.swapaxes(1, 2)), hw.T @ hq.swapaxes(1, 2))
    kit.close(kit.lt.matmul(q[::2], w), hq[::2] @ hw)
    x, hx = kit.draw(2, 7, 3, 8)  # heads as views of what lies side by side
    views, hviews = x.transpose(0, 2, 1, 3), hx.transpose(0, 2, 1, 3)
    kit.close(kit.lt.matmul(views, views.swapaxes(2, 3)), hviews @ hviews.swapaxes(2, 3))
    y, hy = kit.draw(2, 1, 8, 5)
    kit.close(kit.lt.matmul(views, y), hviews @ hy)
    total = kit.cupy.ones((2, 3, 7, 5), kit.dtype)
    kit.close(kit.lt.matmul(views, y, total, beta=1.0), hviews @ hy + 1)


@emulated
def test_rows_of_a_batch_are_one_product():
    import cuda_emulator

    kit = made("bfloat16")
    (x, hx), (w, hw) = kit.draw(2, 3, 7, 8), kit.draw(8, 5)
    for view, host in ((x, hx), (x[:, :, :1], hx[:, :, :1]), (x[:1, 1:], hx[:1, 1:])):
        kit.lt.matmul(view, w)
        with cuda_emulator.count() as counted:
            got = kit.lt.matmul(view, w)
        assert (counted.gemms, counted.launches, counted.d2d) == (1, 0, 0)
        kit.close(got, host @ hw)
    kit.close(kit.lt.matmul(x[:, 1:], w), hx[:, 1:] @ hw)


@emulated
def test_products_of_the_namespace_can_be_captured(half_kit):
    kit, stream = half_kit, half_kit.cupy.cuda.Stream(non_blocking=True)
    xp = tinyxp.device("cuda").xp
    (a, ha), (b, hb) = kit.draw(2, 3, 4), kit.draw(2, 4, 5)
    with stream:
        xp.matmul(a, b)
        stream.begin_capture()
        out = xp.matmul(a, b)
        graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
    kit.close(out, ha @ hb)


def test_addition_to_what_is_there_and_to_another_array(kit):
    (a, ha), (b, hb), (c, hc) = kit.draw(24, 16), kit.draw(16, 40), kit.draw(24, 40)
    kit.close(kit.lt.matmul(a, b, c=c, alpha=0.5, beta=2.0), 0.5 * ha @ hb + 2 * hc)
    kit.close(c, hc, 0.0 + 1e-30)
    kit.close(kit.lt.matmul(a, b, c=c.T.copy().T, beta=1.0), ha @ hb + hc)
    kit.close(kit.lt.matmul(a, b, kit.empty(40, 24).T, c=c, beta=1.0), ha @ hb + hc)
    for out in (c.copy(), c.T.copy().T, kit.cupy.concatenate([c, c], axis=1)[:, 40:]):
        kit.lt.matmul(a, b, out, beta=1.0)
        kit.close(out, ha @ hb + hc)


def test_a_result_not_added_to_is_not_read(kit):
    (a, ha), (b, hb) = kit.draw(3, 4), kit.draw(4, 5)
    kit.close(kit.lt.matmul(a, b, kit.empty(3, 5), c=kit.empty(3, 5)), ha @ hb)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_factors_give_a_float32_result_that_is_not_rounded(name):
    kit = made(name)
    (a, ha), (b, hb) = kit.draw(300, 24), kit.draw(300, 40)
    sums = kit.empty(40, dtype=np.float32)
    out = kit.lt.matmul(a.T, b, epilogue="bgrada", bias=sums, out_dtype=np.float32)
    assert out.dtype == np.float32
    kit.close(out, ha.T @ hb, 2e-6)
    kit.close(sums, hb.sum(0), 2e-6)
    (bias,) = (kit.cupy.asarray(np.arange(40, dtype=np.float32)),)
    kit.close(kit.lt.matmul(a.T, b, epilogue="bias", bias=bias, c=out, beta=1.0, out_dtype=np.float32),
              2 * ha.T @ hb + np.arange(40), 2e-6)  # fmt: skip


def test_empty_products(kit):
    cupy = kit.cupy
    (a, _), (b, _) = kit.draw(0, 4), kit.draw(4, 5)
    assert kit.lt.matmul(a, b).shape == (0, 5)
    sums = kit.empty(5)
    kit.lt.matmul(cupy.zeros((0, 0), kit.dtype), cupy.zeros((0, 5), kit.dtype), epilogue="bgrada", bias=sums)  # fmt: skip
    assert not sums.any()
    none, c = cupy.zeros((3, 0), kit.dtype), cupy.ones((3, 5), kit.dtype)
    assert not kit.lt.matmul(none, cupy.zeros((0, 5), kit.dtype), kit.empty(3, 5)).any()
    assert (kit.lt.matmul(none, none.T.reshape(0, 3)[:, :3], c=c[:, :3].copy(), beta=2.0) == 2).all()  # fmt: skip


# ---------------------------------------------------------------- epilogues
@pytest.fixture(params=["library", "own kernels"])
def way(request):
    """Whether epilogues are the library's or, as where it has none, kernels of ours."""
    from tinyxp_cupy import _lt

    return nullcontext if request.param == "library" else _lt.avoiding


SIZES = [(24, 16, 40), (1, 3, 1), (67, 9, 33), (700, 8, 5)]


@pytest.mark.parametrize(("m", "k", "n"), SIZES)
def test_biases(half_kit, way, m, k, n):
    kit = half_kit
    (x, hx), (w, hw), (b, hb), (c, hc) = kit.draw(m, k), kit.draw(k, n), kit.draw(n), kit.draw(m, n)
    with way():
        kit.close(kit.lt.matmul(x, w, kit.empty(m, n), epilogue="bias", bias=b), hx @ hw + hb)
        kit.close(kit.lt.matmul(x, w, c=c, beta=1.0, epilogue="bias", bias=b), hx @ hw + hc + hb)
        kit.close(kit.lt.matmul(x, w, kit.empty(n, m).T, epilogue="bias", bias=b), hx @ hw + hb)


@pytest.mark.parametrize(("m", "k", "n"), SIZES)
def test_gelu_and_its_derivative(half_kit, way, m, k, n):
    kit = half_kit
    (x, hx), (w, hw), (b, hb) = kit.draw(m, k), kit.draw(k, n), kit.draw(n)
    for bias, hbias in ((b, hb), (None, 0.0)):
        u, aux = hx @ hw + hbias, kit.lt.padded(m, n, kit.dtype)
        epilogue = "gelu_aux" if bias is None else "gelu_aux_bias"
        with way():
            got = kit.lt.matmul(x, w, kit.empty(m, n), epilogue=epilogue, bias=bias, aux=aux)
        kit.close(got, gelu(u), 2 * LIMITS[kit.name])
        kit.close(aux, u)
    (dz, hdz), (w2, hw2) = kit.draw(m, k), kit.draw(n, k)
    want = hdz @ hw2.T * slope(kit.cupy.asnumpy(aux).astype(np.float64))
    sums = kit.empty(n)
    with way():
        kit.close(kit.lt.matmul(dz, w2.T, epilogue="dgelu", aux=aux), want, 2 * LIMITS[kit.name])
        got = kit.lt.matmul(dz, w2.T, kit.empty(m, n), epilogue="dgelu_bgrad", aux=aux, bias=sums)
    kit.close(got, want, 2 * LIMITS[kit.name])
    assert np.abs(kit.cupy.asnumpy(sums).astype(np.float64) - want.sum(0)).max() < LIMITS[kit.name] * np.abs(want).sum(0).max()  # fmt: skip


@pytest.mark.parametrize(("n", "k", "m"), SIZES)
def test_gradients_of_biases(half_kit, way, n, k, m):
    kit = half_kit
    (x, hx), (g, hg) = kit.draw(n, k), kit.draw(n, m)
    for a, b, ha, hb in ((x.T, g, hx.T, hg), (x.T, g[:, ::-1], hx.T, hg[:, ::-1]), (x.T, g.T.copy().T, hx.T, hg)):  # fmt: skip
        for epilogue, size, want in (("bgrada", m, hb.sum(0)), ("bgradb", k, ha.sum(1))):
            for out in (kit.empty(k, m), kit.empty(m, k).T):
                sums = kit.empty(size)
                with way():
                    kit.close(kit.lt.matmul(a, b, out, epilogue=epilogue, bias=sums), ha @ hb)
                bound = LIMITS[kit.name] * np.abs(hb).sum(0).max() + LIMITS[kit.name] * np.abs(ha).sum(1).max()  # fmt: skip
                assert np.abs(kit.cupy.asnumpy(sums).astype(np.float64) - want).max() < bound


def test_gelu_of_extreme_numbers(way):
    kit = made("float32")
    cupy, one = kit.cupy, kit.cupy.ones((1, 1), np.float32)
    u = cupy.asarray([[1e30, -1e30, 80.0, -80.0, 0.0, np.nan, np.inf]], dtype=np.float32)
    aux = kit.lt.padded(1, 7, np.float32)
    with kit.lt.avoiding():
        out = kit.lt.matmul(one, u, epilogue="gelu_aux", aux=aux)
        at = kit.lt.matmul(one, cupy.ones((1, 7), np.float32), epilogue="dgelu", aux=aux)
    np.testing.assert_array_equal(cupy.asnumpy(out)[0, [0, 1, 2, 3, 4, 6]], np.float32([1e30, -0.0, 80, -0.0, 0, np.inf]))  # fmt: skip
    np.testing.assert_array_equal(cupy.asnumpy(at)[0, :5], np.float32([1, 0, 1, 0, 0.5]))
    assert cupy.isnan(out[0, 5])
    assert cupy.isnan(at[0, 5])


def test_an_epilogue_that_the_library_refuses_is_found_once(monkeypatch):
    kit = made("float32")
    from tinyxp_cupy import _cublaslt

    asked, choose = [], _cublaslt.Plan._choose

    def refuse(plan, alignments):
        asked.append(plan)
        return len(asked) != 1 and choose(plan, alignments)

    monkeypatch.setattr(_cublaslt.Plan, "_choose", refuse)
    kit.lt._plan.cache_clear()
    (x, hx), (w, hw), (b, hb) = kit.draw(5, 8), kit.draw(8, 16), kit.draw(16)
    for _ in range(3):
        kit.close(kit.lt.matmul(x, w, epilogue="bias", bias=b), hx @ hw + hb)
    assert len(asked) == 2  # with the epilogue, and without
    kit.lt._plan.cache_clear()


def test_what_lies_badly_is_copied_where_the_library_wants_it_aligned(monkeypatch):
    kit = made("float16")
    from tinyxp_cupy import _cublaslt

    choose = _cublaslt.Plan._choose
    monkeypatch.setattr(
        _cublaslt.Plan, "_choose", lambda plan, at: min(at[:4]) >= 16 and choose(plan, at)
    )
    kit.lt._plan.cache_clear()
    (a, ha), (b, hb), (c, hc) = kit.draw(24, 17), kit.draw(16, 41), kit.draw(24, 41)
    kit.close(kit.lt.matmul(a[:, 1:], b[:, 1:]), ha[:, 1:] @ hb[:, 1:])
    kit.close(kit.lt.matmul(a[:, 1:], b[:, 1:], c[:, 1:], beta=1.0), ha[:, 1:] @ hb[:, 1:] + hc[:, 1:])  # fmt: skip
    kit.lt._plan.cache_clear()
    monkeypatch.setattr(_cublaslt.Plan, "_choose", lambda *_: False)
    with pytest.raises(DTypeError, match=r"no algorithm for float16\[24, 16\] @ float16\[16, 40\]"):
        kit.lt.matmul(a[:, 1:], b[:, 1:])
    kit.lt._plan.cache_clear()


def test_an_algorithm_that_fails_after_all_is_replaced(monkeypatch):
    kit = made("float32")
    from tinyxp_cupy import _cublaslt

    calls, run = [], _cublaslt.Plan.run

    def fail(plan, *args):
        calls.append(args)
        return 15 if args[6] else run(plan, *args)  # what has a bias

    monkeypatch.setattr(_cublaslt.Plan, "run", fail)
    kit.lt._plan.cache_clear()
    (x, hx), (w, hw), (b, hb) = kit.draw(5, 8), kit.draw(8, 16), kit.draw(16)
    for _ in range(3):
        kit.close(kit.lt.matmul(x, w, epilogue="bias", bias=b), hx @ hw + hb)
    assert len(calls) == 4  # the one that failed, and three without bias
    kit.lt._plan.cache_clear()
    monkeypatch.setattr(_cublaslt.Plan, "run", lambda *_: 14)
    with pytest.raises(TinyxpError, match=r"status 14 \(CUBLAS_STATUS_INTERNAL_ERROR\)"):
        kit.lt.matmul(x, w)


# ---------------------------------------------------------------- errors, switches, threads
@pytest.mark.parametrize(
    ("shapes", "options", "error", "text"),
    [
        (((3, 4), (5, 6)), {}, ShapeError, r"\(3, 4\) @ \(5, 6\)"),
        (((3,), (3, 6)), {}, ShapeError, "expects matrices"),
        (((2, 3, 4), (2, 4, 5)), {"epilogue": "bias", "bias": 5}, ShapeError, "expects matrices"),
        (((3, 4), (4, 6)), {"epilogue": "relu"}, ValueError, "epilogue expects one of none, bias"),
        (((3, 4), (4, 6)), {"epilogue": "bias"}, ValueError, "expects a bias"),
        (((3, 4), (4, 6)), {"bias": 6}, ValueError, "has none"),
    ],
)
def test_what_does_not_go_together_is_refused(shapes, options, error, text):
    kit = made("float32")
    if "bias" in options:
        options = {**options, "bias": kit.empty(options["bias"])}
    with pytest.raises(error, match=text):
        kit.lt.matmul(*(kit.empty(*s) for s in shapes), **options)


def test_types_that_do_not_go_together_are_refused():
    kit = made("float32")
    a, half = kit.empty(3, 3), kit.empty(3, 3, dtype=np.float16)
    for x, y, options in ((a, half, {}), (a.astype(np.int32),) * 2 + ({},), (half, half, {"epilogue": "bias", "bias": a[0]})):  # fmt: skip
        with pytest.raises(DTypeError, match="expects"):
            kit.lt.matmul(x, y, **options)


def test_tf32_is_off_until_it_is_asked_for(monkeypatch):
    kit = made("float32")
    from tinyxp_cupy import _cublaslt

    modes, make = [], _cublaslt.Plan._made

    def spy(plan, constructor, *args):
        if constructor == "cublasLtMatmulDescCreate":
            modes.append(args[0])
        return make(plan, constructor, *args)

    monkeypatch.setattr(_cublaslt.Plan, "_made", spy)
    kit.lt._plan.cache_clear()
    (a, ha), (b, hb) = kit.draw(4, 8), kit.draw(8, 4)
    kit.lt.matmul(a, b)
    assert not kit.lt.tf32()
    kit.lt.set_tf32(True)
    try:
        kit.close(kit.lt.matmul(a, b), ha @ hb, 2e-3)
        kit.lt.matmul(a.astype(np.float16), b.astype(np.float16))
        kit.lt.matmul(a.astype(np.float64), b.astype(np.float64))
    finally:
        kit.lt.set_tf32(False)
    assert modes == [68, 77, 68, 70]  # CUBLAS_COMPUTE_32F, 32F_FAST_TF32, 32F, 64F


def test_threads_do_not_share_the_pointers_of_a_plan():
    kit = made("float32")
    (x, hx), (w, hw) = kit.draw(9, 8), kit.draw(8, 16)
    failed = []

    def work(i):
        bias = kit.cupy.full(16, float(i), np.float32)
        for _ in range(200):
            got = kit.lt.matmul(x, w, epilogue="bias", bias=bias)
            if not np.allclose(kit.cupy.asnumpy(got), hx @ hw + i, atol=1e-4):
                failed.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_products_can_be_captured(half_kit):
    kit = half_kit
    (x, hx), (w, hw), (b, hb) = kit.draw(24, 16), kit.draw(16, 40), kit.draw(40)
    out, stream = kit.empty(24, 40), kit.cupy.cuda.Stream(non_blocking=True)
    with stream:
        kit.lt.matmul(x, w, out, epilogue="bias", bias=b)
        out.fill(0)
        stream.begin_capture()
        kit.lt.matmul(x, w, out, epilogue="bias", bias=b)
        graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
    kit.close(out, hx @ hw + hb)


# ---------------------------------------------------------------- kernels beside the products
@emulated
@pytest.mark.parametrize("name", THREE)
def test_kernels_do_not_depend_on_the_order_of_threads_and_keep_to_their_arrays(name):
    import cuda_emulator

    results = []
    for order in (0, 1, 7):
        with cuda_emulator.schedule(order), cuda_emulator.guard():
            results.append(kernels(made(name)))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def kernels(kit):
    """Return what the kernels beside the products make of odd sizes."""
    from tinyxp_cupy._epilogues import column_sums
    from tinyxp_cupy._fused._copies import Copies, converted, split

    found = []
    for n, m in ((1, 1), (700, 33), (65, 7)):
        x, hx = kit.draw(n, m)
        sums = kit.empty(m, dtype=np.float32)
        column_sums(x, sums)
        kit.close(sums, hx.sum(0), 1e-5 * np.sqrt(n))
        aux = kit.lt.padded(n, m, kit.dtype)
        (a, _), (b, _) = kit.draw(n, 3), kit.draw(3, m)
        with kit.lt.avoiding():
            z = kit.lt.matmul(a, b, epilogue="gelu_aux_bias", bias=x[0].copy(), aux=aux)
            dz = kit.lt.matmul(a, b, epilogue="dgelu_bgrad", bias=kit.empty(m), aux=aux)
        copies = Copies(kit.dtype, kit.dtype)
        joined = copies.join([x, aux, dz])
        copies.run()
        np.testing.assert_array_equal(*map(kit.cupy.asnumpy, (joined, kit.cupy.concatenate([x, aux, dz], axis=1))))  # fmt: skip
        for part, whole in zip(split([joined], [[True] * 3])[0], (x, aux, dz), strict=True):
            np.testing.assert_array_equal(kit.cupy.asnumpy(part), kit.cupy.asnumpy(whole))
        for dtype in (np.float32, np.float16):
            other = converted(x, dtype)
            np.testing.assert_array_equal(kit.cupy.asnumpy(other), kit.cupy.asnumpy(x).astype(np.float32).astype(dtype))  # fmt: skip
        found += [kit.cupy.asnumpy(y) for y in (sums, z, dz, joined)]
    return found

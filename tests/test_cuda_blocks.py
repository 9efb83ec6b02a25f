"""What consists of products, on a GPU or its emulator: linear, mlp, self-attention, the transformer block."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from _cuda import emulated

import tinyxp
from tinyxp import dtypes, nn
from tinyxp.ops import fused

THREE = ["float32", "float16", "bfloat16"]


def cotangents(name, arrays, options, *, dtype="float32", device="cuda"):
    """Return the value of a fused operation and its gradients, in float64 on the host."""
    ts = [
        None if a is None else tinyxp.asarray(a, device=device).to(dtype).requires_grad_()
        for a in arrays
    ]
    out = getattr(fused, name)(*ts, **options)
    g = tinyxp.asarray(np.random.default_rng(9).standard_normal(out.shape), device=device).to(out.dtype)  # fmt: skip
    leaves = [t for t in ts if t is not None]
    found = tinyxp.autograd.grad([out], leaves, [g])
    assert out.dtype == leaves[0].dtype
    assert [f.dtype for f in found] == [t.dtype for t in leaves]
    return [t.detach().numpy().astype(np.float64) for t in (out, *found)]


def compare(name, shapes, options=None, *, dtype="float32", compute=None):
    random = np.random.default_rng(3)
    arrays = [None if s is None else random.standard_normal(s) / (s[0] ** 0.5 if len(s) == 2 else 1) for s in shapes]  # fmt: skip
    if dtype != "float32":
        half = tinyxp.device("cuda").backend.native_dtype(dtypes.dtype(dtype))
        arrays = [None if a is None else a.astype(half).astype(np.float64) for a in arrays]
    options = options or {}
    want = cotangents(name, arrays, options, dtype="float64", device="cpu")
    got = cotangents(name, arrays, {**options, **({"compute": compute} if compute else {})}, dtype=dtype)  # fmt: skip
    limit = {"float32": 3e-6, "float16": 1e-2, "bfloat16": 8e-2}[compute or dtype]
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert a.shape == b.shape
        error, norm = np.linalg.norm(a - b), np.linalg.norm(b)
        # Queries and keys of one position, and biases of keys, have no gradient: what comes is noise.
        scale = norm if norm > 1e-9 else np.linalg.norm(want[0])
        assert error < limit * scale, (name, i, error, scale)


@pytest.mark.parametrize("dtype", THREE)
@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 3, 4), (4, 5), (5,)),
        ((7, 16), (16, 65), None),
        ((13,), (13, 3), (3,)),
        ((130, 9), (9, 1), (1,)),
    ],
)
def test_linear(dtype, shapes):
    compare("linear", shapes, dtype=dtype)


@pytest.mark.parametrize("dtype", THREE)
@pytest.mark.parametrize("form", ["tanh", "none", "sigmoid"])
@pytest.mark.parametrize("biases", [True, False])
def test_mlp(dtype, form, biases):
    bias1, bias2 = ((13,), (5,)) if biases else (None, None)
    compare("mlp", ((2, 6, 9), (9, 13), bias1, (13, 5), bias2), {"approximate": form}, dtype=dtype)


@pytest.mark.parametrize("form", ["tanh", "none", "sigmoid"])
def test_a_bias_may_be_a_view_with_gaps(form):
    random, found = np.random.default_rng(4), []
    arrays = [random.standard_normal(n) for n in ((6, 9), (9, 13), 26, (13, 5), 10)]
    for device in ("cpu", "cuda"):
        x, weight1, bias1, weight2, bias2 = (tinyxp.asarray(a, device=device).to("float32") for a in arrays)  # fmt: skip
        out = fused.mlp(x, weight1, bias1[::2], weight2, bias2[::2], approximate=form)
        found.append(out.numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("compute", ["float16", "bfloat16"])
@pytest.mark.parametrize("form", ["tanh", "none"])
@pytest.mark.parametrize("biases", [True, False])
def test_mlp_in_half_precision_inside(compute, form, biases):
    bias1, bias2 = ((16,), (8,)) if biases else (None, None)
    shapes = ((2, 6, 8), (8, 16), bias1, (16, 8), bias2)
    compare("mlp", shapes, {"approximate": form}, compute=compute)


@pytest.mark.parametrize("dtype", THREE)
@pytest.mark.parametrize("biases", [True, False])
def test_self_attention(dtype, biases):
    bias, out_bias = ((12,), (7,)) if biases else (None, None)
    shapes = ((2, 5, 10), *((10, 12), bias) * 3, (12, 7), out_bias)
    compare("self_attention", shapes, {"num_heads": 3, "is_causal": True}, dtype=dtype)


BLOCK = ((16,), (16,), *((16, 16), (16,)) * 4, (16,), (16,), (16, 40), (40,), (40, 16), (16,))
OPTIONS = {"num_heads": 2, "is_causal": True, "eps": 1e-5, "approximate": "tanh"}


@pytest.mark.parametrize("dtype", THREE)
@pytest.mark.parametrize("lead", [(2, 5), (1, 1), (3, 33)])
def test_transformer_block(dtype, lead):
    compare("transformer_block", ((*lead, 16), *BLOCK), OPTIONS, dtype=dtype)


@pytest.mark.parametrize("compute", ["float16", "bfloat16"])
@pytest.mark.parametrize("form", ["tanh", "none"])
def test_parts_of_a_block_in_half_precision_inside(compute, form):
    compare("transformer_block", ((2, 9, 16), *BLOCK), {**OPTIONS, "approximate": form}, compute=compute)  # fmt: skip
    shapes = ((2, 9, 16), *BLOCK[2:10])
    compare("self_attention", shapes, {"num_heads": 2, "is_causal": False}, compute=compute)


@pytest.mark.parametrize("own", [True, False])
def test_a_block_by_own_epilogues_and_by_the_library_is_the_same(own):
    from tinyxp_cupy import _lt

    with _lt.avoiding() if own else nullcontext():
        compare("transformer_block", ((2, 9, 16), *BLOCK), OPTIONS)
        compare("transformer_block", ((2, 9, 16), *BLOCK), OPTIONS, compute="bfloat16")


@pytest.mark.parametrize("name", ["linear", "mlp", "self_attention", "transformer_block"])
def test_only_what_is_needed_is_computed(name):
    """Each gradient alone is what it is among all."""
    shapes, options = {
        "linear": (((5, 8), (8, 16), (16,)), {}),
        "mlp": (((5, 8), (8, 16), (16,), (16, 8), (8,)), {"approximate": "tanh"}),
        "self_attention": (((2, 5, 16), *BLOCK[2:10]), {"num_heads": 2, "is_causal": True}),
        "transformer_block": (((2, 5, 16), *BLOCK), OPTIONS),
    }[name]
    random, device = np.random.default_rng(0), tinyxp.device("cuda")
    arrays = [device.backend.asarray(random.standard_normal(s).astype(np.float32), device=device) for s in shapes]  # fmt: skip
    kernels = device.backend.kernels
    out, aux = getattr(kernels, name)(*arrays, **options)
    g = device.xp.ones_like(out)
    vjp = getattr(kernels, f"{name}_vjp")
    every = vjp(g, out, aux, *arrays, needs=(True,) * len(arrays), **options)
    for i, whole in enumerate(every):
        needs = tuple(j == i for j in range(len(arrays)))
        found = vjp(g, out, aux, *arrays, needs=needs, **options)
        assert [f is not None for f in found] == list(needs)
        np.testing.assert_allclose(device.backend.to_numpy(found[i]), device.backend.to_numpy(whole), rtol=1e-5, atol=1e-5)  # fmt: skip


@emulated
def test_a_tied_weight_is_not_copied():
    import cuda_emulator

    table = tinyxp.ones((40, 16), device="cuda").requires_grad_()
    x = tinyxp.ones((8, 16), device="cuda").requires_grad_()

    def step():
        return tinyxp.autograd.grad([nn.functional.linear(x, table.mT)], [x, table], [g])

    g = tinyxp.ones((8, 40), device="cuda")
    step()
    with cuda_emulator.count() as counted:
        gx, gtable = step()
    assert (counted.library_calls, counted.d2d) == (3, 0)
    assert (
        counted.launches == 1
    )  # what the view's rule hands on is copied, for a gradient owns its memory
    assert gtable.shape == (40, 16)
    assert gx.tolist() == [[40.0] * 16] * 8
    assert gtable.tolist() == [[8.0] * 16] * 40

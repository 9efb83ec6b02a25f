"""Attention: against PyTorch with every kind of mask, and what is special about masks."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyxp import nn
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.nn import functional

BATCH, HEADS, TIME, SIZE = 2, 3, 5, 4


def normal(xp, *shape, seed=0):
    return xp.random.Generator(seed).normal(shape, dtype="float64")


def visible(xp, *shape):
    """A bool mask of any shape in which every query sees some key."""
    mask = xp.random.Generator(4).uniform(shape) < 0.6
    return mask | (xp.arange(TIME) == 0)


MASKS = {
    "none": lambda xp: None,
    "bool 2-D": lambda xp: visible(xp, TIME, TIME),
    "bool 4-D": lambda xp: visible(xp, BATCH, HEADS, TIME, TIME),
    "keys of each sequence": lambda xp: visible(xp, BATCH, 1, 1, TIME),
    "each head": lambda xp: visible(xp, 1, HEADS, TIME, TIME),
    "additive": lambda xp: normal(xp, TIME, TIME, seed=6),
    "additive 4-D": lambda xp: normal(xp, BATCH, HEADS, TIME, TIME, seed=6),
    "minus infinity": lambda xp: xp.where(visible(xp, TIME, TIME), 0.0, -math.inf).to("float64"),
}


def to_torch(torch, t):
    if t is None:
        return None
    dtype = torch.bool if t.dtype == "bool" else torch.float64
    return torch.tensor(t.detach().tolist(), dtype=dtype)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("scale", [None, 0.7])
def test_equals_torch_with_every_kind_of_mask(xp, name, scale):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours = [normal(xp, BATCH, HEADS, TIME, SIZE, seed=i).requires_grad_() for i in range(3)]
    theirs = [to_torch(torch, t).requires_grad_() for t in ours]
    mask = MASKS[name](xp)
    their_mask = to_torch(torch, mask)
    learnt = mask is not None and mask.dtype == "float64" and name.startswith("additive")
    if learnt:
        mask.requires_grad_()
        their_mask.requires_grad_()
        ours, theirs = [*ours, mask], [*theirs, their_mask]
    out = functional.scaled_dot_product_attention(*ours[:3], mask, scale=scale)
    expected = torch.nn.functional.scaled_dot_product_attention(
        *theirs[:3], attn_mask=their_mask, scale=scale
    )
    weights = normal(xp, *out.shape, seed=8)
    xp.sum(out * weights).backward()
    (expected * to_torch(torch, weights)).sum().backward()
    found = [out.detach(), *[t.grad for t in ours]]
    wanted = [expected.detach(), *[t.grad for t in theirs]]
    for f, w in zip(found, wanted, strict=True):
        assert float(xp.max(xp.abs(f - xp.asarray(w.tolist(), dtype="float64")))) < 1e-12


def test_causal_equals_torch(xp):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    q, k, v = (normal(xp, BATCH, HEADS, TIME, SIZE, seed=i) for i in range(3))
    out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *(to_torch(torch, t) for t in (q, k, v)), is_causal=True
    )
    assert float(xp.max(xp.abs(out - xp.asarray(theirs.tolist(), dtype="float64")))) < 1e-13


def test_fewer_queries_than_keys_are_the_last_ones(xp):
    q, k, v = (normal(xp, 1, 1, TIME, SIZE, seed=i) for i in range(3))
    full = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    last = functional.scaled_dot_product_attention(q[:, :, -2:, :], k, v, is_causal=True)
    assert float(xp.max(xp.abs(last - full[:, :, -2:, :]))) < 1e-14


@pytest.mark.parametrize("kind", ["bool", "int64", "float64", "minus infinity"])
def test_a_query_that_sees_nothing_gives_zeros_and_no_gradient(xp, kind):
    q, k, v = (normal(xp, 1, TIME, SIZE, seed=i).requires_grad_() for i in range(3))
    mask = xp.arange(TIME)[:, None] != 2  # the third query is blind
    mask = mask & (xp.arange(TIME) >= 0)
    if kind == "minus infinity":
        mask = xp.where(mask, 0.0, -math.inf)
    elif kind != "bool":
        mask = mask.to(kind)
    out = functional.scaled_dot_product_attention(q, k, v, mask)
    out.sum().backward()
    assert out[0, 2].tolist() == [0.0] * SIZE
    assert q.grad[0, 2].tolist() == [0.0] * SIZE
    assert all(bool(xp.all(xp.isfinite(t))) for t in (out, q.grad, k.grad, v.grad))
    assert float(xp.min(xp.sum(xp.abs(out[0, :2]), axis=-1))) > 0


def test_everything_hidden_gives_zeros(xp):
    q = normal(xp, 1, TIME, SIZE).requires_grad_()
    out = functional.scaled_dot_product_attention(q, q, q, xp.zeros((TIME, TIME), dtype="bool"))
    out.sum().backward()
    assert not bool(xp.any(out))
    assert not bool(xp.any(q.grad))


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "float64"])
def test_masks_of_0_and_1_mean_hidden_and_visible(xp, dtype):
    """The lower triangle that TinyTorch's create_causal_mask makes."""
    q, k, v = (normal(xp, 1, TIME, SIZE, seed=i) for i in range(3))
    triangle = xp.tril(xp.ones((TIME, TIME), dtype="int64"))
    out = functional.scaled_dot_product_attention(q, k, v, triangle.to(dtype))
    causal = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert float(xp.max(xp.abs(out - causal))) < 1e-14


def test_a_floating_mask_of_zeros_hides_nothing(xp):
    q = normal(xp, 1, TIME, SIZE)
    plain = functional.scaled_dot_product_attention(q, q, q)
    out = functional.scaled_dot_product_attention(q, q, q, xp.zeros((TIME, TIME)))
    assert out.tolist() == plain.tolist()


def test_a_learnt_mask_of_0_and_1_is_added(xp):
    q = normal(xp, 1, 2, SIZE)
    mask = xp.asarray([[0.0, 1.0], [1.0, 0.0]], dtype="float64").requires_grad_()
    out = functional.scaled_dot_product_attention(q, q, q, mask)
    shifted = functional.scaled_dot_product_attention(q, q, q, mask.detach() + 1e-9)
    assert float(xp.max(xp.abs(out - shifted))) < 1e-8
    out.sum().backward()
    assert float(xp.max(xp.abs(mask.grad))) > 0


def test_masks_that_mean_nothing_are_refused(xp):
    q = normal(xp, 1, TIME, SIZE)
    attend = functional.scaled_dot_product_attention
    with pytest.raises(ValueError, match=r"holds only 0 \(hidden\) and 1 \(visible\)"):
        attend(q, q, q, xp.full((TIME, TIME), -(10**9)))
    with pytest.raises(DTypeError, match="complex64"):
        attend(q, q, q, xp.ones((TIME, TIME), dtype="complex64"))
    with pytest.raises(ShapeError, match=r"queries, keys\) = \(1, 5, 5\); got shape \(4, 4\)"):
        attend(q, q, q, xp.ones((4, 4), dtype="bool"))
    with pytest.raises(ShapeError, match="must broadcast"):
        attend(q, q, q, xp.ones((2, 1, TIME, TIME), dtype="bool"))


def test_shapes_that_do_not_fit_are_refused(xp):
    with pytest.raises(ShapeError, match=r"got shapes \(1, 5, 4\), \(1, 5, 3\) and \(1, 5, 4\)"):
        functional.scaled_dot_product_attention(
            xp.ones((1, 5, 4)), xp.ones((1, 5, 3)), xp.ones((1, 5, 4))
        )


@settings(deadline=None, max_examples=30)
@given(
    queries=st.integers(1, 4),
    keys=st.integers(1, 4),
    leading=st.lists(st.integers(1, 2), max_size=2).map(tuple),
    causal=st.booleans(),
    seed=st.integers(0, 9),
)
def test_every_output_is_an_average_of_values_or_zero(queries, keys, leading, causal, seed):
    import tinyxp as xp

    random = xp.random.Generator(seed)
    q = random.normal((*leading, queries, 3), std=9, dtype="float64")
    k = random.normal((*leading, keys, 3), std=9, dtype="float64")
    mask = random.uniform((queries, keys)) < 0.5
    out = functional.scaled_dot_product_attention(
        q, k, xp.ones((*leading, keys, 2), dtype="float64"), mask, is_causal=causal
    )
    seen = mask
    if causal:
        seen = seen & (xp.arange(keys) <= xp.arange(queries)[:, None] + keys - queries)
    expected = xp.any(seen, axis=-1).to("float64")[:, None]
    assert float(xp.max(xp.abs(out - expected))) < 1e-12


# ---------------------------------------------------------------- the module
def module(seed=0, **options):
    import tinyxp

    tinyxp.manual_seed(seed)
    return nn.MultiHeadAttention(HEADS * SIZE, HEADS, dtype="float64", **options)


def test_multi_head_attention_equals_torch(xp):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours = module()
    xp.manual_seed(1)
    for p in ours.parameters():
        nn.init.normal_(p, std=0.5)
    width = HEADS * SIZE
    theirs = torch.nn.MultiheadAttention(width, HEADS, batch_first=True, dtype=torch.float64)
    parts = [getattr(ours, f"{name}_proj") for name in "qkv"]
    with torch.no_grad():
        for i, part in enumerate(parts):
            rows = slice(i * width, (i + 1) * width)
            theirs.in_proj_weight[rows] = to_torch(torch, part.weight).T
            theirs.in_proj_bias[rows] = to_torch(torch, part.bias)
        theirs.out_proj.weight[:] = to_torch(torch, ours.out_proj.weight).T
        theirs.out_proj.bias[:] = to_torch(torch, ours.out_proj.bias)
    x = normal(xp, BATCH, TIME, width)
    mask = visible(xp, TIME, TIME)
    t = to_torch(torch, x)
    expected, _ = theirs(t, t, t, attn_mask=~to_torch(torch, mask), need_weights=False)
    out = ours(x, mask)
    assert float(xp.max(xp.abs(out - xp.asarray(expected.tolist(), dtype="float64")))) < 1e-12
    out.sum().backward()
    expected.sum().backward()
    grads = theirs.in_proj_weight.grad.reshape(3, width, width)
    for part, grad in zip(parts, grads, strict=True):
        wanted = xp.asarray(grad.T.tolist(), dtype="float64")
        assert float(xp.max(xp.abs(part.weight.grad - wanted))) < 1e-11


def test_parameters_are_q_k_v_and_out_in_this_order(xp):
    expected = [f"{p}_proj.{kind}" for p in ("q", "k", "v", "out") for kind in ("weight", "bias")]
    assert [name for name, _ in module().named_parameters()] == expected
    assert len(module(bias=False).parameters()) == 4
    assert module().head_dim == SIZE


def test_masks_of_2_3_and_4_axes_mean_the_same(xp):
    attention = module()
    x = normal(xp, BATCH, TIME, HEADS * SIZE)
    mask = visible(xp, TIME, TIME)
    plain = attention(x, mask)
    for same in (
        mask[None],
        xp.broadcast_to(mask, (BATCH, TIME, TIME)),
        mask[None, None],
        xp.broadcast_to(mask, (BATCH, HEADS, TIME, TIME)),
        mask.to("float32"),
        mask.to("int64").tolist(),
        xp.where(mask, 0.0, -1e9),
    ):
        assert float(xp.max(xp.abs(attention(x, same) - plain))) < 1e-13
    assert float(xp.max(xp.abs(attention(x) - plain))) > 1e-3


def test_a_mask_of_three_axes_belongs_to_the_batch(xp):
    attention = module()
    x = normal(xp, BATCH, TIME, HEADS * SIZE)
    masks = visible(xp, BATCH, TIME, TIME)
    out = attention(x, masks)
    for i in range(BATCH):
        alone = attention(x[i : i + 1], masks[i])
        assert float(xp.max(xp.abs(out[i] - alone[0]))) < 1e-13
    with pytest.raises(ShapeError, match=r"batch 1 or 2; got shape \(3, 5, 5\)"):
        attention(x, visible(xp, HEADS, TIME, TIME))


def test_no_position_sees_later_ones_when_causal(xp):
    attention = module()
    x = normal(xp, 1, TIME, HEADS * SIZE)
    changed = xp.concat([x[:, :-1], x[:, -1:] + 5], axis=1)
    before, after = attention(x, is_causal=True), attention(changed, is_causal=True)
    assert float(xp.max(xp.abs((before - after)[:, :-1]))) == 0.0
    assert float(xp.max(xp.abs((before - after)[:, -1]))) > 1e-3


def test_a_sequence_without_batch(xp):
    attention = module()
    x = normal(xp, TIME, HEADS * SIZE)
    assert attention(x, is_causal=True).tolist() == attention(x[None], is_causal=True)[0].tolist()


def test_a_cache_gives_the_same_as_all_at_once(xp):
    attention = module()
    x = normal(xp, BATCH, TIME, HEADS * SIZE)
    cache = nn.KVCache((BATCH, HEADS, TIME, SIZE), dtype="float64")
    with xp.no_grad():
        parts = [
            attention(x[:, a:b], is_causal=True, cache=cache) for a, b in ((0, 2), (2, 3), (3, 5))
        ]
        full = attention(x, is_causal=True)
    assert float(xp.max(xp.abs(xp.concat(parts, axis=1) - full))) < 1e-13
    with (
        pytest.raises(ShapeError, match="holds 5 positions, 5 are filled, and 1 more do not fit"),
        xp.no_grad(),
    ):
        attention(x[:, :1], cache=cache)


def test_sizes_that_do_not_fit_are_explained(xp):
    with pytest.raises(ShapeError, match=r"embed_dim=10 cannot be split into num_heads=3"):
        nn.MultiHeadAttention(10, 3)
    with pytest.raises(ValueError, match="num_heads=0"):
        nn.MultiHeadAttention(10, 0)
    with pytest.raises(ShapeError, match=r"embed_dim=12\); got \(2, 5, 7\)"):
        module()(xp.ones((2, 5, 7)))


@pytest.mark.parametrize("fused", [True, False])
def test_the_block_is_two_residual_branches(xp, backend, fused):
    xp.manual_seed(0)
    block = nn.TransformerBlock(8, 2)
    names = [name for name, _ in block.named_parameters()]
    assert len(names) == 16
    assert [n.partition(".")[0] for n in names] == ["attention"] * 8 + ["ln1"] * 2 + ["ln2"] * 2 + [
        "mlp"
    ] * 4
    x = normal(xp, 1, 3, 8).to("float32")
    with xp.use_fused(fused):
        h = x + block.attention(block.ln1(x), is_causal=True)
        parts = h + block.mlp(block.ln2(h))
        difference = xp.max(xp.abs(block(x, is_causal=True) - parts))
    # cuBLASLt adds the residual before it rounds; all else is the same bits
    assert float(difference) <= (1e-6 if fused and backend.name == "cupy" else 0.0)
    assert nn.TransformerBlock(8, 2, mlp_ratio=2).mlp.hidden_dim == 16

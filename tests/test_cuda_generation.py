"""Generation on a GPU or its emulator: the step, sampling without sorting, and a host that does not wait."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from _cuda import ORDERS, cupy, emulated, in_order, native

import tinyxp
from tinyxp.backend import get_backend
from tinyxp.models import GPT, Sampler

TOLERANCE = {"float32": 2e-5, "float16": 2e-2, "bfloat16": 1e-1}


@pytest.fixture
def kernels():
    return get_backend("cupy").xp


# ---------------------------------------------------------------- sampling
def logits(seed, shape, *, rounded=False, hidden=False, dtype="float32"):
    x = np.random.default_rng(seed).standard_normal(shape) * 3
    if rounded:  # many that are equal
        x = x.round()
    if hidden:
        x[:, ::3] = -np.inf
    return tinyxp.asarray(x, dtype="float32", device="cuda").to(dtype)


@pytest.mark.parametrize("top_k", [None, 1, 5, 30, 10_000])
@pytest.mark.parametrize("top_p", [None, 1.0, 0.9, 0.3, 0.01])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_same_tokens_as_on_the_cpu(temperature, top_k, top_p):
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    for i, shape in enumerate([(3, 50), (2, 1500), (1, 7), (2, 1)]):
        for form in ({}, {"rounded": True}, {"hidden": shape != (2, 1)}):
            x = logits(i, shape, **form)
            assert (
                Sampler(**options, seed=i)(x).tolist()
                == Sampler(**options, seed=i)(x.cpu()).tolist()
            )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_widened_first(dtype):
    x = logits(0, (8, 400), dtype=dtype)
    options = {"top_k": 40, "top_p": 0.95, "seed": 1}
    wide = x.to("float32")
    assert Sampler(**options)(x).tolist() == Sampler(**options)(wide.cpu()).tolist()


def test_a_vocabulary_of_100_000():
    x = logits(0, (2, 100_003))
    for options in ({"top_k": 50}, {"top_p": 0.9}, {}):
        assert (
            Sampler(**options, seed=3)(x).tolist() == Sampler(**options, seed=3)(x.cpu()).tolist()
        )


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_threads_changes_nothing(order):
    x = logits(0, (5, 3000))
    with in_order(order):
        got = Sampler(top_k=100, top_p=0.8, seed=2)(x).tolist()
    assert got == Sampler(top_k=100, top_p=0.8, seed=2)(x.cpu()).tolist()


def test_the_largest_is_the_first_of_those_that_are_equal():
    rows = [[0.0, 2.0, 2.0], [math.nan, 5.0, 6.0], [-0.0, 0.0, -1.0], [-math.inf] * 3]
    x = tinyxp.asarray(rows, device="cuda")
    assert Sampler(0)(x).tolist() == [1, 0, 0, 0]
    assert Sampler(0)(x[:1, ::2]).tolist() == [1]  # not one after the other in memory


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_say_nothing_give_a_token_all_the_same(value):
    x = tinyxp.full((2, 5), value, device="cuda")
    for options in ({}, {"top_k": 2}, {"top_p": 0.5}):
        assert (
            Sampler(**options, seed=0)(x).tolist() == Sampler(**options, seed=0)(x.cpu()).tolist()
        )


def test_frequencies_follow_the_probabilities():
    """Chi-squared with 3 degrees of freedom stays below 16.3 in 999 of 1000 runs."""
    probabilities = np.array([0.1, 0.2, 0.3, 0.4])
    x = tinyxp.asarray(np.tile(np.log(probabilities), (600, 1)), dtype="float32", device="cuda")
    counts = np.bincount(Sampler(seed=0)(x).numpy(), minlength=4)
    want = 600 * probabilities
    assert ((counts - want) ** 2 / want).sum() < 16.3


@emulated
def test_a_token_is_one_launch_and_nobody_waits():
    import cuda_emulator

    x, sampler = logits(0, (4, 1000)), Sampler(top_k=20, top_p=0.9, seed=0)
    sampler(x)
    with cuda_emulator.count() as counted:
        sampler(x)
    assert counted.launches == 1
    assert counted.d2h == counted.h2d == counted.syncs == counted.mallocs == 0


def test_draws_counted_on_the_device_are_the_same(kernels):
    random = tinyxp.random.Generator(5)
    x = logits(0, (3, 200))._raw
    options = {"temperature": 0.8, "top_k": None, "top_p": 0.9}
    drawing, position = cupy.asarray([*random._key, 0]), cupy.asarray([4])
    for i in range(3):
        got = kernels.sample(x, drawing, **options)
        cupy.testing.assert_array_equal(got, kernels.sample(x, random.next_key(), **options))
        kernels.advance(position, drawing)
        assert position.tolist() == [5 + i]
        assert int(drawing[2]) == i + 1


# ---------------------------------------------------------------- the step
def block(sizes, dtype="float32"):
    """Arguments of `transformer_step`, on the device, for (batch, heads, capacity, depth, hidden)."""
    batch, heads, capacity, depth, hidden = sizes
    random = np.random.default_rng(batch)

    def draw(*shape):
        return cupy.asarray(random.standard_normal(shape) / math.sqrt(shape[0])).astype(
            native(dtype)
        )

    width = heads * depth
    square, row = (width, width), (width,)
    shapes = [*[square, row] * 4, *[row] * 4, (width, hidden), (hidden,), (hidden, width), row]
    caches = [draw(batch, heads, capacity, depth) for _ in range(2)]
    return [draw(batch, width), tuple(draw(*s) for s in shapes), *caches]


def copied(args):
    x, arrays, keys, values = args
    return [x.copy(), arrays, keys.copy(), values.copy()]


def wide(args):
    x, arrays, keys, values = args
    return [
        x.astype(float),
        tuple(a.astype(float) for a in arrays),
        keys.astype(float),
        values.astype(float),
    ]


CASES = [
    ((1, 2, 4, 8, 16), 0, False),
    ((3, 3, 300, 5, 7), 299, False),
    ((5, 2, 300, 64, 130), 140, True),
    ((2, 1, 9, 160, 33), 3, True),
]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("sizes", "start", "masked"), CASES)
def test_the_step_is_the_default_in_float64(kernels, dtype, sizes, start, masked):
    args = block(sizes, dtype)
    mask = None
    if masked:
        batch, _, capacity, *_ = sizes
        mask = cupy.arange(capacity) >= cupy.arange(batch)[:, None, None, None]
    for form, order in zip(("tanh", "none", "sigmoid"), ORDERS, strict=True):
        options = {"start": start, "eps": 1e-5, "approximate": form}
        exact, ours = wide(args), copied(args)
        ours[2][:, :, start:] = ours[3][:, :, start:] = math.nan  # nobody has written there
        want = kernels.plain_transformer_step(*exact, mask, **options)
        with in_order(order):
            got = kernels.transformer_step(*ours, mask, **options)
        limit = TOLERANCE[dtype]
        for a, b in ((got, want), (ours[2][:, :, : start + 1], exact[2][:, :, : start + 1])):
            np.testing.assert_allclose(
                a.astype(float).get(), b.get(), rtol=limit, atol=limit * float(abs(b).max())
            )
        assert cupy.isnan(ours[2][:, :, start + 1 :].astype(float)).all()  # and still has not


def test_the_position_may_stand_on_the_device(kernels):
    args = block((2, 2, 200, 8, 32))
    options = {"eps": 1e-5, "approximate": "tanh"}
    first, second = copied(args), copied(args)
    want = kernels.transformer_step(*first, None, start=150, **options)
    got = kernels.transformer_step(*second, None, start=cupy.asarray([150]), **options)
    cupy.testing.assert_array_equal(got, want)
    cupy.testing.assert_array_equal(second[2], first[2])


def test_a_row_that_may_look_at_nothing_mixes_nothing(kernels):
    args = block((2, 2, 6, 4, 8))
    mask = cupy.zeros((2, 1, 1, 6), bool)
    options = {"start": 3, "eps": 1e-5, "approximate": "tanh"}
    exact = wide(args)
    got = kernels.transformer_step(*args, mask, **options)
    want = kernels.plain_transformer_step(*exact, mask, **options)
    np.testing.assert_allclose(got.get(), want.get(), rtol=1e-5, atol=1e-5)


@emulated
def test_a_block_is_five_launches_that_stay_inside_their_arrays(kernels):
    import cuda_emulator

    with cuda_emulator.guard():
        args = block((3, 2, 131, 11, 35))
        options = {"start": 130, "eps": 1e-5, "approximate": "none"}
        with cuda_emulator.count() as counted:
            kernels.transformer_step(*args, None, **options)
    assert counted.launches == 5
    assert counted.library_calls == counted.d2h == counted.h2d == counted.syncs == 0


# ---------------------------------------------------------------- generation
WINDOW = 14


@pytest.fixture(scope="module")
def models():
    """The same model on the GPU and on the CPU, with weights that leave no near ties."""
    there = GPT(41, 16, 2, 2, WINDOW, seed=0, device="cuda")
    for p in there.parameters():
        if p.ndim > 1:
            tinyxp.nn.init.normal_(p, std=0.3, generator=tinyxp.random.Generator(p.size))
    here = GPT(41, 16, 2, 2, WINDOW, seed=0, device="cpu")
    here.load_state_dict(there.state_dict())
    return there, here


MANY = list(range(5, 30))
WAYS = [
    {"temperature": 0},
    {"top_k": 10, "top_p": 0.9, "seed": 3},
    {"seed": 4, "eos": 7},
    {"seed": 4, "eos": MANY},
]


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("count", [1, 2, 17])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_same_text_as_on_the_cpu(models, way, count, graph):
    there, here = models
    prompt = [[1, 2, 3], [4, 5, 6]]
    got = there.generate(prompt, count, graph=graph, **way)
    assert got.device == "cuda"
    assert got.tolist() == here.generate(prompt, count, **way).tolist()


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_prompts_of_unequal_lengths(models, graph):
    there, here = models
    prompts = [[1, 2, 3, 4, 5], [6], [7, 8, 9]]
    got = there.generate(prompts, 15, seed=0, graph=graph).tolist()
    assert got == here.generate(prompts, 15, seed=0).tolist()


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_more_sequences_than_the_kernels_are_for(models, graph):
    """Products of the library win there, but they do not read the position from the device."""
    there, here = models
    prompts = tinyxp.random.Generator(0).integers(0, 41, (19, 2)).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = there.generate(prompts, 5, seed=0, graph=graph).tolist()
    assert got == here.generate(prompts, 5, seed=0).tolist()


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("eos", [None, MANY])
def test_the_default_generator_goes_on_where_the_cpus_does(models, graph, eos):
    found = []
    for model, options in zip(models, ({"graph": graph}, {}), strict=True):
        tinyxp.manual_seed(9)
        text = model.generate([[1, 2]], 20, eos=eos, **options).tolist()
        found.append((text, tinyxp.random.default_generator().state_dict()))
    assert found[0] == found[1]


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_a_stream_whose_reader_draws_too(models, graph):
    found = []
    for model, options in zip(models, ({"graph": graph}, {}), strict=True):
        tinyxp.manual_seed(9)
        text = []
        for i, token in enumerate(model.stream([1, 2], 12, **options)):
            text.append(token.item())
            token[...] = 0  # it is the reader's
            if i % 3 == 1:
                tinyxp.random.uniform(2)
        found.append(text)
    assert found[0] == found[1]


@emulated
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_nobody_waits_before_the_end(models, graph):
    import cuda_emulator

    there, _ = models
    prompt = tinyxp.asarray([[1, 2, 3]], device="cuda")
    for _ in range(2):
        with cuda_emulator.count() as counted:
            there.generate(prompt, 12, top_k=10, seed=1, graph=graph)
    assert counted.d2h == 1  # whether the first logits were NaN, asked when all is done
    assert counted.syncs <= 1


@emulated
def test_ends_are_looked_for_every_16_tokens(models):
    import cuda_emulator

    there, _ = models
    prompt = tinyxp.asarray([[1, 2, 3]], device="cuda")
    with cuda_emulator.count() as counted:
        there.generate(prompt, 20, temperature=0, eos=40)
    assert counted.d2h <= 3


def test_nan_is_reported_at_the_end():
    model = GPT(11, 8, 1, 2, 8, seed=0, device="cuda")
    model.load_state_dict({**model.state_dict(), "ln_f.gamma": tinyxp.full(8, math.nan)})
    for graph in (False, True):
        with pytest.raises(ValueError, match="NaN logits"):
            model.generate([[1]], 5, graph=graph)
    with pytest.raises(ValueError, match="NaN logits"):
        next(model.stream([1], 5))


@emulated
def test_a_replayed_token_is_one_graph_and_a_copy_or_two(models):
    import cuda_emulator

    there, _ = models
    tokens = there.stream([1, 2, 3], 12, seed=0, graph=True)
    for _ in range(5):
        next(tokens)
    with cuda_emulator.count() as counted:
        next(tokens)
    assert counted.graph_launches == 1
    assert counted.d2h == counted.h2d == counted.syncs == counted.mallocs == 0


def test_on_the_cpu_a_warning_says_that_nothing_is_recorded(models):
    _, here = models
    with pytest.warns(RuntimeWarning, match="'numpy' records no graphs"):
        got = here.generate([[1, 2]], 6, temperature=0, graph=True)
    assert got.tolist() == here.generate([[1, 2]], 6, temperature=0).tolist()


def test_float64_is_generated_without_a_graph(models):
    _, here = models
    wide_model = GPT(**here.config, device="cuda", dtype="float64")
    wide_model.load_state_dict(here.state_dict())
    with pytest.warns(RuntimeWarning, match="not replayed from a graph"):
        got = wide_model.generate([[1, 2]], 6, temperature=0, graph=True)
    assert got.tolist() == here.generate([[1, 2]], 6, temperature=0).tolist()

"""Generation: batches, greedy, beyond the window, sampling, ends, padding, streams."""

import math

import pytest

from tinyxp.errors import DTypeError, ShapeError
from tinyxp.models import Sampler
from tinyxp.models._decoding import Step, can_step

WINDOW = 8


@pytest.fixture
def model(xp):
    model = xp.GPT(13, 16, 2, 4, WINDOW, seed=0)
    for p in model.parameters():  # larger weights: greedy choices without near ties
        if p.ndim > 1:
            xp.nn.init.normal_(p, std=0.4, generator=xp.random.Generator(p.size))
    return model


def greedy(xp, model, tokens, count):
    """The definition: ask for the logits of the last positions of the window, take the largest."""
    for _ in range(count):
        with xp.no_grad():
            logits = model(tokens[:, -WINDOW:])[:, -1]
        tokens = xp.concat([tokens, xp.argmax(logits, axis=-1)[:, None]], axis=1)
    return tokens.tolist()


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_greedy_is_the_largest_logit_also_beyond_the_window(xp, model, batch, use_cache):
    prompt = xp.random.Generator(1).integers(0, 13, (batch, 3))
    out = model.generate(prompt, 12, temperature=0, use_cache=use_cache)
    assert out.shape == (batch, 15)
    assert out.dtype == "int64"
    assert out.tolist() == greedy(xp, model, prompt, 12)


def test_a_prompt_longer_than_the_window(xp, model):
    prompt = xp.random.Generator(1).integers(0, 13, (1, WINDOW + 3))
    assert model.generate(prompt, 3, temperature=0).tolist() == greedy(xp, model, prompt, 3)


def test_the_cache_does_not_change_what_is_sampled(xp, model):
    prompt = xp.random.Generator(1).integers(0, 13, (2, 2))
    draws = [
        model.generate(prompt, 10, 0.8, top_k=5, top_p=0.9, seed=7, use_cache=cache).tolist()
        for cache in (True, False)
    ]
    assert draws[0] == draws[1]


def test_the_seed_decides_what_is_sampled(xp, model):
    def draw(seed):
        return model.generate([[1, 2]], 20, seed=seed).tolist()

    assert draw(3) == draw(3) != draw(4)
    xp.manual_seed(3)
    assert draw(None) == draw(3)


def test_the_same_tokens_as_on_the_cpu(xp, device, model):
    there = model.generate([[1, 2], [3, 4]], 12, seed=5).tolist()
    assert model.to("cpu").generate([[1, 2], [3, 4]], 12, seed=5).tolist() == there
    assert model.to(device).device is device


def test_prompts_of_unequal_lengths_continue_as_if_alone(xp, model):
    prompts = [[1, 2, 3, 4, 5], [6], [7, 8, 9]]
    out = model.generate(prompts, 3, temperature=0)
    assert out.shape == (3, 8)
    for row, prompt in zip(out.tolist(), prompts, strict=True):
        alone = model.generate([prompt], 3, temperature=0).tolist()[0]
        assert row == [0] * (5 - len(prompt)) + alone


@pytest.mark.parametrize("use_cache", [True, False])
def test_padding_leaves_the_window_first(xp, model, use_cache):
    """The short row still fits when the long one has begun to slide."""
    out = model.generate([[1, 2, 3, 4, 5, 6], [7, 8]], 6, temperature=0, use_cache=use_cache)
    assert out.tolist()[1][4:] == model.generate([[7, 8]], 6, temperature=0).tolist()[0]


def test_rows_end_at_eos_and_repeat_it(xp, model):
    free = model.generate([[1, 2], [3, 4]], 6, temperature=0).tolist()
    eos = free[0][3]
    out = model.generate([[1, 2], [3, 4]], 6, temperature=0, eos=eos).tolist()
    for row, unbounded in zip(out, free, strict=True):
        new = unbounded[2:]
        end = new.index(eos) if eos in new else len(new)
        kept = min(end + 1, len(row) - 2)
        assert row[2 : 2 + kept] == new[:kept]
        assert set(row[2 + kept :]) <= {eos}
    alone = model.generate([[1, 2]], 6, temperature=0, eos=[eos, 99]).tolist()[0]
    assert alone == free[0][: free[0].index(eos, 2) + 1]


def test_a_stream_gives_the_same_tokens_one_by_one(xp, model):
    whole = model.generate([[1, 2], [3, 4]], 10, seed=2)
    parts = list(model.stream([[1, 2], [3, 4]], 10, seed=2))
    assert [p.shape for p in parts] == [(2,)] * 10
    assert xp.stack(parts, axis=1).tolist() == whole[:, 2:].tolist()


@pytest.mark.parametrize("use_cache", [True, False])
def test_what_is_done_to_a_token_of_a_stream_does_not_matter(xp, model, use_cache):
    expected = model.generate([[1, 2]], 6, temperature=0).tolist()[0][2:]
    found = []
    for token in model.stream([[1, 2]], 6, temperature=0, use_cache=use_cache):
        found.append(token.item())
        token[...] = 0
    assert found == expected


def test_between_two_tokens_of_a_stream_nothing_is_changed(xp, model):
    model.train()
    for _ in model.stream([1], 3):
        assert xp.is_grad_enabled()
        assert all(m.training for m in model.modules())


def test_generation_switches_dropout_off_and_on_again(xp):
    model = xp.GPT(13, 16, 1, 4, WINDOW, seed=0, dropout_prob=0.9)
    model.blocks[0].mlp.eval()
    first = model.generate([[1, 2, 3]], 5, temperature=0).tolist()
    assert first == model.generate([[1, 2, 3]], 5, temperature=0).tolist()
    assert model.training
    assert not model.blocks[0].mlp.training


def test_nothing_is_recorded_and_the_prompt_is_kept(xp, model):
    prompt = xp.asarray([[1, 2, 3]])
    out = model.generate(prompt, 4, temperature=0)
    assert not out.requires_grad
    assert prompt.tolist() == [[1, 2, 3]]
    assert out[:, :3].tolist() == [[1, 2, 3]]
    assert model.generate(prompt, 0).tolist() == [[1, 2, 3]]


def test_a_model_without_layers_generates(xp):
    model = xp.GPT(13, 16, 0, 4, WINDOW, seed=0)
    prompt = xp.asarray([[1, 2]])
    assert model.generate(prompt, 12, temperature=0).tolist() == greedy(xp, model, prompt, 12)


def test_bad_arguments_are_explained(xp, model):
    with pytest.raises(ValueError, match=r"integer >= 0; got 2\.0"):
        model.generate([1], 2.0)
    with pytest.raises(ValueError, match="max_new_tokens expects an integer >= 0; got -1"):
        model.generate([1], -1)
    with pytest.raises(ValueError, match="temperature expects a finite number >= 0"):
        model.generate([1], 1, -0.5)
    with pytest.raises(ValueError, match="temperature"):
        model.generate([1], 1, math.nan)
    with pytest.raises(ValueError, match="top_k expects at least 1 token; got 0"):
        model.generate([1], 1, top_k=0)
    with pytest.raises(ValueError, match=r"\(0, 1\]; got 0"):
        model.generate([1], 1, top_p=0)
    with pytest.raises(ShapeError, match="at least one position"):
        model.generate(xp.zeros((1, 0), dtype="int64"), 1)
    with pytest.raises(ShapeError, match="got an empty one"):
        model.generate([[1], []], 1)
    with pytest.raises(DTypeError, match="integer token ids; got float32"):
        model.generate([[1.5]], 1)
    with pytest.raises((IndexError, ValueError), match=r"\[0, 13\)|out of range"):
        model.generate([[13]], 1)


def test_nan_weights_are_noticed(xp, model):
    xp.nn.init.constant_(model.ln_f.beta, math.nan)
    with pytest.raises(ValueError, match="NaN"):
        model.generate([[1]], 2)


# ---------------------------------------------------------------- sampling
def frequencies(xp, sampler, logits, draws=4000):
    rows = xp.broadcast_to(xp.asarray([logits]), (draws, len(logits)))
    drawn = sampler(rows)
    return [float(xp.mean((drawn == i).to("float64"))) for i in range(len(logits))]


def expected(logits, temperature=1.0):
    weights = [math.exp(x / temperature) for x in logits]
    return [w / sum(weights) for w in weights]


LOGITS = [1.0, 0.0, 2.0, -1.0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_are_drawn_with_the_probabilities_of_softmax(xp, temperature):
    found = frequencies(xp, Sampler(temperature, seed=0), LOGITS)
    for f, p in zip(found, expected(LOGITS, temperature), strict=True):
        assert abs(f - p) < 5 * math.sqrt(p * (1 - p) / 4000)


def test_top_k_leaves_the_k_most_probable(xp):
    found = frequencies(xp, Sampler(top_k=2, seed=0), LOGITS)
    assert found[1] == found[3] == 0
    assert found[2] == pytest.approx(1 / (1 + math.exp(-1)), abs=0.04)
    assert frequencies(xp, Sampler(top_k=9, seed=0), LOGITS, 50) == frequencies(
        xp, Sampler(seed=0), LOGITS, 50
    )


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0.01, {2}), (0.64, {2}), (0.7, {0, 2}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})],
)
def test_top_p_leaves_the_fewest_that_reach_the_probability(xp, top_p, kept):
    """The probabilities are 0.644, 0.237, 0.087 and 0.032."""
    weights = Sampler(top_p=top_p, seed=0).weights(xp.asarray([LOGITS])).tolist()[0]
    assert {i for i, w in enumerate(weights) if w > 0} == kept


def test_temperature_0_takes_the_largest_and_a_tiny_one_nearly_always(xp):
    assert Sampler(0)(xp.asarray([LOGITS, LOGITS[::-1]])).tolist() == [2, 1]
    assert Sampler(1e-3, seed=0)(xp.asarray([LOGITS])).tolist() == [2]


def test_impossible_tokens_are_never_drawn(xp):
    logits = [-math.inf, 0.0, -math.inf, 0.0, -math.inf]
    found = frequencies(xp, Sampler(seed=1), logits)
    assert found[0] == found[2] == found[4] == 0
    assert found[1] == pytest.approx(0.5, abs=0.04)


def test_equal_logits_give_equal_tokens_on_every_backend(xp):
    logits = xp.random.Generator(0).normal((64, 50), std=3.0)
    options = {"temperature": 0.9, "top_k": 30, "top_p": 0.95, "seed": 11}
    assert Sampler(**options)(logits).tolist() == Sampler(**options)(logits.cpu()).tolist()


# ---------------------------------------------------------------- one position at a time
@pytest.mark.parametrize(
    "options",
    [{}, {"tie_weights": True}, {"gelu": "none", "eps": 0.1}, {"gelu": "sigmoid"}],
    ids=str,
)
@pytest.mark.parametrize("pads", [None, [0, 2, 3]])
def test_a_step_gives_the_logits_of_the_modules(xp, options, pads):
    model = xp.GPT(13, 16, 2, 4, WINDOW, seed=0, **options)
    for p in model.parameters():
        xp.nn.init.normal_(p, mean=1 / p.size, std=0.3, generator=xp.random.Generator(p.size))
    tokens = xp.random.Generator(2).integers(0, 13, (3, WINDOW))
    padding = None if pads is None else xp.asarray(pads)
    with xp.no_grad():
        whole = model(tokens, padding=padding)
        caches = model.make_caches(3, WINDOW)
        model(tokens[:, :4], caches=caches, padding=padding)
    assert can_step(model)
    assert float(xp.std(whole)) > 0.1
    step = Step(model, caches, padding)
    for i in range(4, WINDOW):
        assert float(xp.max(xp.abs(step(tokens[:, i]) - whole[:, i]))) < 1e-4
        assert caches[0].length == caches[1].length == i + 1


def test_a_model_with_other_modules_generates_through_them(xp, model):
    """What a user has put in place of a module is asked, not passed over."""
    before = model.generate([[1, 2]], 4, temperature=0).tolist()
    assert can_step(model)

    class Louder(xp.nn.LayerNorm):
        def forward(self, x):
            return -3 * super().forward(x)

    changes = [
        lambda m: setattr(m, "ln_f", Louder(16)),
        lambda m: setattr(m.blocks[1].mlp, "gelu", xp.nn.Tanh()),
        lambda m: setattr(m.blocks[0].attention, "out_proj", xp.nn.Linear(16, 16, bias=False)),
        lambda m: setattr(m.blocks[1].ln2, "eps", 10.0),
    ]
    for change in changes:
        other = xp.GPT(**model.config)
        other.load_state_dict(model.state_dict())
        assert other.generate([[1, 2]], 4, temperature=0).tolist() == before
        change(other)
        assert not can_step(other)
        prompt = xp.asarray([[1, 2]])
        assert other.generate(prompt, 4, temperature=0).tolist() == greedy(xp, other, prompt, 4)


def test_without_fused_operations_a_step_takes_the_defaults(xp, model):
    expected = model.generate([[1, 2]], 5, temperature=0).tolist()
    with xp.use_fused(False):
        assert model.generate([[1, 2]], 5, temperature=0).tolist() == expected


def stepped(xp, model, tokens, padding=None, start=2):
    """The logits of every position from `start` on, one position at a time."""
    caches = model.make_caches(tokens.shape[0], tokens.shape[1])
    with xp.no_grad():
        model(tokens[:, :start], caches=caches, padding=padding)
        step = Step(model, caches, padding)
        logits = [step(tokens[:, i]) for i in range(start, tokens.shape[1])]
    return xp.stack(logits, axis=1)


@pytest.mark.parametrize("pads", [None, [0, 3, 1]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("width", "heads"), [(21, 3), (40, 5)])
def test_steps_with_and_without_fused_operations_agree(xp, width, heads, dtype, pads):
    model = xp.GPT(13, width, 2, heads, WINDOW, seed=0).to(dtype)
    for p in model.parameters():
        xp.nn.init.normal_(p, mean=1 / p.size, std=0.3, generator=xp.random.Generator(p.size))
    tokens = xp.random.Generator(2).integers(0, 13, (3, WINDOW))
    padding = None if pads is None else xp.asarray(pads)
    fused = stepped(xp, model, tokens, padding)
    with xp.use_fused(False):
        plain = stepped(xp, model, tokens, padding)
        written = model.generate(tokens[:, :3], 12, temperature=0).tolist()
    assert fused.dtype == plain.dtype == dtype
    largest = float(xp.max(xp.abs(plain)))
    assert float(xp.max(xp.abs(fused - plain))) < (1e-5 if dtype == "float32" else 1e-12) * largest
    assert model.generate(tokens[:, :3], 12, temperature=0).tolist() == written


@pytest.mark.parametrize("name", ["attention.k_proj.weight", "mlp.linear2.weight", "ln1.gamma"])
def test_nan_in_a_weight_reaches_the_logits_of_a_step(xp, model, name):
    with xp.no_grad():
        dict(model.blocks[0].named_parameters())[name][..., 0] = math.nan
    tokens = xp.random.Generator(2).integers(0, 13, (1, WINDOW))
    assert bool(xp.all(xp.isnan(stepped(xp, model, tokens))))

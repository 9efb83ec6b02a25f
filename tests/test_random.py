from __future__ import annotations

import copy
import itertools
import json
import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import tinyxp
from tinyxp import _draw, _extras
from tinyxp.errors import DTypeError
from tinyxp.random import (
    Generator,
    default_generator,
    get_rng_state,
    keep_mask,
    manual_seed,
    set_rng_state,
)

CPU = tinyxp.device("cpu")
FLOATS = ("float32", "float64", "float16", "bfloat16")

# Random123 1.14, tests/kat_vectors, the lines "threefry2x32 20": counter, key, block
PUBLISHED = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


def has(device, dtype):
    try:
        device.backend.native_dtype(tinyxp.dtype(dtype))
    except DTypeError:
        return False
    return True


def host(x):
    return x.cpu().numpy()


def words(shape, key, device=CPU):
    return device.backend.to_numpy(_draw.bits(_draw.Draw(device.xp, key, shape, device.native)))


# ---------------------------------------------------------------- the cipher
@pytest.mark.parametrize(("counter", "key", "block"), PUBLISHED)
def test_the_published_vectors(device, counter, key, block):
    c0, c1 = (device.xp.asarray([c], dtype=device.xp.int64, device=device.native) for c in counter)
    x0, x1 = device.xp.threefry2x32(*key, c0, c1)
    assert (int(x0[0]), int(x1[0])) == block


def test_keys_and_words_come_from_the_published_cipher():
    _, key, block = PUBLISHED[0]
    assert _draw.derive(key, 0, _draw.DRAW) == block
    assert words((2,), key).tolist() == list(block)


def test_the_counter_goes_on_beyond_32_bits():
    key, start = (3, 4), (1 << 32) - 1
    x0, x1 = _draw.blocks(_draw.Draw(CPU.xp, key, ()), start, start + 2)
    cipher = _extras.Defaults().threefry2x32
    expected = [
        cipher(*key, 0xFFFFFFFF, 0),
        cipher(*key, 0, 1),
    ]
    assert list(zip(x0.tolist(), x1.tolist(), strict=True)) == expected


# ---------------------------------------------------------------- the same everywhere
def test_what_is_drawn_does_not_depend_on_the_backend(device):
    drawn = []
    for d in (CPU, device):
        g = Generator(20)
        drawn.append(
            [
                g.bits((3, 5), device=d),
                g.integers(-7, 1 << 50, 101, device=d),
                g.permutation(50, device=d),
                *(
                    g.uniform(99, low=low, high=3.0, dtype=t, device=d)
                    for low in (0.0, -1.7)
                    for t in ("float32", "float64")
                ),
            ]
        )
    for here, there in zip(*drawn, strict=True):
        assert there.device is device
        assert here.dtype == there.dtype
        np.testing.assert_array_equal(host(here), host(there), strict=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_the_same_everywhere(device, dtype):
    if not (has(device, dtype) and has(CPU, dtype)):
        with pytest.raises(DTypeError, match=f"has no dtype {dtype}"):
            Generator(0).normal(
                2, dtype=dtype, device=next(d for d in (CPU, device) if not has(d, dtype))
            )
        return
    for method, options in (
        ("uniform", {}),
        ("uniform", {"low": -2.0, "high": 0.3}),
        ("normal", {}),
    ):
        here, there = (
            getattr(Generator(1), method)(501, dtype=dtype, device=d, **options)
            for d in (CPU, device)
        )
        assert here.tolist() == there.tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals_are_the_same_everywhere(device, dtype):
    # two units in the last place were asked for; to the last bit is what arithmetic alone gives
    here, there = (
        host(Generator(3).normal(100_001, mean=0.1, std=0.02, dtype=dtype, device=d))
        for d in (CPU, device)
    )
    np.testing.assert_array_equal(here, there, strict=True)
    assert here.dtype == dtype


def test_masks_are_the_same_everywhere(device):
    key = Generator(9).next_key()
    raw = keep_mask(device.xp, key, (7, 9), 0.3, device=device.native)
    expected = words((7, 9), key) >= round(0.3 * 2**32)
    np.testing.assert_array_equal(device.backend.to_numpy(raw), expected)


# ---------------------------------------------------------------- the layout
@pytest.mark.parametrize("dtype", FLOATS[:2])
def test_a_longer_draw_begins_like_a_shorter_one(dtype):
    for method in ("uniform", "normal"):
        long = getattr(Generator(2), method)(9, dtype=dtype).tolist()
        for n in range(9):
            assert getattr(Generator(2), method)(n, dtype=dtype).tolist() == long[:n]


@pytest.mark.parametrize("n", [1, 31, 32, 33, 100, 129])
def test_pieces_make_no_difference(monkeypatch, n):
    def draw():
        g = Generator(8)
        return [
            g.bits(n).tolist(),
            g.normal(n).tolist(),
            g.normal(n, dtype="float64").tolist(),
            g.integers(0, 9, n).tolist(),
            g.permutation(n).tolist(),
            keep_mask(CPU.xp, g.next_key(), (n,), 0.5).tolist(),
        ]

    whole = draw()
    monkeypatch.setattr(_draw, "PIECE", 16)
    assert draw() == whole


def test_shapes():
    g = Generator(0)
    assert g.normal().shape == g.normal(()).shape == ()
    assert g.uniform((2, 0, 3)).shape == (2, 0, 3)
    assert g.bits([4]).shape == g.bits(np.int64(4)).shape == (4,)
    assert g.permutation(0).shape == (0,)
    assert g.uniform(2).dtype == tinyxp.float32
    with tinyxp.default_dtype("float64"):
        assert g.normal(2).dtype == tinyxp.float64


# ---------------------------------------------------------------- uniform
@pytest.mark.parametrize("dtype", FLOATS[:2])
def test_uniform_numbers_are_uniform(dtype):
    x = host(Generator(4).uniform(100_000, dtype=dtype)).astype("float64")
    assert stats.kstest(x, "uniform").pvalue > 1e-3
    assert x.min() >= 0
    assert x.max() < 1
    pairs = stats.pearsonr(x[::2], x[1::2])
    assert pairs.pvalue > 1e-3


@given(
    st.floats(-1e4, 1e4),
    st.floats(1e-3, 1e4),
    st.sampled_from(FLOATS),
    st.integers(0),
)
def test_uniform_stays_in_its_interval(low, width, dtype, seed):
    if not has(CPU, dtype):
        dtype = "float32"
    low = tinyxp.asarray(low, dtype=dtype).item()  # between others there may be no number at all
    high = low + width
    x = host(Generator(seed).uniform(200, low=low, high=high, dtype=dtype)).astype("float64")
    assert (x >= low).all()
    assert (x < high).all()


def test_the_upper_end_is_never_reached():
    one_up = float(np.nextafter(np.float32(1), np.float32(2)))
    x = Generator(1).uniform(1000, low=1.0, high=one_up)
    assert set(x.tolist()) == {1.0}


@pytest.mark.parametrize(
    ("dtype", "bits"), [("bfloat16", 8), ("float16", 11), ("float32", 24), ("float64", 53)]
)
def test_uniform_numbers_use_the_bits_of_their_dtype(dtype, bits):
    if not has(CPU, dtype):
        dtype, bits = "float32", 24
    x = host(Generator(1).uniform(2000, dtype=dtype)).astype("float64") * 2.0**bits
    assert (x == np.floor(x)).all()
    assert (np.floor(x) % 2 == 1).any()


# ---------------------------------------------------------------- normal
@pytest.mark.parametrize("dtype", FLOATS[:2])
def test_normal_numbers_are_normal(dtype):
    x = host(Generator(5).normal(100_000, dtype=dtype)).astype("float64")
    assert stats.kstest(x, "norm").pvalue > 1e-3
    assert stats.pearsonr(x[::2], x[1::2]).pvalue > 1e-3
    assert stats.pearsonr(x[::2] ** 2, x[1::2] ** 2).pvalue > 1e-3


def box_muller(u, v, bits):
    """A pair of numbers from two of `bits` random bits: the first two of `v` are the quadrant."""
    radius = math.sqrt(-2 * math.log((u + 0.5) / 2**bits))
    quarter = 1 << (bits - 2)
    angle = math.pi / 2 * (v // quarter + (v % quarter - quarter // 2 + 0.5) / quarter)
    return [radius * math.cos(angle), radius * math.sin(angle)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_numbers_are_box_and_mullers(dtype):
    generator = Generator(6)
    w = words((4000,), copy.deepcopy(generator).next_key()).tolist()
    bits = 32
    if dtype == "float64":
        w, bits = [((a >> 6) << 26) | (b >> 6) for a, b in zip(w[::2], w[1::2], strict=True)], 52
    expected = [z for u, v in zip(w[::2], w[1::2], strict=True) for z in box_muller(u, v, bits)]
    got = host(generator.normal(len(w), dtype=dtype))
    # an angle of nearly 2 pi has lost a few bits in the expectation
    np.testing.assert_allclose(
        got,
        np.array(expected, dtype),
        rtol={"float32": 1.2e-7, "float64": 1e-15}[dtype],
        atol=2e-15,
    )


@pytest.mark.parametrize("word", [0, 1, (1 << 52) - 2, (1 << 52) - 1, 1 << 51, (1 << 51) - 1])
def test_normal_numbers_at_the_ends(word):
    w = np.array([word], "int64")
    radius = float(_draw.radius(_draw.Draw(CPU.xp, (0, 0), ()), w, 52)[0])
    u = (word + 0.5) / 2**52
    expected = math.sqrt(
        -2 * (math.log(u) if word < 1 << 51 else math.log1p((word + 0.5 - 2**52) / 2**52))
    )
    assert radius == pytest.approx(expected, rel=4e-16)
    x, y = (float(t[0]) for t in _draw.direction(CPU.xp, w, 52))
    assert x * x + y * y == pytest.approx(1.0, rel=1e-15)


def test_roots_are_rounded_as_ieee_754_has_it(device):
    # math.sqrt is the processor's own
    x = host(Generator(2).uniform(20_000, low=1e-9, high=80.0, dtype="float64"))
    raw = device.xp.asarray(x, dtype=device.xp.float64, device=device.native)
    found = device.backend.to_numpy(_draw.sqrt(device.xp, raw))
    assert found.tolist() == [math.sqrt(v) for v in x.tolist()]


def test_mean_and_std():
    a, b = (
        Generator(7).normal(1000, dtype="float64"),
        Generator(7).normal(1000, mean=2.0, std=3.0, dtype="float64"),
    )
    np.testing.assert_allclose(host(b), 2 + 3 * host(a), rtol=1e-14)
    assert set(Generator(7).normal(5, mean=1.5, std=0.0).tolist()) == {1.5}


# ---------------------------------------------------------------- integers, permutations, masks
@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(1, 1 << 62), st.integers(0))
def test_integers_are_scaled_exactly(low, count, seed):
    high = min(low + count, 1 << 63)
    generator = Generator(seed)
    w = words((8,), copy.deepcopy(generator).next_key()).tolist()
    numbers = [((a >> 1) << 31) | (b >> 1) for a, b in zip(w[::2], w[1::2], strict=True)]
    expected = [low + (x * (high - low) >> 62) for x in numbers]
    assert generator.integers(low, high, 4).tolist() == expected


def test_integers_are_uniform():
    counts = np.bincount(host(Generator(0).integers(0, 7, 70_000)), minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_permutations_are_uniform():
    found = [tuple(Generator(i).permutation(3).tolist()) for i in range(1200)]
    counts = [found.count(p) for p in itertools.permutations(range(3))]
    assert stats.chisquare(counts).pvalue > 1e-3


@given(st.integers(0, 300), st.integers(0))
def test_a_permutation_has_everything_once(n, seed):
    assert sorted(Generator(seed).permutation(n).tolist()) == list(range(n))


def test_a_mask_drops_the_share_asked_for():
    key = Generator(0).next_key()
    assert keep_mask(CPU.xp, key, (100,), 0.0).all()
    assert not keep_mask(CPU.xp, key, (100,), 1.0).any()
    kept = int(keep_mask(CPU.xp, key, (300, 100), 0.2).sum())
    assert stats.binomtest(kept, 30_000, 0.8).pvalue > 1e-3


# ---------------------------------------------------------------- seeds and streams
def test_seeds_below_64_bits_are_the_key():
    assert Generator(0x0123456789ABCDEF).state_dict()["key"] == [0x01234567, 0x89ABCDEF]


def test_every_integer_is_a_seed_of_its_own():
    seeds = [
        0,
        1,
        -1,
        -2,
        255,
        256,
        -256,
        1 << 63,
        (1 << 64) - 1,
        1 << 64,
        -(1 << 64),
        1 << 1000,
        np.int64(7),
    ]
    assert len({tuple(Generator(s).state_dict()["key"]) for s in seeds}) == len(seeds)
    assert Generator(1 << 64).bits(4).tolist() == Generator(1 << 64).bits(4).tolist()


def test_without_a_seed_generators_differ():
    a, b = Generator(), Generator()
    assert a.seed != b.seed
    assert Generator(a.seed).bits(3).tolist() == a.bits(3).tolist()


def test_streams_never_meet():
    g = Generator(0)
    keys = [g.next_key() for _ in range(50)]
    keys += [tuple(g.fold_in(i).state_dict()["key"]) for i in range(50)]
    children = [*g.split(50), *g.split(50)]
    keys += [tuple(c.state_dict()["key"]) for c in children]
    assert len(set(keys)) == len(keys)


def test_streams_are_not_correlated():
    a, b = (host(x.normal(20_000)) for x in Generator(0).split())
    c = host(Generator(0).fold_in(0).normal(20_000))
    d = host(Generator(0).fold_in(1).normal(20_000))
    for x, y in itertools.combinations((a, b, c, d), 2):
        assert stats.pearsonr(x, y).pvalue > 1e-3


def test_fold_in_looks_at_the_number_only():
    g = Generator(1)
    before = g.fold_in(4).bits(3).tolist()
    g.bits(10)
    assert g.fold_in(4).bits(3).tolist() == before
    assert g.fold_in(5).bits(3).tolist() != before


def test_a_draw_depends_on_the_number_of_draws_before_not_on_their_sizes():
    a, b = Generator(1), Generator(1)
    a.bits(1000)
    b.normal(2, dtype="float64")
    assert a.bits(5).tolist() == b.bits(5).tolist()


# ---------------------------------------------------------------- state
def test_the_state_is_json_and_brings_everything_back():
    g = Generator(5)
    g.bits(2)
    state = json.loads(json.dumps(g.state_dict()))
    expected = g.normal(4).tolist()
    other = Generator(0)
    other.load_state_dict(state)
    assert other.normal(4).tolist() == expected
    assert other.seed == 5


def test_copies_go_their_own_way():
    import pickle  # the generator must survive it, as part of users' own objects

    g = Generator(5)
    g.bits(1)
    for twin in (copy.deepcopy(g), copy.copy(g), pickle.loads(pickle.dumps(g))):
        drawn = twin.bits(3).tolist()
        assert drawn == copy.deepcopy(g).bits(3).tolist()


def test_the_default_generator():
    before = get_rng_state()
    try:
        g = manual_seed(7)
        assert g is default_generator()
        assert g.normal(3).tolist() == Generator(7).normal(3).tolist()
        state = get_rng_state()
        expected = default_generator().bits(2).tolist()
        set_rng_state(state)
        assert default_generator().bits(2).tolist() == expected
        tinyxp.manual_seed(7)
        assert default_generator().normal(3).tolist() == Generator(7).normal(3).tolist()
        g = Generator(8)
        manual_seed(8)
        r = tinyxp.random
        for ours, theirs in (
            (
                r.normal(3, mean=1.0, std=2.0, dtype="float64"),
                g.normal(3, mean=1.0, std=2.0, dtype="float64"),
            ),
            (r.uniform(3, low=-1.0, high=2.0), g.uniform(3, low=-1.0, high=2.0)),
            (r.integers(0, 99, 3), g.integers(0, 99, 3)),
            (r.permutation(9), g.permutation(9)),
        ):
            assert ours.dtype == theirs.dtype
            assert ours.tolist() == theirs.tolist()
    finally:
        set_rng_state(before)


def test_threads_never_get_the_same_key():
    g, keys = Generator(0), []

    def draw():
        keys.extend([g.next_key() for _ in range(200)])

    threads = [threading.Thread(target=draw) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(keys)) == 1600


# ---------------------------------------------------------------- misuse
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.uniform(2, low=1.0, high=1.0), "low < high; got low=1.0, high=1.0"),
        (lambda g: g.uniform(2, low=0.0, high=math.inf), "finite low < high"),
        (lambda g: g.normal(2, std=-1.0), "std >= 0; got mean=0.0, std=-1.0"),
        (lambda g: g.normal(2, mean=math.nan), "finite mean"),
        (lambda g: g.integers(3, 3, 2), "low < high"),
        (lambda g: g.integers(0, (1 << 62) + 1, 2), r"at most 2\*\*62 apart"),
        (lambda g: g.normal((2, -1)), "no negative lengths"),
        (lambda g: g.fold_in(-1), r"in \[0, 2\*\*62\); got -1"),
        (lambda g: g.split(-1), "number of generators; got -1"),
        (lambda g: g.load_state_dict({"key": [0, 0]}), "keys seed, key, drawn"),
        (
            lambda g: g.load_state_dict({"seed": 0, "key": [0, 1 << 32], "drawn": 0}),
            "two words of 32 bits",
        ),
    ],
)
def test_misuse_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(Generator(0))


def test_only_floats_are_drawn():
    with pytest.raises(DTypeError, match="real floating dtype; got int64"):
        Generator(0).normal(2, dtype="int64")
    with pytest.raises(TypeError):
        Generator(0).normal(2.5)
    with pytest.raises(TypeError):
        Generator("seed")

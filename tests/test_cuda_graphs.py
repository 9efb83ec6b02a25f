"""Steps replayed from CUDA graphs, on a GPU or its emulator: bit for bit what is done without."""

from __future__ import annotations

import gc
import warnings
from importlib.util import find_spec

import numpy as np
import pytest

import tinyxp
from tinyxp import nn
from tinyxp._capture import record, recording, refuse
from tinyxp.backend import available_backends
from tinyxp.data import TokenDataset
from tinyxp.errors import CaptureError
from tinyxp.graphs import Captured
from tinyxp.models import GPT
from tinyxp.optim import SGD, Adam, AdamW, Lion, clip_grad_norm_, decay_groups
from tinyxp.random import get_rng_state, set_rng_state
from tinyxp.training import RunConfig, Trainer

gpu = pytest.mark.skipif(
    "cupy" not in available_backends(), reason="no GPU, and no emulator of one"
)
EMULATED = find_spec("cuda_emulator") is not None
emulated = pytest.mark.skipif(not EMULATED, reason="counts what only the emulator sees")
STEPS = 10


class Run:
    """A model in training, one step at a time, recorded or not."""

    def __init__(self, *, graph, model=None, optimizer=None, device="cuda", **options):
        self.model = model or GPT(29, 16, 2, 2, 8, seed=0, device=device)
        self.params = self.model.parameters()
        self.optimizer = (optimizer or self._adamw)(self.params)
        self.device, self.random = device, np.random.default_rng(0)
        self.criterion = nn.CrossEntropyLoss()
        self.step = Captured(self.once, parameters=self.params, **options) if graph else self.once
        self.seen = []

    def _adamw(self, _):
        return AdamW(decay_groups(self.model, 0.1), lr=1e-3)

    def once(self, x, y):
        loss = self.criterion(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        norm = clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()
        return loss.detach(), norm

    def batch(self, size=3):
        tokens = self.random.integers(0, 29, (size, 9))
        return [tinyxp.asarray(t, device=self.device) for t in (tokens[:, :-1], tokens[:, 1:])]

    def go(self, steps=STEPS, size=3):
        for _ in range(steps):
            for group in self.optimizer.param_groups:  # as a schedule does
                group["lr"] = 1e-3 * (1 + len(self.seen) % 7)
            self.seen.append(self.step(*self.batch(size)))
        return self

    def result(self):
        """All that came of it, as bits of the host."""
        losses = [tuple(x.item() for x in pair) for pair in self.seen]
        weights = [p.detach().numpy() for p in self.params]
        grads = [p.grad.detach().numpy() for p in self.params]
        steps = sorted({s["step"] for s in self.optimizer.state.values()})
        return losses, weights, grads, steps


def same(a, b):
    assert a[0] == b[0]
    for ours, theirs in zip((*a[1], *a[2]), (*b[1], *b[2]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert a[3] == b[3]


# ---------------------------------------------------------------- replay
@gpu
def test_ten_replayed_steps_are_the_eager_ones_bit_for_bit():
    ours = Run(graph=True).go()
    assert ours.step.reason is None
    same(ours.result(), Run(graph=False).go().result())


@gpu
def test_each_shape_has_a_graph_and_the_oldest_goes():
    sizes = (3, 1, 3, 2, 1, 3, 1, 2)
    ours, theirs = Run(graph=True, warmup=1, keep=2), Run(graph=False)
    for size in sizes:
        ours.go(2, size)
        theirs.go(2, size)
    same(ours.result(), theirs.result())
    assert len(ours.step._graphs) == 2
    assert ours.step.reason is None


@gpu
@pytest.mark.parametrize("what", ["optimizer", "model", "dtype"])
def test_what_was_replaced_is_recorded_anew(what):
    def between(run):
        if what == "optimizer":
            run.optimizer.load_state_dict(run.optimizer.state_dict())
        elif what == "model":
            run.model.load_state_dict({k: v * 0.5 for k, v in run.model.state_dict().items()})
        else:
            p = run.params[0]
            p.data = p.device.backend.copy(p.data)

    runs = [Run(graph=graph).go(4) for graph in (True, False)]
    for run in runs:
        between(run)
        run.go(4)
    same(runs[0].result(), runs[1].result())


@gpu
@pytest.mark.parametrize("what", ["moment", "step", "cleared", "amsgrad", "group", "frozen"])
def test_an_optimizer_that_was_changed_by_hand_is_recorded_anew(what):
    def between(run):
        p, optimizer = run.params[0], run.optimizer
        if what == "moment":
            optimizer.state[p]["exp_avg"] = tinyxp.zeros_like(p.detach())
        elif what == "step":
            optimizer.state[p]["step"] = 1
        elif what == "cleared":
            optimizer.state.clear()
        elif what == "amsgrad":
            optimizer.param_groups[0]["amsgrad"] = True
        elif what == "group":
            optimizer.add_param_group({"params": [p], "lr": 0.1})
        else:
            p.requires_grad_(False)
            run.params.remove(p)

    def adamw(params):
        return AdamW(params[1:] if what == "group" else params, lr=1e-3)

    runs = [Run(graph=graph, optimizer=adamw).go(4) for graph in (True, False)]
    for run in runs:
        between(run)
        run.go(4)
    same(runs[0].result(), runs[1].result())
    assert runs[0].step.reason is None


@gpu
def test_weights_in_half_precision_that_somebody_writes_between_replays():
    """Their float32 masters are made anew, as without a graph."""
    runs = [
        Run(graph=graph, model=GPT(29, 16, 1, 2, 8, seed=0, device="cuda", dtype="bfloat16"))
        for graph in (True, False)
    ]
    for run in runs:
        run.go(4)
        with tinyxp.no_grad():
            for p in run.params:
                p[...] = 0.5 * p
        run.go(4)
    same(runs[0].result(), runs[1].result())
    assert runs[0].step.reason is None


@gpu
def test_memory_of_a_graph_is_handed_to_nobody_else():
    import cupy

    ours, theirs = Run(graph=True), Run(graph=False)
    for run in (ours, theirs):
        for _ in range(STEPS):
            run.go(1)
            kept = [cupy.full(n, np.nan, np.float32) for n in (64, 128, 500, 4000) * 20]
            gc.collect()
            del kept
    same(ours.result(), theirs.result())


@gpu
def test_what_is_returned_is_a_copy_and_gradients_are_set():
    run = Run(graph=True).go(4)
    before = [x.item() for x in run.seen[-1]]
    run.optimizer.zero_grad()
    assert run.params[0].grad is None
    run.go(1)
    assert [x.item() for x in run.seen[-2]] == before
    assert [x.item() for x in run.seen[-1]] != before
    assert all(p.grad is not None for p in run.params)


@gpu
def test_adam_with_the_largest_squares():
    def adam(params):
        return Adam(params, lr=1e-3, weight_decay=0.01, amsgrad=True)

    a, b = (Run(graph=graph, optimizer=adam).go() for graph in (True, False))
    same(a.result(), b.result())
    assert a.step.reason is None


def dropping(*, graph, checkpoint=False, dtype=None, **options):
    """A run with dropout; the default generator is where it stood when its last step was done."""
    tinyxp.manual_seed(0)
    model = GPT(
        29, 16, 2, 2, 8, dropout_prob=0.2, seed=0, device="cuda", dtype=dtype, checkpoint=checkpoint
    )
    return Run(graph=graph, model=model, **options)


@gpu
@pytest.mark.parametrize("checkpoint", [False, True])
def test_dropout_drops_what_it_drops_in_eager_steps(checkpoint):
    found = []
    for graph in (True, False):
        run = dropping(graph=graph, checkpoint=checkpoint).go()
        found.append((run.result(), get_rng_state()))
        assert not graph or run.step.reason is None
    same(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert found[0][1]["drawn"] == 5 * STEPS  # embeddings, and two in each block


@gpu
def test_dropout_in_half_precision():
    a, b = (dropping(graph=graph, dtype="bfloat16") for graph in (True, False))
    for run in (a, b):
        tinyxp.manual_seed(3)
        run.go()
    same(a.result(), b.result())
    assert a.step.reason is None


@gpu
def test_each_replay_draws_where_the_generator_then_stands():
    """Set by the caller, gone on by other draws, past the 32 bits of a counter's first word."""
    found = []
    for graph in (True, False):
        run = dropping(graph=graph).go(4)
        tinyxp.random.uniform(3)
        run.go(2)
        set_rng_state({"seed": None, "key": [2**32 - 1, 7], "drawn": 2**32 - 3})
        run.go(2)
        found.append((run.result(), get_rng_state()))
    same(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


@gpu
def test_one_key_for_all_replays_would_be_seen():
    """The tests above can fail: masks change from replay to replay."""
    x = tinyxp.ones(64, device="cuda")
    step = Captured(lambda x: nn.functional.dropout(x, 0.5), warmup=1)
    seen = {tuple(step(x).tolist()) for _ in range(5)}
    assert step.reason is None
    assert len(seen) == 5


@gpu
@emulated
@pytest.mark.parametrize("made", [Run, dropping])
def test_a_replayed_step_neither_waits_nor_allocates(made):
    import cuda_emulator

    run = made(graph=True).go(4)
    x, y = run.batch()
    with cuda_emulator.count() as counted:
        run.step(x, y)
    assert counted.graph_launches == 1
    assert counted.d2h == counted.h2d == counted.syncs == counted.mallocs == 0


@gpu
@emulated
def test_a_step_that_is_eager_is_no_graph():
    """The test above can fail."""
    import cuda_emulator

    run = Run(graph=False).go(1)
    with cuda_emulator.count() as counted:
        run.step(*run.batch())
    assert counted.graph_launches == 0
    assert counted.h2d > 0  # the batch was made inside


# ---------------------------------------------------------------- falling back
def _falls_back(run, reason):
    """Whether `run` warns once of `reason`, and does what it does without a graph."""
    with pytest.warns(RuntimeWarning, match=f"not replayed from a graph: .*{reason}") as told:
        run.go(6)
    assert len(told) == 1
    return run.result()


@gpu
@pytest.mark.parametrize("what", ["numbers", "generator", "seed", "state"])
def test_random_numbers_that_are_not_recorded(what):
    """Nothing is drawn by the attempt: the step that follows it is as it were without."""

    def run_of(*, graph):
        own, run = tinyxp.random.Generator(1), dropping(graph=graph)
        inner = run.once

        def step(x, y):
            if what == "seed":
                tinyxp.manual_seed(5)
            loss, norm = inner(x, y)
            if what == "numbers":
                loss = loss + tinyxp.random.uniform(device="cuda")
            elif what == "generator":
                loss = nn.functional.dropout(loss, 0.5, generator=own)
            elif what == "state":
                tinyxp.manual_seed(5)
            return loss, norm

        run.step = Captured(step, parameters=run.params) if graph else step
        return run

    drawn = what in {"numbers", "generator"}
    reason = "random numbers are drawn" if drawn else "state of the default generator is set"
    got = _falls_back(run_of(graph=True), reason), get_rng_state()
    want = run_of(graph=False).go(6).result(), get_rng_state()
    same(got[0], want[0])
    assert got[1] == want[1]


@gpu
def test_more_draws_than_there_are_keys_for(monkeypatch):
    monkeypatch.setattr("tinyxp.graphs._MOST_DRAWS", 4)
    got = _falls_back(dropping(graph=True), "at most 4 times; this is number 5")
    same(got, dropping(graph=False).go(6).result())


@gpu
def test_float64_multiplies_or_steps_in_ways_that_are_not_recorded():
    def made(*, graph):
        return Run(graph=graph, model=GPT(29, 16, 1, 2, 8, seed=0, device="cuda", dtype="float64"))

    same(
        _falls_back(made(graph=True), "cuBLAS|AdamW is recorded for"),
        made(graph=False).go(6).result(),
    )


@gpu
@pytest.mark.parametrize("kind", [SGD, Lion])
def test_optimizers_whose_numbers_cannot_be_refreshed(kind):
    def optimizer(params):
        return kind(params, lr=1e-3)

    run = Run(graph=True, optimizer=optimizer)
    with pytest.warns(RuntimeWarning, match=f"{kind.__name__} computes with numbers of the host"):
        run.go(6)
    theirs = Run(graph=False, optimizer=optimizer).go(6)
    for a, b in zip(run.params, theirs.params, strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


@gpu
def test_a_step_that_reads_the_device():
    run = Run(graph=True)
    inner = run.once

    def reading(x, y):
        loss, norm = inner(x, y)
        return (loss, norm) if norm.item() < 1e9 else (norm, loss)

    run.step = Captured(reading, parameters=run.params)
    same(_falls_back(run, "D2H"), Run(graph=False).go(6).result())


@gpu
def test_a_step_that_makes_arrays_of_the_hosts_data():
    run = Run(graph=True)
    inner = run.once
    run.step = Captured(
        lambda x, y: inner(x + tinyxp.asarray([0] * 8, device="cuda"), y), parameters=run.params
    )
    same(_falls_back(run, "H2D|data of the host"), Run(graph=False).go(6).result())


@gpu
def test_without_own_kernels():
    with tinyxp.use_fused(False):
        got = _falls_back(Run(graph=True), "cuBLAS|own kernels")
        want = Run(graph=False).go(6).result()
    same(got, want)


def test_two_devices():
    run = Run(graph=True, device="cpu", warmup=1)
    run.step.devices = {"a", "b"}
    _falls_back(run, "on one device")


def test_backends_that_record_nothing_say_so():
    run = Run(graph=True, device="cpu")
    same(
        _falls_back(run, "'numpy' records no graphs"), Run(graph=False, device="cpu").go(6).result()
    )
    assert "'numpy' records no graphs" in run.step.reason


@gpu
def test_a_first_step_has_no_state_to_go_on_from():
    run = Run(graph=True, warmup=1)
    run.step._calls = dict.fromkeys(run.step._calls, 1)
    run.step.warmup = 0
    _falls_back(run, "the optimizer has no state yet")


@gpu
def test_an_error_of_the_step_is_its_own():
    """It comes from the call that follows the attempt."""
    run = Run(graph=True).go(2)

    def broken(x, y):
        raise KeyError("what the function raises")

    run.step.function = broken
    with pytest.warns(RuntimeWarning), pytest.raises(KeyError, match="what the function raises"):
        run.go(1)


@pytest.mark.parametrize("options", [{"warmup": 0}, {"keep": 0}])
def test_numbers_without_meaning_are_refused(options):
    with pytest.raises(ValueError, match="expects warmup >= 1 and keep >= 1"):
        Captured(lambda x: x, **options)


# ---------------------------------------------------------------- the host's part
def test_the_hosts_part_is_done_before_each_replay_or_not_at_all():
    done = []
    with record() as made:
        assert recording() is made
        made.checks.append(lambda: len(done) < 2)
        made.actions.append(lambda: done.append(1))
        with pytest.raises(CaptureError, match="no such thing"):
            refuse("no such thing")
    assert recording() is None
    refuse("nobody records")
    assert [made.prepare() for _ in range(3)] == [True, True, False]
    assert done == [1, 1]


# ---------------------------------------------------------------- training
@pytest.fixture(scope="module")
def data():
    return TokenDataset.from_text("to be or not to be, that is the question. " * 30)


def trained(data, device, steps=6, **changes):
    config = RunConfig.from_preset("tiny", **changes)
    trainer = Trainer(config, data, device)
    measured = [trainer.train_step() for _ in range(steps)]
    return [(m.step, m.lr, m.loss.item(), m.grad_norm.item()) for m in measured], trainer


@gpu
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_run_with_graphs_is_a_run_without(data, dropout):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours, trainer = trained(data, "cuda", cuda_graph="on", dropout=dropout)
    theirs, other = trained(data, "cuda", dropout=dropout)
    assert ours == theirs
    assert trainer.update.reason is None
    assert trainer.evaluate(8) == other.evaluate(8)
    for p, q in zip(trainer.parameters, other.parameters, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


@gpu
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_replayed_too(data, precision):
    """Autocast, and for float16 the scaler, which lets the device decide whether a step is made."""
    ours, trainer = trained(data, "cuda", cuda_graph="on", precision=precision)
    theirs, _ = trained(data, "cuda", precision=precision)
    assert ours == theirs
    assert trainer.update.reason is None


def test_a_run_on_the_cpu_says_that_there_are_none(data):
    with pytest.warns(RuntimeWarning, match="records no graphs"):
        ours, _ = trained(data, "cpu", cuda_graph="on")
    assert ours == trained(data, "cpu")[0]

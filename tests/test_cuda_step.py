"""A training step of GPT-2 on a GPU or its emulator: how much it launches, and that it is NumPy's."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from _cuda import emulated

import tinyxp
from tinyxp import nn, optim
from tinyxp.models import GPT

VOCAB, WIDTH, HEADS, TIME, BATCH = 65, 32, 2, 16, 3
LAYERS = 12
# Kernels and library calls of a step. Of each layer: weights side by side (1), two normalisations (2), four
# products, attention (1); backward eight products, two normalisations in two launches each (4), attention (2),
# the gradients of weights that were side by side (1). That makes 23.
PER_LAYER = 24
AROUND = 30  # embeddings, the last normalisation, the head, the loss, their gradients, AdamW


class Run:
    """A model in training, with batches that depend on nothing but the number of the step."""

    def __init__(self, device, layers, *, precision="float32", **options):
        self.device, self.precision = device, precision
        self.model = GPT(VOCAB, WIDTH, layers, HEADS, TIME, device=device, seed=0, **options)
        if precision.startswith("all "):
            self.model.to(precision.removeprefix("all "))
        self.optimizer = optim.AdamW(self.model.parameters(), lr=1e-3)
        self.random = np.random.default_rng(1)
        self.batches = []

    def draw(self, count):
        """Put batches on the device before they are needed."""
        ids = self.random.integers(0, VOCAB, (count, BATCH, TIME + 1))
        self.batches += [tinyxp.asarray(b, device=self.device) for b in ids]

    def context(self):
        return tinyxp.autocast(self.precision.removeprefix("autocast ")) if self.precision.startswith("autocast ") else nullcontext()  # fmt: skip

    def step(self):
        batch = self.batches.pop(0)
        with self.context():
            logits = self.model(batch[:, :-1])
            loss = nn.functional.cross_entropy(logits, batch[:, 1:])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach(), logits.detach()


@emulated
@pytest.mark.parametrize(
    ("precision", "layer", "around"),
    [
        ("float32", PER_LAYER, AROUND),
        ("autocast bfloat16", PER_LAYER + 1, AROUND + 6),  # the cotangent in half precision
        ("all bfloat16", PER_LAYER, AROUND),
    ],
)
def test_launches_copies_and_allocations_of_a_step(precision, layer, around):
    import cuda_emulator

    run = Run("cuda", LAYERS, precision=precision, tie_weights=precision == "float32")
    run.draw(5)
    for _ in range(3):
        run.step()
    for _ in range(2):
        with cuda_emulator.count() as counted:
            loss, _ = run.step()
        assert counted.launches + counted.library_calls <= layer * LAYERS + around
        assert (counted.d2h, counted.h2d, counted.syncs, counted.mallocs) == (0, 0, 0, 0)
    assert np.isfinite(loss.item())


@emulated
@pytest.mark.parametrize("precision", ["float32", "all bfloat16"])
def test_nothing_is_allocated_later_either(precision):
    import cuda_emulator

    run = Run("cuda", 2, precision=precision)
    run.draw(28)
    for _ in range(3):
        run.step()
    with cuda_emulator.count() as counted:
        for _ in range(25):
            run.step()
    assert counted.mallocs == 0


@emulated
def test_the_pool_gets_room_where_there_is_some(monkeypatch):
    import cuda_emulator
    import cupy

    from tinyxp_cupy import _room

    pool = (
        cupy.cuda.MemoryPool()
    )  # in the other one free blocks of other tests would be room enough
    for name, value in (("_pool", pool), ("_total", pool.total_bytes), ("_known", {})):
        monkeypatch.setattr(_room, name, value)

    def mallocs_after(taken):
        kept.append(pool.malloc(pool.free_bytes() + taken))  # more than the pool holds
        with cuda_emulator.count() as counted:
            _room.keep(0)
            _room.keep(0)
        return counted.mallocs

    kept = []
    assert mallocs_after(1 << 20) == 1
    assert pool.free_bytes() == 2 << 20
    kept.append(pool.malloc(2 << 20))
    free, total = cupy.cuda.runtime.memGetInfo()
    with cuda_emulator.memory_limit(total - free + (6 << 20)):
        assert mallocs_after(1 << 20) == 0
    pool.set_limit(size=pool.total_bytes() + (2 << 20))
    assert mallocs_after(1 << 20) == 0
    pool.set_limit(size=0)
    assert mallocs_after(1 << 20) == 1


@emulated
def test_a_step_does_not_depend_on_the_order_of_threads():
    import cuda_emulator

    def weights(order):
        with cuda_emulator.schedule(order):
            run = Run("cuda", 2)
            run.draw(2)
            for _ in range(2):
                run.step()
        return [p.detach().numpy() for p in run.model.parameters()]

    first = weights(0)
    for order in (1, 7):
        for a, b in zip(first, weights(order), strict=True):
            np.testing.assert_array_equal(a, b)


def curves(run, steps=20):
    run.draw(steps)
    losses, logits = zip(*(run.step() for _ in range(steps)), strict=True)
    return np.array([loss.item() for loss in losses]), [x.numpy().astype(np.float64) for x in logits]  # fmt: skip


@pytest.mark.parametrize(
    "options", [{}, {"tie_weights": True}, {"gelu": "none", "mlp_ratio": 3}, {"checkpoint": True}]
)
def test_twenty_steps_are_those_of_numpy(options):
    cpu, cuda = Run("cpu", 2, **options), Run("cuda", 2, **options)
    losses, logits = curves(cpu)
    found, found_logits = curves(cuda)
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    for a, b in zip(found_logits, logits, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    for (name, p), q in zip(cpu.model.named_parameters(), cuda.model.parameters(), strict=True):
        if "k_proj.bias" not in name:  # its gradient is 0, and AdamW makes steps of the noise
            np.testing.assert_allclose(q.detach().numpy(), p.detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["autocast bfloat16", "autocast float16", "all bfloat16"])
def test_twenty_steps_in_half_precision_are_near(precision):
    losses, logits = curves(Run("cpu", 2))
    found, found_logits = curves(Run("cuda", 2, precision=precision))
    np.testing.assert_allclose(found, losses, rtol=2e-2)
    for a, b in zip(found_logits, logits, strict=True):
        assert np.linalg.norm(a - b) < 2e-2 * np.linalg.norm(b) or np.abs(a - b).max() < 2e-2

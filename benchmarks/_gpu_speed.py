"""Parts of `gpu_check` that measure: the ceilings of the GPU, training steps, generation, a whole training."""

from __future__ import annotations

import statistics
from contextlib import nullcontext
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from _gpt import NORM_EPS, Size, torch_model

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from _gpu_report import Findings

ADAMW: dict[str, Any] = {"lr": 6e-4, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
SECONDS = 5.0  # for which a step is timed, after the warm-up
WARM = 6  # steps: plans are made, the pool fills, a graph is captured
CHUNK = 5  # steps between two looks at the clock
BF16 = "bfloat16"


class Model(NamedTuple):
    """A model, and whether its embedding and output layer share a table."""

    size: Size
    tied: bool
    dropout: float = 0.0


MODELS = {
    # GPT-2 124M with its vocabulary padded to a multiple of 64, as in nanoGPT
    "gpt2": Model(Size(50304, 768, 12, 12, 1024, 16), tied=True),
    "character": Model(Size(65, 384, 6, 6, 256, 64), tied=False),
    "tiny": Model(Size(65, 64, 2, 2, 32, 4), tied=True),
}


def model_of(name: str, setting: argparse.Namespace) -> Model:
    """Return the model called `name`, or a small one where only the script is tried out."""
    return MODELS["tiny" if setting.tiny else name]


# ---------------------------------------------------------------- contenders
class Contender(NamedTuple):
    """What a training step needs; `step` returns the loss, still on the device."""

    step: Callable[[], Any]
    wait: Callable[[], None]
    in_use: Callable[[], int]  # bytes of the GPU that are not free


def _batch(size: Size) -> Any:
    import numpy as np

    return np.random.default_rng(0).integers(0, size.vocab, (2, size.batch, size.context))


def tinyxp_step(model: Model, setting: argparse.Namespace, kind: str) -> Contender:
    """Build tinyxp's training step.

    Parameters
    ----------
    model : Model
    setting : Namespace
        With the device.
    kind : {"tinyxp", "tinyxp-half", "tinyxp-graph"}
        Float32 parameters under autocast; bfloat16 parameters with float32 masters in the optimizer; the
        first, replayed as a CUDA graph.
    """
    import tinyxp as xp

    device = xp.device(setting.device)
    gpt = xp.GPT(*model.size[:5], tie_weights=model.tied, dropout_prob=model.dropout, device=device, seed=0)  # fmt: skip
    if kind == "tinyxp-half":
        gpt.to(BF16)
    optimizer = xp.optim.AdamW(gpt.parameters(), **ADAMW)
    x, y = (xp.asarray(ids, device=device) for ids in _batch(model.size))
    loss_of = xp.nn.CrossEntropyLoss()
    cast = nullcontext if kind == "tinyxp-half" else partial(xp.autocast, BF16)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        with cast():
            loss = loss_of(gpt(x), y)
        loss.backward()
        xp.optim.clip_grad_norm_(gpt.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    run = partial(step, x, y)
    if kind == "tinyxp-graph":
        from tinyxp.graphs import Captured

        run = partial(Captured(step, parameters=gpt.parameters()), x, y)

    def in_use() -> int:
        memory = device.backend.memory(device.local)
        return memory["total"] - memory["free"]

    return Contender(run, partial(device.backend.synchronize, device.local), in_use)


def torch_step(model: Model, _: argparse.Namespace, kind: str) -> Contender:
    """Build PyTorch's: bfloat16 autocast, flash attention, fused AdamW, TF32, compiled where asked for."""
    import torch
    from torch.nn import functional as F  # noqa: N812 - its usual name

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    gpt: Any = torch_model(model.size).to(device)
    if model.tied:
        gpt.lm_head.weight = gpt.token_embedding.weight
        torch.nn.init.normal_(gpt.lm_head.weight, std=0.02)
    optimizer = torch.optim.AdamW(gpt.parameters(), fused=True, **ADAMW)
    x, y = (torch.asarray(ids, device=device) for ids in _batch(model.size))

    def loss_of() -> Any:
        with torch.autocast(device, torch.bfloat16):
            return F.cross_entropy(gpt(x).view(-1, model.size.vocab), y.view(-1))

    if kind == "torch-compile":
        loss_of = torch.compile(loss_of)

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def in_use() -> int:
        free, total = torch.cuda.mem_get_info() if device == "cuda" else (0, 0)
        return total - free

    return Contender(step, wait, in_use)


def _contender(name: str, contender: str, setting: argparse.Namespace) -> Contender:
    build = tinyxp_step if contender.startswith("tinyxp") else torch_step
    return build(model_of(name, setting), setting, contender)


def first_losses(name: str, contender: str, setting: argparse.Namespace, steps: int) -> list[float]:
    """Return the losses of the first `steps` steps."""
    made = _contender(name, contender, setting)
    return [float(made.step().item()) for _ in range(steps)]


# ---------------------------------------------------------------- a step
def step(found: Findings, setting: argparse.Namespace, name: str, contender: str) -> None:
    """Time the training step of a contender; record its rate, its memory and what it launches."""
    size = model_of(name, setting).size
    start = perf_counter()
    made = _contender(name, contender, setting)
    made.wait()
    built = perf_counter()
    losses = [made.step() for _ in range(WARM)]
    made.wait()
    found.figure("build", built - start, "s")
    found.figure("first steps", perf_counter() - built, "s")
    found.note("losses", " ".join(f"{float(loss.item()):.4f}" for loss in losses))
    took: list[float] = []
    while sum(took) < (0.2 if setting.tiny else SECONDS) / CHUNK:
        start = perf_counter()
        for _ in range(CHUNK):
            made.step()
        asked = perf_counter()
        made.wait()
        took.append((perf_counter() - start) / CHUNK)
        host = (asked - start) / CHUNK
    median = statistics.median(took)
    tokens = size.batch * size.context
    found.figure("tokens/s", tokens / median, "")
    found.figure("step", median * 1e3, "ms")
    found.figure("host's part of a step", host * 1e3, "ms")
    found.figure("achieved", size.flops() / median / 1e12, "TFLOP/s")
    found.figure("device memory in use", made.in_use() / 2**20, "MiB")
    _traffic(found, made)


def _traffic(found: Findings, made: Contender) -> None:
    """Count what a step launches and copies: by the emulator's counters, or PyTorch's profiler, which sees all."""
    try:
        import cuda_emulator
    except ImportError:
        pass
    else:
        with cuda_emulator.count() as c:
            made.step()
        found.figure("launches a step", c.launches + c.library_calls, "")
        found.figure("copies to the host a step", c.d2h, "")
        return
    try:
        from torch.profiler import ProfilerActivity, profile
    except ImportError:
        found.note("launches", "not counted: PyTorch's profiler is not installed")
        return
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
        made.step()
        made.wait()
    counts = {event.key: event.count for event in seen.key_averages()}
    on_device = {e.key: e.count for e in seen.key_averages() if "CUDA" in str(e.device_type)}
    copies = sum(n for key, n in on_device.items() if "DtoH" in key)
    kernels = sum(n for key, n in on_device.items() if not key.startswith(("Memcpy", "Memset")))
    found.figure("kernels a step", kernels, "")
    found.figure("copies to the host a step", copies, "")
    found.figure("allocations a step", sum(n for k, n in counts.items() if k.startswith("cudaMalloc")), "")  # fmt: skip


# ---------------------------------------------------------------- ceilings
def ceilings(found: Findings, setting: argparse.Namespace) -> None:
    """Measure what the GPU's products, memory and launches can do at most."""
    import cupy

    import tinyxp as xp

    device = xp.device(setting.device)
    for fact, value in device.backend.describe().items():
        found.note(fact, value)

    def timed(run: Callable[[], Any], repeats: int = 10) -> float:
        for _ in range(3):
            run()
        device.backend.synchronize(device.local)
        start = perf_counter()
        for _ in range(repeats):
            run()
        device.backend.synchronize(device.local)
        return (perf_counter() - start) / repeats

    n = 64 if setting.tiny else 8192
    for kind in ("bfloat16", "float16", "tf32", "float32"):
        native = device.backend.native_dtypes.get("float32" if kind == "tf32" else kind)
        if native is None:
            continue
        a = cupy.ones((n, n), native)
        with xp.matmul_precision("high" if kind == "tf32" else "highest"):
            seconds = timed(lambda a=a: device.xp.linear(a, a, None))
        found.figure(f"product {kind}", 2 * n**3 / seconds / 1e12, "TFLOP/s")
    big = cupy.ones(1 << (12 if setting.tiny else 28), cupy.float32)
    other = cupy.empty_like(big)
    seconds = timed(lambda: cupy.copyto(other, big))
    found.figure("copy", 2 * big.nbytes / seconds / 1e9, "GB/s")
    small = cupy.ones((32, 32), cupy.float32)
    row = cupy.ones(32, cupy.float32)
    jobs = {
        "cupy multiply": lambda: small * small,
        "layer_norm": lambda: device.xp.layer_norm(small, row, row, eps=NORM_EPS),
        "linear": lambda: device.xp.linear(small, small, row),
    }
    for name, job in jobs.items():
        repeats = 20 if setting.tiny else 2000
        job()
        device.backend.synchronize(device.local)
        start = perf_counter()
        for _ in range(repeats):
            job()
        found.figure(f"host's time of {name}", (perf_counter() - start) / repeats * 1e6, "us")
        device.backend.synchronize(device.local)


# ---------------------------------------------------------------- generation and training
def generation(found: Findings, setting: argparse.Namespace) -> None:
    """Time generation with a cache, batch 1, of GPT-2 124M and of the character model."""
    import tinyxp as xp

    device = xp.device(setting.device)
    for name in ("character", "gpt2"):
        model = model_of(name, setting)
        gpt = xp.GPT(*model.size[:5], tie_weights=model.tied, device=device, seed=0)
        new = min(200, model.size.context - 8)
        for _ in range(2):
            start = perf_counter()
            gpt.generate([[1, 2, 3]], new, seed=0)
            device.backend.synchronize(device.local)
            seconds = perf_counter() - start
        found.figure(f"generated/s, {name}", new / seconds, "tokens/s")


def training(found: Findings, setting: argparse.Namespace) -> None:
    """Train nanoGPT's character model (its GPU setting); the published validation loss is 1.4697."""
    from pathlib import Path

    from tinyxp.training import RunConfig, train

    if setting.text is None:
        found.note("left out", "no text: name tinyshakespeare.txt with --text")
        return
    options: dict[str, Any] = {
        "layers": 6, "heads": 6, "width": 384, "context": 256, "batch_size": 64, "steps": 5000, "dropout": 0.2,
        "lr": 1e-3, "warmup": 100, "precision": BF16, "eval_every": 500, "eval_windows": 256,
    }  # fmt: skip
    if setting.tiny:
        options |= {"layers": 1, "heads": 2, "width": 16, "context": 16, "batch_size": 4, "steps": 20, "eval_every": 10}  # fmt: skip
    config = RunConfig.from_preset("small", data=(setting.text,), device=setting.device, **options)
    start = perf_counter()
    result = train(config, Path(setting.out) / "character-run")
    found.figure("seconds", perf_counter() - start, "s")
    found.figure("validation loss", result.val_loss or float("nan"), "nats")
    if not setting.tiny:
        found.check("validation loss above 1.4697", (result.val_loss or float("nan")) - 1.4697, 1e-9)  # fmt: skip

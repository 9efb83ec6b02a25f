"""The same GPT in every library: one function a contender, which returns a training step and a forward pass.

All start from the weights of `initial_weights`, see the batch of `batch`, and take steps of AdamW in float32.
"""

from __future__ import annotations

import math
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

ADAMW: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
NORM_EPS = 1e-5


class Size(NamedTuple):
    """Shape of a model and of its batches."""

    vocab: int
    width: int
    layers: int
    heads: int
    context: int
    batch: int

    def flops(self) -> float:
        """Return the floating-point operations of a training step, attention counted causally.

        A multiplication and an addition are two. Products with L (12 D²) + D V weights, and scores and their
        products with the values, 2 L D each for each of the (T + 1) / 2 keys that a query sees on average;
        backward takes twice what forward takes: 6 B T (12 L D² + D V + L D (T + 1)).
        """
        v, d, layers, _, t, b = self
        return 6.0 * b * t * (12 * layers * d * d + d * v + layers * d * (t + 1))


SIZES = {
    "tiny": Size(65, 64, 2, 2, 32, 8),
    "baby": Size(65, 128, 4, 4, 64, 12),
    "small": Size(65, 384, 6, 6, 256, 8),
    "mid": Size(5000, 512, 4, 8, 256, 4),
}


class Work(NamedTuple):
    """What a contender can do; both return when the result is there."""

    step: Callable[[], float]  # one update of the weights; returns the loss
    forward: Callable[[], Any]  # the logits, without gradients


def batch(size: Size) -> tuple[Any, Any]:
    """Return token ids and what follows them, int64 arrays of shape (batch, context)."""
    import numpy as np

    ids = np.random.default_rng(0).integers(0, size.vocab, (2, size.batch, size.context))
    return ids[0], ids[1]


def initial_weights(size: Size) -> dict[str, Any]:
    """Return float32 arrays under the names of `tinyxp.GPT`, initialised as GPT-2 is."""
    import numpy as np

    random = np.random.default_rng(1)

    def normal(*shape: int, std: float = 0.02) -> Any:
        return random.standard_normal(shape, np.float32) * np.float32(std)

    d = size.width
    thin = 0.02 / math.sqrt(2 * size.layers)
    vectors = {"ln1.gamma": 1, "ln1.beta": 0, "ln2.gamma": 1, "ln2.beta": 0}
    weights = {
        "token_embedding.weight": normal(size.vocab, d),
        "position_embedding.weight": normal(size.context, d),
    }
    for i in range(size.layers):
        block = {f"attention.{x}_proj.weight": normal(d, d) for x in "qkv"}
        block |= {f"attention.{x}_proj.bias": normal(d) for x in ("q", "k", "v", "out")}
        block |= {"attention.out_proj.weight": normal(d, d, std=thin)}
        block |= {"mlp.linear1.weight": normal(d, 4 * d), "mlp.linear1.bias": normal(4 * d)}
        block |= {"mlp.linear2.weight": normal(4 * d, d, std=thin), "mlp.linear2.bias": normal(d)}
        block |= {k: np.full(d, value, np.float32) for k, value in vectors.items()}
        weights |= {f"blocks.{i}.{k}": x for k, x in block.items()}
    weights |= {"ln_f.gamma": np.ones(d, np.float32), "ln_f.beta": np.zeros(d, np.float32)}
    return weights | {"lm_head.weight": normal(d, size.vocab)}


def packed(size: Size) -> dict[str, Any]:
    """Return the weights of `initial_weights` with q, k and v of a block side by side, as ``qkv``."""
    import numpy as np

    weights = initial_weights(size)
    for i in range(size.layers):
        for kind in ("weight", "bias"):
            names = [f"blocks.{i}.attention.{x}_proj.{kind}" for x in "qkv"]
            parts = [weights.pop(name) for name in names]
            weights[f"blocks.{i}.attention.qkv.{kind}"] = np.concatenate(parts, axis=-1)
    return weights


# ---------------------------------------------------------------- tinyxp
def tinyxp_plain(size: Size, threads: int, *, same: bool = True) -> Work:
    """Build tinyxp's GPT on NumPy alone."""
    without_numba()
    return tinyxp_gpt(size, threads, same=same)


def without_numba() -> None:
    """Let this process be that of a user who has not installed Numba."""
    sys.modules["numba"] = None  # type: ignore[assignment] - what Python takes for "not found"


def tinyxp_gpt(size: Size, threads: int, *, device: str = "cpu", same: bool = True) -> Work:
    """Build tinyxp's GPT; without `same` it keeps its own initial weights."""
    import tinyxp as xp

    if device.startswith("torch"):
        import torch

        torch.set_num_threads(threads)
    model = xp.GPT(*size[:5], device=device, seed=0)
    if same:
        weights = initial_weights(size)
        model.load_state_dict({k: xp.asarray(x, device=device) for k, x in weights.items()})
    optimizer = xp.optim.AdamW(model.parameters(), **ADAMW)
    x, y = (xp.asarray(ids, device=device) for ids in batch(size))
    loss_of = xp.nn.CrossEntropyLoss()

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    def forward() -> Any:
        with xp.no_grad():
            return model(x)

    return Work(step, forward)


# ---------------------------------------------------------------- PyTorch
def torch_gpt(size: Size, threads: int, *, compiled: bool = False, same: bool = True) -> Work:
    """Build it in PyTorch: fused AdamW, scaled_dot_product_attention, one product for q, k and v."""
    import torch
    from torch.nn import functional as F  # noqa: N812 - its usual name

    torch.set_num_threads(threads)
    model: Any = torch_model(size)
    if same:
        model.load_state_dict(_torch_names(packed(size)))
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, fused=True, **ADAMW)
    x, y = (torch.asarray(ids) for ids in batch(size))

    def loss_of() -> Any:
        return F.cross_entropy(model(x).view(-1, size.vocab), y.view(-1))

    if compiled:
        loss_of, model = torch.compile(loss_of), torch.compile(model)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss.item()

    def forward() -> Any:
        with torch.inference_mode():
            return model(x)

    return Work(step, forward)


def torch_model(size: Size) -> Any:
    """Return the model as a module of PyTorch, with PyTorch's initial weights."""
    from torch import nn
    from torch.nn import functional as F  # noqa: N812 - its usual name

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            w = size.width
            self.ln1, self.ln2 = nn.LayerNorm(w, NORM_EPS), nn.LayerNorm(w, NORM_EPS)
            self.qkv, self.out_proj = nn.Linear(w, 3 * w), nn.Linear(w, w)
            self.linear1, self.linear2 = nn.Linear(w, 4 * w), nn.Linear(4 * w, w)

        def forward(self, x: Any) -> Any:
            b, t, w = x.shape
            heads = self.qkv(self.ln1(x)).view(b, t, 3, size.heads, w // size.heads)
            q, k, v = heads.permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out_proj(mixed.transpose(1, 2).reshape(b, t, w))
            return x + self.linear2(F.gelu(self.linear1(self.ln2(x)), approximate="tanh"))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token_embedding = nn.Embedding(size.vocab, size.width)
            self.position_embedding = nn.Embedding(size.context, size.width)
            self.blocks = nn.Sequential(*[Block() for _ in range(size.layers)])
            self.ln_f = nn.LayerNorm(size.width, NORM_EPS)
            self.lm_head = nn.Linear(size.width, size.vocab, bias=False)

        def forward(self, ids: Any) -> Any:
            x = self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]
            return self.lm_head(self.ln_f(self.blocks(x)))

    return Model()


def _torch_names(weights: dict[str, Any]) -> dict[str, Any]:
    """Rename tinyxp's weights to those of `torch_model`, whose matrices stand the other way round."""
    import torch

    found = {}
    for name, x in weights.items():
        new = name.replace("gamma", "weight").replace("beta", "bias")
        new = new.replace("attention.", "").replace("mlp.", "")
        matrix = x.ndim > 1 and "embedding" not in name
        found[new] = torch.asarray(x.T.copy() if matrix else x)
    return found


# ---------------------------------------------------------------- JAX and HIPS autograd
class Functions(NamedTuple):
    """What the functional model needs of a library."""

    np: Any
    gelu: Callable[[Any], Any]
    softmax: Callable[[Any], Any]
    log_softmax: Callable[[Any], Any]


def loss_of(f: Functions, weights: dict[str, Any], size: Size, x: Any, y: Any) -> Any:
    """Return the mean cross-entropy of the model's logits."""
    logp = f.log_softmax(logits_of(f, weights, size, x)).reshape(-1, size.vocab)
    return -f.np.mean(logp[f.np.arange(size.batch * size.context), y.reshape(-1)])


def logits_of(f: Functions, p: dict[str, Any], size: Size, ids: Any) -> Any:
    """Return the model's logits, shape (batch, context, vocab)."""
    x = p["token_embedding.weight"][ids] + p["position_embedding.weight"]
    for i in range(size.layers):
        block = {k.partition(f"blocks.{i}.")[2]: w for k, w in p.items() if f"blocks.{i}." in k}
        x = x + _attention(f, block, size, _layer_norm(f, block, "ln1", x))
        hidden = _linear(block, "mlp.linear1", _layer_norm(f, block, "ln2", x))
        x = x + _linear(block, "mlp.linear2", f.gelu(hidden))
    return _layer_norm(f, p, "ln_f", x) @ p["lm_head.weight"]


def _attention(f: Functions, p: dict[str, Any], size: Size, x: Any) -> Any:
    b, t, w = x.shape
    head = w // size.heads
    packed_heads = _linear(p, "attention.qkv", x).reshape(b, t, 3, size.heads, head)
    q, k, v = f.np.transpose(packed_heads, (2, 0, 3, 1, 4))
    scores = f.np.matmul(q, f.np.swapaxes(k, -1, -2)) * (1 / math.sqrt(head))
    seen = f.np.tril(f.np.ones((t, t), dtype=bool))
    weights = f.softmax(f.np.where(seen, scores, f.np.float32(-1e30)))
    mixed = f.np.transpose(f.np.matmul(weights, v), (0, 2, 1, 3)).reshape(b, t, w)
    return _linear(p, "attention.out_proj", mixed)


def _linear(p: dict[str, Any], name: str, x: Any) -> Any:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def _layer_norm(f: Functions, p: dict[str, Any], name: str, x: Any) -> Any:
    centred = x - f.np.mean(x, axis=-1, keepdims=True)
    variance = f.np.mean(centred * centred, axis=-1, keepdims=True)
    return centred / f.np.sqrt(variance + NORM_EPS) * p[f"{name}.gamma"] + p[f"{name}.beta"]


def _adamw(np: Any, p: Any, g: Any, moments: Any, t: Any) -> tuple[Any, Any]:
    """Return a parameter and its two moments after step number `t`."""
    m, v = moments
    (beta1, beta2), lr = ADAMW["betas"], ADAMW["lr"]
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    change = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + ADAMW["eps"])
    return p * (1 - lr * ADAMW["weight_decay"]) - lr * change, (m, v)


def jax_gpt(size: Size, threads: int, *, same: bool = True) -> Work:
    """Build it in JAX: loss, gradient and AdamW in one jitted function whose arguments are donated."""
    del threads, same  # XLA reads the environment; there are no other initial weights
    import jax
    from jax import nn, numpy

    f = Functions(numpy, nn.gelu, nn.softmax, nn.log_softmax)
    x, y = (numpy.asarray(ids) for ids in batch(size))
    weights = {k: numpy.array(w) for k, w in packed(size).items()}
    moments = {k: (numpy.zeros_like(w), numpy.zeros_like(w)) for k, w in weights.items()}
    state = [weights, moments, numpy.float32(1)]

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(p: Any, moments: Any, t: Any, x: Any, y: Any) -> Any:
        loss, g = jax.value_and_grad(lambda p: loss_of(f, p, size, x, y))(p)
        new = {k: _adamw(numpy, p[k], g[k], moments[k], t) for k in p}
        return (
            loss,
            {k: w for k, (w, _) in new.items()},
            {k: mv for k, (_, mv) in new.items()},
            t + 1,
        )

    logits = jax.jit(lambda p, x: logits_of(f, p, size, x))

    def step() -> float:
        loss, *state[:] = jax.block_until_ready(update(*state, x, y))
        return float(loss)

    return Work(step, lambda: logits(state[0], x).block_until_ready())


def autograd_gpt(size: Size, threads: int, *, same: bool = True) -> Work:
    """Build it in HIPS autograd, on NumPy."""
    del threads, same  # NumPy's products read the environment; there are no other initial weights
    from autograd import numpy, value_and_grad

    def gelu(x: Any) -> Any:
        return 0.5 * x * (1 + numpy.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))

    def log_softmax(x: Any) -> Any:
        shifted = x - numpy.max(x, axis=-1, keepdims=True)
        return shifted - numpy.log(numpy.sum(numpy.exp(shifted), axis=-1, keepdims=True))

    def softmax(x: Any) -> Any:
        e = numpy.exp(x - numpy.max(x, axis=-1, keepdims=True))
        return e / numpy.sum(e, axis=-1, keepdims=True)

    f = Functions(numpy, gelu, softmax, log_softmax)
    x, y = batch(size)
    p = packed(size)
    moments = {k: (numpy.zeros_like(w), numpy.zeros_like(w)) for k, w in p.items()}
    both = value_and_grad(lambda p: loss_of(f, p, size, x, y))
    done = [0]

    def step() -> float:
        loss, g = both(p)
        done[0] += 1
        for k in p:
            p[k], moments[k] = _adamw(numpy, p[k], g[k], moments[k], done[0])
        return float(loss)

    return Work(step, lambda: logits_of(f, p, size, x))


# ---------------------------------------------------------------- all of them
class Contender(NamedTuple):
    """How one is built, what it is made of, and the environment that it reads."""

    build: Callable[..., Work]
    libraries: tuple[str, ...]
    environment: dict[str, str] = {}  # noqa: RUF012 - never written
    sizes: tuple[str, ...] = tuple(SIZES)


CONTENDERS = {
    "tinyxp": Contender(tinyxp_gpt, ("tinyxp", "numpy", "numba")),
    "tinyxp-plain": Contender(tinyxp_plain, ("tinyxp", "numpy")),
    "tinyxp-torch": Contender(partial(tinyxp_gpt, device="torch:cpu"), ("tinyxp", "torch")),
    "torch": Contender(torch_gpt, ("torch",)),
    "torch-compile": Contender(partial(torch_gpt, compiled=True), ("torch",)),
    "jax": Contender(jax_gpt, ("jax", "jax.numpy"), {"JAX_PLATFORMS": "cpu"}),
    "autograd": Contender(autograd_gpt, ("autograd", "autograd.numpy"), sizes=("tiny", "baby")),
}


def environment(name: str, threads: int) -> dict[str, str]:
    """Return the environment variables that a contender's process needs before it imports anything."""
    pools = ("OPENBLAS", "MKL", "OMP", "NUMBA")
    counts = {f"{pool}_NUM_THREADS": str(threads) for pool in pools}
    return counts | {"NPROC": str(threads)} | CONTENDERS[name].environment  # NPROC: for XLA


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

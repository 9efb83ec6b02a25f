"""Tokens per second of a GPT that writes, one sequence at a time: tinyxp and PyTorch in turn, in one run.

    python benchmarks/bench_generate.py [--sizes baby small] [--threads 1] [--json FILE]

Both choose the most probable token from the same weights, and their tokens are compared. PyTorch: cache of
keys and values allocated beforehand, `inference_mode`, `scaled_dot_product_attention`, one product for
queries, keys and values. The last table compares tinyxp with and without its cache.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from _gpt import SIZES, Size, initial_weights, packed
from _timing import interleaved, machine, medians, write

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT = 1
LONG = 512


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["baby", "small"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", help="write the results to this file")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # before any library is loaded
    os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)
    print(", ".join(f"{k} {v}" for k, v in machine().items()))
    print(f"{'tokens/s':10}{'tinyxp':>10}{'torch':>10}{'ratio':>8}")
    results: dict[str, Any] = {}
    for name in args.sizes:
        size = SIZES[name]
        new = size.context - PROMPT
        jobs = {"tinyxp": tinyxp_writer(size, new), "torch": torch_writer(size, new, args.threads)}
        if jobs["tinyxp"]() != jobs["torch"]():
            raise SystemExit(f"{name}: tinyxp and PyTorch do not write the same")
        times = medians(interleaved(jobs, repeats=args.repeats))
        rates = {k: new / t for k, t in times.items()}
        results[name] = rates
        ratio = rates["tinyxp"] / rates["torch"]
        print(f"{name:10}{rates['tinyxp']:10.0f}{rates['torch']:10.0f}{ratio:8.2f}")
    print(f"\n{LONG} tokens  {'cache':>10}{'without':>10}{'ratio':>8}")
    for name in args.sizes:
        rates = cached_or_not(SIZES[name])
        results[f"{name}, {LONG} tokens"] = rates
        ratio = rates["cache"] / rates["without"]
        print(f"{name:10}{rates['cache']:10.0f}{rates['without']:10.0f}{ratio:8.2f}")
    write(args.json, results)


def cached_or_not(size: Size) -> dict[str, float]:
    """Return tinyxp's tokens per second with and without the cache, for a model with room for `LONG` tokens."""
    size = size._replace(context=LONG)
    new = LONG - PROMPT
    jobs = {
        "cache": tinyxp_writer(size, new),
        "without": tinyxp_writer(size, new, use_cache=False),
    }
    return {k: new / t for k, t in medians(interleaved(jobs, repeats=1)).items()}


def tinyxp_writer(size: Size, new: int, *, use_cache: bool = True) -> Callable[[], list[int]]:
    """Return a function that writes `new` tokens with tinyxp."""
    import tinyxp as xp

    model = xp.GPT(*size[:5])
    model.load_state_dict({k: xp.asarray(x) for k, x in initial_weights(size).items()})

    def run() -> list[int]:
        out = model.generate([[0] * PROMPT], new, temperature=0, use_cache=use_cache)
        found: list[int] = out.tolist()[0]
        return found

    return run


def torch_writer(size: Size, new: int, threads: int) -> Callable[[], list[int]]:
    """Return a function that writes `new` tokens with PyTorch."""
    import torch

    torch.set_num_threads(threads)
    weights = {k: torch.asarray(x) for k, x in packed(size).items()}
    step = _torch_step(weights, size)

    @torch.inference_mode()
    def run() -> list[int]:
        token = torch.zeros(1, PROMPT, dtype=torch.int64)
        found = [token]
        caches = [
            torch.zeros(2, 1, size.heads, size.context, size.width // size.heads)
            for _ in range(size.layers)
        ]
        start = 0
        for _ in range(new):
            logits = step(token, start, caches)
            start += token.shape[1]
            token = logits.argmax(-1, keepdim=True)
            found.append(token)
        tokens: list[int] = torch.cat(found, dim=1)[0].tolist()
        return tokens

    return run


def _torch_step(weights: dict[str, Any], size: Size) -> Callable[..., Any]:
    """Return the function from tokens (1, T), their first position and caches to the logits of the last."""
    from torch.nn import functional as F  # noqa: N812 - its usual name

    d, heads = size.width, size.heads
    # F.linear takes (out, in); laid out so, as its own modules have it
    w = {
        k: x.T.contiguous() if x.ndim == 2 and "embedding" not in k else x  # noqa: PLR2004 - a matrix
        for k, x in weights.items()
    }
    names = (
        "ln1.gamma", "ln1.beta", "attention.qkv.weight", "attention.qkv.bias",
        "attention.out_proj.weight", "attention.out_proj.bias", "ln2.gamma", "ln2.beta",
        "mlp.linear1.weight", "mlp.linear1.bias", "mlp.linear2.weight", "mlp.linear2.bias",
    )  # fmt: skip
    blocks = [[w[f"blocks.{i}.{n}"] for n in names] for i in range(size.layers)]
    table, places, head = (
        w["token_embedding.weight"], w["position_embedding.weight"], w["lm_head.weight"]
    )  # fmt: skip
    gamma, beta = w["ln_f.gamma"], w["ln_f.beta"]

    def step(token: Any, start: int, caches: list[Any]) -> Any:
        t = token.shape[1]
        stop = start + t
        x = F.embedding(token, table) + places[start:stop]
        for (g1, b1, wqkv, bqkv, wo, bo, g2, b2, w1, c1, w2, c2), cache in zip(
            blocks, caches, strict=True
        ):
            qkv = F.linear(F.layer_norm(x, (d,), g1, b1), wqkv, bqkv)
            q, k, v = qkv.view(1, t, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
            cache[0, :, :, start:stop] = k
            cache[1, :, :, start:stop] = v
            y = F.scaled_dot_product_attention(
                q, cache[0, :, :, :stop], cache[1, :, :, :stop], is_causal=t > 1
            )
            x = x + F.linear(y.transpose(1, 2).reshape(1, t, d), wo, bo)
            h = F.gelu(F.linear(F.layer_norm(x, (d,), g2, b2), w1, c1), approximate="tanh")
            x = x + F.linear(h, w2, c2)
        return F.linear(F.layer_norm(x[:, -1], (d,), gamma, beta), head)

    return step


if __name__ == "__main__":
    main()

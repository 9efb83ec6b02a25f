"""A training step of a GPT in tinyxp and in PyTorch, in turn, in one run.

    python benchmarks/bench_gpt.py tiny baby [--threads 2] [--json FILE]

Both train the same model on the same tokens with AdamW in float32: PyTorch eager with its fused AdamW,
scaled_dot_product_attention and one product for q, k and v.
"""

from __future__ import annotations

import argparse
import os
from typing import Any, NamedTuple

from _timing import interleaved, machine, medians, write


class Size(NamedTuple):
    """Shape of a model and of its batches."""

    vocab: int
    width: int
    layers: int
    heads: int
    context: int
    batch: int


SIZES = {
    "tiny": Size(65, 64, 2, 2, 32, 8),
    "baby": Size(65, 128, 4, 4, 64, 12),
    "small": Size(65, 384, 6, 6, 256, 8),
    "mid": Size(5000, 512, 4, 8, 256, 4),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sizes", nargs="*", default=["tiny", "baby"], choices=[*SIZES, []])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", help="write the results to this file")
    args = parser.parse_args()
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = str(args.threads)  # read when the libraries are loaded, below
    print(", ".join(f"{k} {v}" for k, v in machine().items()), f"{args.threads} threads")
    print(f"{'':8}{'tinyxp ms':>11}{'torch ms':>11}{'ratio':>8}")
    results = {}
    for name in args.sizes:
        jobs = {"tinyxp": tinyxp_step(SIZES[name]), "torch": torch_step(SIZES[name], args.threads)}
        found = medians(interleaved(jobs, repeats=args.repeats))
        results[name] = found
        ours, theirs = found["tinyxp"] * 1e3, found["torch"] * 1e3
        print(f"{name:8}{ours:11.1f}{theirs:11.1f}{ours / theirs:8.2f}")
    write(args.json, results)


def tinyxp_step(size: Size) -> Any:
    """Return a function that does one training step."""
    import tinyxp as xp

    model = xp.GPT(size.vocab, size.width, size.layers, size.heads, size.context, seed=0)
    optimizer = xp.optim.AdamW(model.parameters(), lr=1e-3)
    generator = xp.random.Generator(0)
    x, y = (generator.integers(0, size.vocab, (size.batch, size.context)) for _ in range(2))
    loss_of = xp.nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        loss_of(model(x), y).backward()
        optimizer.step()

    return step


def torch_step(size: Size, threads: int) -> Any:
    """Return a function that does the same in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812 - its usual name

    torch.set_num_threads(threads)
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            w = size.width
            self.ln1, self.ln2 = nn.LayerNorm(w), nn.LayerNorm(w)
            self.qkv, self.out = nn.Linear(w, 3 * w), nn.Linear(w, w)
            self.up, self.down = nn.Linear(w, 4 * w), nn.Linear(4 * w, w)

        def forward(self, x: Any) -> Any:
            b, t, w = x.shape
            heads = self.qkv(self.ln1(x)).view(b, t, 3, size.heads, w // size.heads)
            q, k, v = heads.permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(b, t, w))
            return x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh"))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(size.vocab, size.width)
            self.positions = nn.Embedding(size.context, size.width)
            self.blocks = nn.Sequential(*[Block() for _ in range(size.layers)])
            self.ln = nn.LayerNorm(size.width)
            self.head = nn.Linear(size.width, size.vocab, bias=False)

        def forward(self, ids: Any) -> Any:
            x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
            return self.head(self.ln(self.blocks(x)))

    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    x, y = (torch.randint(size.vocab, (size.batch, size.context)) for _ in range(2))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x).view(-1, size.vocab), y.view(-1)).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()

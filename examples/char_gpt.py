"""A GPT that learns the characters of your own text, with the loop written out.

Run it: ``python examples/char_gpt.py my_text.txt``; without a file it learns Python's documentation. The
command ``tinyxp train --data my_text.txt`` does the same with a progress display, checkpoints and a plot.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import tinyxp as xp
from tinyxp import nn, optim
from tinyxp.data import TokenDataset, default_text


def train(data: TokenDataset, steps: int, *, context: int, width: int, layers: int) -> xp.GPT:
    """Return a GPT trained on `data`."""
    model = xp.GPT(data.vocab_size, width, layers, num_heads=4, max_seq_len=context, seed=0)
    print(f"{model.num_parameters():,} parameters, {data}")
    optimizer = optim.AdamW(optim.decay_groups(model, 0.1), lr=4e-3, betas=(0.9, 0.99))
    schedule = optim.Schedule(
        optimizer, optim.schedules.cosine, total=steps, warmup=steps // 20, floor=0.05
    )
    criterion = nn.CrossEntropyLoss()
    for step in range(steps):
        x, y = data.batch(step, batch_size=16, context=context, seed=0)  # (16, context) each
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % max(1, steps // 10) == 0 or step == steps - 1:
            print(
                f"step {step:4}  loss {float(loss):.3f}  validation {validate(model, data, context):.3f}"
            )
    return model


def validate(model: xp.GPT, data: TokenDataset, context: int) -> float:
    """Return the loss on text that the model has not seen, in nats per character."""
    criterion = nn.CrossEntropyLoss()
    with xp.no_grad():
        losses = [
            float(criterion(model(x), y))
            for x, y in data.windows(batch_size=64, context=context, limit=64)
        ]
    return sum(losses) / len(losses)


def main(argv: list[str] | None = None) -> None:
    """Train, then let the model write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", type=Path, help="a text file of your own")
    parser.add_argument("--device", default="cpu", help="where to compute (default: cpu)")
    parser.add_argument("--smoke", action="store_true", help="a shorter run, for the tests")
    args = parser.parse_args(argv)
    data = (
        TokenDataset.from_files(args.text) if args.text else TokenDataset.from_text(default_text())
    )
    steps, context, width, layers = (60, 32, 32, 2) if args.smoke else (1000, 64, 128, 4)
    with xp.use_device(args.device):
        untrained = validate(xp.GPT(data.vocab_size, width, 1, 4, context, seed=0), data, context)
        model = train(data, steps, context=context, width=width, layers=layers)
        if not validate(model, data, context) < untrained - 0.5:
            raise SystemExit("the model has learned nothing")
        start = data.tokenizer.encode(" ")
        for token in model.stream(start, 50 if args.smoke else 500, temperature=0.8, seed=0):
            print(data.tokenizer.decode([token.item()]), end="", flush=True)
    print()


if __name__ == "__main__":
    main()

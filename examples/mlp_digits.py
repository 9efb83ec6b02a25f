"""A multilayer perceptron that reads digits: data, model, optimizer, training loop.

The digits are drawn here, in a font of 5 by 7 dots, shifted, faded and covered with noise; so there is
nothing to download. Run it: ``python examples/mlp_digits.py``.
"""

from __future__ import annotations

import argparse

import tinyxp as xp
from tinyxp import nn, optim
from tinyxp.random import Generator

SIDE = 9  # pixels of an image
FONT = """
.###. ..#.. .###. ##### ...#. ##### ..##. ##### .###. .###.
#...# .##.. #...# ...#. ..##. #.... .#... ....# #...# #...#
#..## ..#.. ....# ..#.. .#.#. ####. #.... ...#. #...# #...#
#.#.# ..#.. ...#. ...#. #..#. ....# ####. ..#.. .###. .####
##..# ..#.. ..#.. ....# ##### ....# #...# .#... #...# ....#
#...# ..#.. .#... #...# ...#. #...# #...# .#... #...# ...#.
.###. .###. ##### .###. ...#. .###. .###. .#... .###. .##..
"""


def glyphs() -> xp.Tensor:
    """Return the ten digits, (10, 7, 5), ink 1 on paper 0."""
    rows = [line.split() for line in FONT.strip().splitlines()]
    return xp.asarray([[[float(dot == "#") for dot in row[d]] for row in rows] for d in range(10)])


def draw(n: int, rng: Generator) -> tuple[xp.Tensor, xp.Tensor]:
    """Return `n` images of random digits, (n, SIDE * SIDE), and what they show, (n,)."""
    labels = rng.integers(0, 10, n)
    ink = rng.uniform((n, 1, 1), low=0.5)
    images = 0.2 * rng.normal((n, SIDE, SIDE))
    shapes = ink * glyphs()[labels]
    top, left = rng.integers(0, SIDE - 7 + 1, n), rng.integers(0, SIDE - 5 + 1, n)
    # an integer array for each axis: every image gets its digit at its own place
    i = xp.arange(n)[:, None, None]
    y = top[:, None, None] + xp.arange(7)[None, :, None]
    x = left[:, None, None] + xp.arange(5)[None, None, :]
    images[i, y, x] += shapes
    return xp.reshape(images, (n, SIDE * SIDE)), labels


def accuracy(model: nn.Module, images: xp.Tensor, labels: xp.Tensor) -> float:
    """Return the share of `images` that are read right."""
    model.eval()
    with xp.no_grad():
        right = xp.argmax(model(images), axis=-1) == labels
    return float(xp.mean(xp.astype(right, xp.float32)))


def train(steps: int, hidden: int) -> float:
    """Train on fresh images in every step; return the accuracy on images never seen."""
    rng = Generator(0)
    test_images, test_labels = draw(1000, rng)
    xp.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(SIDE * SIDE, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, 10)
    )
    print(model)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)
    schedule = optim.Schedule(optimizer, optim.schedules.cosine, total=steps)
    criterion = nn.CrossEntropyLoss()
    for step in range(1, steps + 1):
        model.train()
        images, labels = draw(128, rng)
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % max(1, steps // 5) == 0:
            print(
                f"step {step:4}  loss {float(loss):.3f}  accuracy {accuracy(model, test_images, test_labels):.1%}"
            )
    return accuracy(model, test_images, test_labels)


def main(argv: list[str] | None = None) -> None:
    """Train and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="where to compute (default: cpu)")
    parser.add_argument("--smoke", action="store_true", help="a shorter run, for the tests")
    args = parser.parse_args(argv)
    steps, hidden, expected = (150, 64, 0.5) if args.smoke else (1500, 256, 0.9)
    with xp.use_device(args.device):
        reached = train(steps, hidden)
    print(f"{reached:.1%} of new digits are read right (guessing: 10%)")
    if reached < expected:
        raise SystemExit(f"expected at least {expected:.0%}")


if __name__ == "__main__":
    main()

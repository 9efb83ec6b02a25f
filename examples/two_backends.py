"""The same model on two backends: the same weights, the same losses, and arrays that move only when told.

Run it: ``python examples/two_backends.py --devices cpu torch:cpu``, or ``cpu cuda`` with a GPU. By default
it takes the first two backends that work here.
"""

from __future__ import annotations

import argparse
from time import perf_counter

import tinyxp as xp
from tinyxp import nn, optim
from tinyxp.data import TokenDataset, default_text


def curve(device: str, steps: int) -> list[float]:
    """Return the losses of a small GPT trained on `device`. No line depends on which one it is."""
    data = TokenDataset.from_text(default_text())
    with xp.use_device(device):
        model = xp.GPT(data.vocab_size, 32, num_layers=2, num_heads=2, max_seq_len=32, seed=7)
        optimizer = optim.AdamW(model.parameters(), lr=3e-3)
        criterion = nn.CrossEntropyLoss()
        losses = []
        for step in range(steps):
            x, y = data.batch(step, batch_size=8, context=32, seed=7)
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
    return losses


def first_two() -> list[str]:
    """Return a device of each of the first two backends that work here, NumPy's first."""
    names = sorted(xp.available_backends(), key=lambda name: name != "numpy")
    return [str(xp.get_backend(name).device()) for name in names[:2]]


def mixing(first: str, second: str) -> None:
    """Show that nothing moves by itself, and how to move it."""
    x, y = xp.ones(3, device=first), xp.ones(3, device=second)
    try:
        x + y
    except xp.DeviceMismatchError as exc:
        print("as it should be:", str(exc).splitlines()[0])
    print("told to move:", (x + y.to(x.device)).tolist())


def main(argv: list[str] | None = None) -> None:
    """Train on both, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", nargs=2, metavar="DEVICE", help="two devices")
    parser.add_argument("--smoke", action="store_true", help="a shorter run, for the tests")
    args = parser.parse_args(argv)
    devices = args.devices or first_two()
    curves = []
    for device in devices:
        start = perf_counter()
        curves.append(curve(device, 5 if args.smoke else 50))
        print(
            f"{device:12} loss {curves[-1][0]:.4f} → {curves[-1][-1]:.4f}  ({perf_counter() - start:.1f} s)"
        )
    if len(curves) == 1:
        print("only one backend works here; install another: pip install 'tinyxp[strict]'")
        return
    difference = max(abs(a - b) for a, b in zip(*curves, strict=True))
    print(f"the losses differ by {difference:.1e} at most")
    if difference > 1e-3:  # noqa: PLR2004 - sums in another order, over a few dozen steps
        raise SystemExit("that is more than rounding explains")
    mixing(*devices)


if __name__ == "__main__":
    main()

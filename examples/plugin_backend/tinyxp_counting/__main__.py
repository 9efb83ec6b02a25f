"""Count what one training step of a small GPT calls: ``python -m tinyxp_counting``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import tinyxp
from tinyxp import nn

if TYPE_CHECKING:
    from tinyxp_counting import CountingBackend


def main() -> None:
    """Print the ten functions that a step calls most."""
    backend = cast("CountingBackend", tinyxp.get_backend("counting"))
    with tinyxp.use_device("counting:cpu"):
        model = tinyxp.GPT(vocab_size=65, embed_dim=32, num_layers=2, num_heads=4, seed=0)
        optimizer = tinyxp.optim.AdamW(model.parameters(), lr=1e-3)
        tokens = tinyxp.reshape(tinyxp.arange(24), (2, 12))
        backend.calls.clear()
        loss = nn.functional.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
        loss.backward()
        optimizer.step()
    print(f"one step, loss {loss.item():.2f}: {backend.calls.total()} calls of the library")
    for name, count in backend.calls.most_common(10):
        print(f"{count:6} {name}")


if __name__ == "__main__":
    main()

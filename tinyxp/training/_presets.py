"""Settings under a name, each with what to expect of it."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["PRESETS", "Preset"]


class Preset(NamedTuple):
    """Settings under a name.

    Attributes
    ----------
    about : str
        What the preset is for.
    settings : dict
        Values for fields of `RunConfig`.
    """

    about: str
    settings: dict[str, Any]


PRESETS = {
    "tiny": Preset(
        "a few seconds: does everything work here?",
        {
            "layers": 2,
            "heads": 2,
            "width": 32,
            "context": 32,
            "batch_size": 8,
            "steps": 200,
            "lr": 1e-2,
            "warmup": 20,
            "eval_every": 50,
            "eval_windows": 64,
        },
    ),
    # The time limit may choose the number of steps on the way: the schedule's plateau lets it. Muon, because
    # it needs half the steps: 1.33 nats a character after 1000, where AdamW has 1.49 after 1400.
    "demo": Preset(
        "about a minute on two cores: sentences that look like Python's documentation",
        {
            "steps": 1000,
            "optimizer": "muon",
            "lr": 8e-3,
            "warmup": 30,
            "schedule": "wsd",
            "decay": 0.5,
            "eval_every": 100,
            "time_limit": 90.0,
        },
    ),
    # 4 layers, 4 heads, 128 wide, context 64, batch 12, 2000 steps without dropout is the setting that
    # nanoGPT's README gives for a CPU, with a validation loss of 1.88 on Shakespeare. The learning rates are
    # our own: three times nanoGPT's highest, held for half the steps, then falling to 0.
    "baby": Preset(
        "nanoGPT's CPU setting for characters of Shakespeare (published validation loss: 1.88)",
        {
            "layers": 4,
            "heads": 4,
            "width": 128,
            "context": 64,
            "batch_size": 12,
            "steps": 2000,
            "lr": 3e-3,
            "schedule": "wsd",
            "decay": 0.5,
        },
    ),
    "small": Preset(
        "10 million parameters: hours on a CPU, minutes on a GPU",
        {
            "layers": 6,
            "heads": 6,
            "width": 384,
            "context": 256,
            "batch_size": 8,
            "steps": 5000,
            "dropout": 0.2,
            "eval_windows": 64,
        },
    ),
}

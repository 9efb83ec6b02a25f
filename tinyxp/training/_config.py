"""The settings of a run, checked, and written to ``config.json``."""

from __future__ import annotations

import difflib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyxp.errors import CheckpointError
from tinyxp.training._presets import PRESETS

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

__all__ = ["RunConfig"]

NAME = "config.json"
OPTIMIZERS = ("adamw", "adam", "sgd", "lion", "muon")
SCHEDULES = ("cosine", "linear", "wsd", "constant")
PRECISIONS = ("float32", "bfloat16", "float16")
GRAPH = ("off", "on")
TOKENIZERS = ("char", "byte", "bpe")


def _option(default: Any, text: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": text, **more})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The settings of a training run.

    Each is an option of ``tinyxp train`` with the same name; what a preset does not set has the default
    given here.

    Raises
    ------
    ValueError
        If a setting has no meaning, or two contradict each other.

    Examples
    --------
    >>> RunConfig.from_preset("baby", steps=100).steps
    100
    """

    preset: str = _option("demo", "settings to start from", choices=tuple(PRESETS))
    data: tuple[str, ...] = _option(
        (), "text files, folders or globs (default: Python's documentation)"
    )
    tokenizer: str = _option("char", "what a token is", choices=TOKENIZERS)
    vocab_size: int = _option(1024, "size of the vocabulary that bpe learns")
    layers: int = _option(4, "transformer blocks")
    heads: int = _option(4, "attention heads of a block")
    width: int = _option(128, "length of the vectors between the blocks")
    context: int = _option(64, "tokens the model looks back at")
    dropout: float = _option(0.0, "probability of dropping an activation", at_least=0.0, below=1.0)
    batch_size: int = _option(12, "crops of text in a step")
    steps: int = _option(2000, "updates of the weights")
    optimizer: str = _option("adamw", "how the weights follow the gradients", choices=OPTIMIZERS)
    lr: float = _option(1e-3, "highest learning rate")
    min_lr: float = _option(0.0, "last learning rate", at_least=0.0)
    schedule: str = _option("cosine", "how the learning rate falls", choices=SCHEDULES)
    warmup: int = _option(100, "steps in which the learning rate rises", at_least=0)
    decay: float = _option(0.4, "share of the steps in which a wsd schedule falls", below=1.0)
    beta1: float = _option(0.9, "memory of the gradient's mean", at_least=0.0, below=1.0)
    beta2: float = _option(0.99, "memory of the gradient's square", at_least=0.0, below=1.0)
    weight_decay: float = _option(0.1, "pull of the matrices towards zero", at_least=0.0)
    clip: float = _option(1.0, "largest norm of the gradient")
    eval_every: int = _option(250, "steps between two looks at the validation loss")
    eval_windows: int = _option(
        256, "crops of the validation text in such a look (the last takes far more)"
    )
    time_limit: float = _option(
        0.0, "shorten the run to about so many seconds (0: never)", at_least=0.0
    )
    seed: int = _option(1337, "start of all random numbers", at_least=0)
    precision: str = _option(
        "float32", "what matrices are multiplied in; weights stay float32", choices=PRECISIONS
    )
    cuda_graph: str = _option(
        "off", "replay steps from a graph of launches, where that is possible", choices=GRAPH
    )
    device: str = _option("auto", "where to compute: cpu, cuda, cuda:1, torch:cpu … or auto")

    def __post_init__(self) -> None:
        for f in fields(self):
            _check(f.name, getattr(self, f.name), f.metadata)
        if self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads; got width={self.width}, heads={self.heads}"
            )
        if self.min_lr > self.lr:
            raise ValueError(
                f"min_lr must not exceed lr; got min_lr={self.min_lr:g}, lr={self.lr:g}"
            )

    @classmethod
    def from_preset(cls, name: str = "demo", **changes: Any) -> RunConfig:
        """Return the settings of the preset `name` with `changes`; a change of None is none.

        Raises
        ------
        ValueError
            If there is no such preset or setting, or a setting has no meaning.
        """
        _known("preset", name, PRESETS)
        for change in changes:
            _known("setting", change, [f.name for f in fields(cls)])
        given = {k: v for k, v in changes.items() if v is not None}
        return cls(**({"preset": name, **PRESETS[name].settings} | given))

    def with_(self, **changes: Any) -> RunConfig:
        """Return a copy with `changes`."""
        return replace(self, **changes)

    # ------------------------------------------------------------ files
    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write ``config.json``: the settings, and `facts` such as the number of parameters."""
        from tinyxp.training._files import write_text

        text = json.dumps({**facts, "settings": asdict(self)}, indent=2, ensure_ascii=False)
        write_text(folder / NAME, text + "\n")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> tuple[RunConfig, dict[str, Any]]:
        """Return the settings and the facts in the ``config.json`` of `folder`.

        Raises
        ------
        CheckpointError
            If there is none, or it is damaged.
        """
        path = Path(folder) / NAME
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            settings = facts.pop("settings")
            settings["data"] = tuple(settings["data"])
            return cls(**settings), facts
        except (FileNotFoundError, NotADirectoryError):
            raise CheckpointError(f"no run in {str(folder)!r}: it holds no {NAME}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise CheckpointError(
                f"{path} is no configuration of a run: {type(exc).__name__}: {exc}"
            ) from None


def _known(what: str, name: str, names: Iterable[str]) -> None:
    names = list(names)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no {what} named {name!r}; {hint}there are {', '.join(names)}")


def _check(name: str, value: Any, limits: Any) -> None:
    if "choices" in limits:
        _known(name, value, limits["choices"])
    if not isinstance(value, int | float):
        return
    if value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124 - NaN
        raise ValueError(f"{name} must be a finite number; got {value}")
    if "at_least" in limits and value < limits["at_least"]:
        raise ValueError(f"{name} must be at least {limits['at_least']:g}; got {value:g}")
    if "at_least" not in limits and value <= 0:
        raise ValueError(f"{name} must be greater than 0; got {value:g}")
    if "below" in limits and value >= limits["below"]:
        raise ValueError(f"{name} must be less than {limits['below']:g}; got {value:g}")

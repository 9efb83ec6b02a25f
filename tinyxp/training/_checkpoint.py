"""The weights and the optimizer's state of a run, stored so that they always belong together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tinyxp.errors import CheckpointError
from tinyxp.io import load, load_metadata, save

if TYPE_CHECKING:
    from pathlib import Path

    from tinyxp._core import Tensor
    from tinyxp.backend import Device
    from tinyxp.optim import Optimizer
    from tinyxp.training._trainer import Trainer

__all__ = ["MODEL", "checkpoint_step", "has_checkpoint", "load_checkpoint", "save_checkpoint"]

MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
_FILES = (MODEL, OPTIMIZER)
_NEW = ".new"


def save_checkpoint(folder: Path, trainer: Trainer) -> None:
    """Write ``model.safetensors`` and ``optimizer.safetensors`` into `folder`.

    Both are complete under another name before either takes the place of the old one, and each knows its
    step: a stop at any moment leaves a pair that `load_checkpoint` recognises.
    """
    step = str(trainer.step)
    tensors, numbers = _flatten(trainer.optimizer)
    save(trainer.model.state_dict(), folder / (MODEL + _NEW), {"step": step})
    numbers["scaler"] = trainer.scaler.state_dict()
    save(tensors, folder / (OPTIMIZER + _NEW), {"step": step, "numbers": json.dumps(numbers)})
    for name in _FILES:
        (folder / (name + _NEW)).replace(folder / name)


def has_checkpoint(folder: Path) -> bool:
    """Whether `folder` holds weights."""
    return (folder / MODEL).exists()


def checkpoint_step(folder: Path) -> int:
    """Return the step at which the run in `folder` was saved.

    Raises
    ------
    CheckpointError
        If it was not.
    """
    return _step(folder / MODEL)


def load_checkpoint(folder: Path, trainer: Trainer) -> None:
    """Give `trainer` the weights, the optimizer's state and the step of the run in `folder`.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged, or they do not fit the model or each other.
    """
    _finish_saving(folder)
    steps = {name: _step(folder / name) for name in _FILES}
    if len(set(steps.values())) > 1:
        raise CheckpointError(
            f"the files in {folder} are of different steps: {steps}; they are no pair"
        )
    trainer.model.load_state_dict(load(folder / MODEL, trainer.device))
    numbers = json.loads(load_metadata(folder / OPTIMIZER)["numbers"])
    state = _unflatten(load(folder / OPTIMIZER, trainer.device), numbers)
    trainer.optimizer.load_state_dict(state)
    if numbers.get("scaler"):
        trainer.scaler.load_state_dict(numbers["scaler"])
    trainer.step = steps[MODEL]


def _finish_saving(folder: Path) -> None:
    """Put the second new file in its place, should a save have been stopped after the first."""
    left = folder / (OPTIMIZER + _NEW)
    if (
        left.exists()
        and has_checkpoint(folder)
        and _complete(left)
        and _step(left) == _step(folder / MODEL)
    ):
        left.replace(folder / OPTIMIZER)


def _complete(path: Path) -> bool:
    try:
        load_metadata(path)
    except CheckpointError:
        return False
    return True


def _step(path: Path) -> int:
    try:
        return int(load_metadata(path)["step"])
    except FileNotFoundError:
        raise CheckpointError(
            f"nothing to go on from in {path.parent}: it holds no {path.name}"
        ) from None
    except (KeyError, ValueError):
        raise CheckpointError(
            f"{path} does not tell its step; it was not written by a run"
        ) from None


# ---------------------------------------------------------------- the optimizer's state, flat
def _flatten(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the Tensors of an optimizer's state by name, and the rest in JSON's terms."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for i, entries in state["state"].items():
        for key, value in entries.items():
            if hasattr(value, "device"):
                tensors[f"{i}.{key}"] = value
            else:
                plain.setdefault(str(i), {})[key] = value
    return tensors, {"state": plain, "param_groups": state["param_groups"]}


def _unflatten(tensors: dict[str, Tensor], numbers: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {
        int(i): dict(entries) for i, entries in numbers["state"].items()
    }
    for name, value in tensors.items():
        i, _, key = name.partition(".")
        state.setdefault(int(i), {})[key] = value
    return {"state": state, "param_groups": numbers["param_groups"]}


def load_weights(folder: Path, device: Device) -> dict[str, Tensor]:
    """Return the weights of the run in `folder`.

    Raises
    ------
    CheckpointError
        If there are none.
    """
    if not has_checkpoint(folder):
        raise CheckpointError(
            f"no run in {str(folder)!r}: it holds no {MODEL}; was it stopped before it began?"
        )
    return load(folder / MODEL, device)

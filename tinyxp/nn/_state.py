"""Loading a state dict: what fits, and everything that does not, told at once."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyxp.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tinyxp._core import Tensor

__all__ = ["LoadResult", "load"]


class LoadResult(NamedTuple):
    """Names that did not match when a state dict was loaded with ``strict=False``."""

    missing: list[str]
    unexpected: list[str]


def load(
    owner: str, places: Sequence[tuple[str, Tensor]], state: Mapping[str, Any], *, strict: bool
) -> LoadResult:
    """Write the values of `state` into the Tensors of the same names; see `Module.load_state_dict`."""
    names: dict[int, list[str]] = {}
    for name, tensor in places:
        names.setdefault(id(tensor), []).append(name)  # tied Tensors go by any of their names
    missing = [known[0] for known in names.values() if not any(n in state for n in known)]
    expected = dict(places)
    unexpected = [n for n in state if n not in expected]
    wrong = [
        f"{n}: expected {tuple(expected[n].shape)}, got {tuple(value.shape)}"
        for n, value in state.items()
        if n in expected and tuple(value.shape) != tuple(expected[n].shape)
    ]
    if wrong or (strict and (missing or unexpected)):
        _refuse(owner, missing, unexpected, wrong, expected)
    for n, value in state.items():
        if n in expected:
            write(expected[n], value)
    return LoadResult(missing, unexpected)


def write(target: Tensor, value: Any) -> None:
    """Write `value` into the storage of `target`, cast and moved to where that is."""
    from tinyxp import Tensor, no_grad

    with no_grad():
        if not isinstance(value, Tensor):
            value = Tensor(value, device=target.device)
        target[...] = value.detach().to(target.device).to(target.dtype)


def _refuse(
    owner: str,
    missing: list[str],
    unexpected: list[str],
    wrong: list[str],
    expected: Iterable[str],
) -> None:
    lines = [f"the state dict does not fit {owner}; nothing was loaded"]
    if missing:
        lines.append(f"  missing ({len(missing)}): {', '.join(missing)}")
    if unexpected:
        shown = ", ".join(_with_hint(n, expected) for n in unexpected)
        lines.append(f"  unexpected ({len(unexpected)}): {shown}")
    if wrong:
        lines.append(f"  mis-shaped ({len(wrong)}): {'; '.join(wrong)}")
    if missing or unexpected:
        lines.append(
            "load_state_dict(state, strict=False) loads what fits and returns the other names"
        )
    raise CheckpointError("\n".join(lines))


def _with_hint(name: str, expected: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, expected, n=1, cutoff=0.8)
    return f"{name} (did you mean {near[0]}?)" if near else name

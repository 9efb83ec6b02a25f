"""A module as a tree with shapes and parameter counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyxp._core import Tensor
    from tinyxp.nn._module import Module

__all__ = ["tree"]

Line = tuple[str, int]  # text, and the number of parameters behind it (0: do not say)


def tree(module: Module) -> str:
    """Return the module and everything in it, a line each; equal neighbours share one entry."""
    lines = _lines(module, "")
    width = max(len(text) for text, _ in lines)
    return "\n".join(
        f"{text:<{width}}  {count:>13,} parameters" if count else text for text, count in lines
    )


def _lines(module: Module, label: str) -> list[Line]:
    head = f"{label}{type(module).__name__}({module.extra_repr()})"
    entries: list[list[Line]] = [
        [(f"{name}: {t.dtype}{list(t.shape)}", 0)] for name, t in _own(module)
    ]
    entries += [_lines(child, name) for name, child in _grouped(module)]
    lines: list[Line] = [(head, module.num_parameters())]
    for i, ((text, count), *rest) in enumerate(entries):
        last = i == len(entries) - 1
        lines.append((("└─ " if last else "├─ ") + text, count))
        lines += [(("   " if last else "│  ") + t, n) for t, n in rest]
    return lines


def _own(module: Module) -> list[tuple[str, Tensor]]:
    children = tuple(f"{name}." for name, _ in module.named_children())
    named = [*module.named_parameters(), *module.named_buffers()]
    return [(name, t) for name, t in named if not name.startswith(children)]


def _grouped(module: Module) -> list[tuple[str, Module]]:
    """Return the children with their labels, runs of equal ones as one: ``"0-11: 12 x "``."""
    found: list[tuple[list[str], Module, list[Line]]] = []
    for name, child in module.named_children():
        lines = _lines(child, "")
        if found and found[-1][2] == lines and name.rpartition(".")[2].isdigit():
            found[-1][0].append(name)
        else:
            found.append(([name], child, lines))
    return [(_label(names), child) for names, child, _ in found]


def _label(names: list[str]) -> str:
    if len(names) == 1:
        return f"{names[0]}: "
    return f"{names[0]}-{names[-1].rpartition('.')[2]}: {len(names)} x "

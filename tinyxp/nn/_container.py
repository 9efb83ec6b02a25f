"""Modules that hold modules in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp.nn._module import Module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["ModuleList", "Sequential"]


class ModuleList(Module):
    """A list of modules.

    Parameters
    ----------
    modules : iterable of Module
        What it holds at first.

    Examples
    --------
    >>> from tinyxp import nn
    >>> layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    >>> len(layers), len(layers.parameters())
    (3, 6)
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self._items: list[Module] = list(modules)

    def _contents(self) -> list[tuple[str, Any]]:
        return [(str(i), m) for i, m in enumerate(self._items)]

    def append(self, module: Module) -> None:
        """Add a module at the end."""
        self._items.append(module)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._items)

    def __getitem__(self, i: Any) -> Any:
        return (
            type(self)(*_arguments(self, self._items[i]))
            if isinstance(i, slice)
            else self._items[i]
        )

    def __setitem__(self, i: int, module: Module) -> None:
        self._items[i] = module


class Sequential(ModuleList):
    """Modules applied one after the other.

    Parameters
    ----------
    *modules : Module
        The first to be applied first.

    Examples
    --------
    >>> import tinyxp
    >>> from tinyxp import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> model(tinyxp.ones((3, 4))).shape
    (3, 2)
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        """Apply all modules to `x` in turn."""
        for m in self:
            x = m(x)
        return x


def _arguments(container: ModuleList, modules: list[Module]) -> tuple[Any, ...]:
    return tuple(modules) if isinstance(container, Sequential) else (modules,)

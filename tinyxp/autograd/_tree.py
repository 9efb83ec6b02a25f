"""Nested dicts, lists and tuples of Tensors, flattened and put together again."""

from __future__ import annotations

from typing import Any

from tinyxp._core import TENSORS, Tensor

Tree = Any  # a Tensor, or a dict, list, tuple or namedtuple of Trees, or any other value


def leaves(tree: Tree) -> list[Tensor]:
    """Return the Tensors of `tree`, dicts in the order of their keys' insertion.

    Examples
    --------
    >>> import tinyxp as xp
    >>> len(leaves({"w": xp.ones(2), "more": [xp.zeros(1), 3]}))
    2
    """
    found: list[Tensor] = []
    _collect(tree, found)
    return found


def _collect(tree: Tree, found: list[Tensor]) -> None:
    if type(tree) in TENSORS:
        found.append(tree)
    elif isinstance(tree, dict):
        for value in tree.values():
            _collect(value, found)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            _collect(value, found)


def rebuilt(tree: Tree, values: Any) -> Tree:
    """Return `tree` with its Tensors replaced, in order, by those of the iterator `values`.

    Examples
    --------
    >>> import tinyxp as xp
    >>> rebuilt({"w": xp.ones(2)}, iter([5]))
    {'w': 5}
    """
    if type(tree) in TENSORS:
        return next(values)
    if isinstance(tree, dict):
        return {k: rebuilt(v, values) for k, v in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*[rebuilt(v, values) for v in tree])
    if isinstance(tree, (list, tuple)):
        return type(tree)(rebuilt(v, values) for v in tree)
    return tree

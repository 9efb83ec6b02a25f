"""Einstein summation, by batched matrix products of two operands at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp._core import CASTING
from tinyxp.errors import ShapeError
from tinyxp.ops import _autocast
from tinyxp.ops._dispatch import as_tensor
from tinyxp.ops._elementwise import multiply
from tinyxp.ops._indexing import getitem
from tinyxp.ops._linear_algebra import matmul
from tinyxp.ops._manipulation import moveaxis, permute_dims, reshape
from tinyxp.ops._statistical import sum as sum_along

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyxp._core import Tensor

__all__ = ["einsum"]

Labels = tuple[Any, ...]  # letters, and for the axes of an ellipsis -1, -2 ... from the right


def einsum(subscripts: str, /, *operands: Tensor) -> Tensor:
    """Return a sum of products, in Einstein's notation.

    Operands are contracted two at a time, as batched matrix products: in the order that opt_einsum chooses
    if it is installed, otherwise from the left.

    Parameters
    ----------
    subscripts : str
        Such as ``"ij,jk->ik"``: a letter for each axis of each operand, and those of the result. A letter
        that the result lacks is summed over; one that an operand has twice takes its diagonal; ``...`` stands
        for the other axes, which broadcast. Without ``->`` the result has the axes of the ellipsis and then
        the letters that occur once, in alphabetical order.
    *operands : Tensor
        Lengths of equal letters agree, or are 1.

    Returns
    -------
    Tensor
        With the axes that `subscripts` names.

    Raises
    ------
    ValueError
        If `subscripts` are malformed.
    ShapeError
        If they do not fit the operands.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.einsum("ij,jk->ik", xp.Tensor([[1.0, 2.0]]), xp.Tensor([[3.0], [4.0]])).tolist()
    [[11.0]]
    >>> xp.einsum("ii", xp.Tensor([[1.0, 2.0], [3.0, 4.0]])).item()
    5.0
    """
    device = next((t._device for t in operands if hasattr(t, "_device")), None)
    tensors = [as_tensor(t, device) for t in operands]
    if CASTING and len(tensors) > 1:
        tensors = list(_autocast.narrowed(*tensors))
    terms, result = _parse(subscripts, [len(t._raw.shape) for t in tensors])
    sizes = _sizes(subscripts, terms, tensors)
    missing = [str(a) for a in result if a not in sizes]
    if missing:
        raise ValueError(
            f"einsum {subscripts!r}: the result has {', '.join(missing)}, which no operand has"
        )
    terms = list(terms)
    for i, (labels, t) in enumerate(zip(terms, tensors, strict=True)):
        terms[i], tensors[i] = _distinct(labels, t, sizes)
    return _contract(terms, tensors, result, sizes)


# ---------------------------------------------------------------- subscripts
def _parse(subscripts: str, ndims: Sequence[int]) -> tuple[list[Labels], Labels]:
    """Return the labels of each operand, and of the result."""
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(ndims):
        raise ValueError(
            f"einsum {subscripts!r} has subscripts for {len(parts)} operands; got {len(ndims)}"
        )
    terms = [_labels(subscripts, p, n) for p, n in zip(parts, ndims, strict=True)]
    dots = max((-min((a for a in t if isinstance(a, int)), default=0) for t in terms), default=0)
    if not arrow:
        letters = [a for t in terms for a in t if isinstance(a, str)]
        return terms, (*range(-dots, 0), *sorted(a for a in set(letters) if letters.count(a) == 1))
    if dots and "..." not in right:
        raise ValueError(f"einsum {subscripts!r}: the result lacks the ... of the operands")
    result = _labels(subscripts, right, dots + len(right.replace("...", "")))
    if len(set(result)) != len(result):
        raise ValueError(f"einsum {subscripts!r}: a letter occurs twice in the result")
    return terms, result


def _labels(subscripts: str, part: str, ndim: int) -> Labels:
    before, dots, after = part.partition("...")
    letters = before + after
    if not letters.isalpha() and letters:
        raise ValueError(f"einsum expects letters, commas, ... and ->; got {subscripts!r}")
    rest = ndim - len(letters)
    if rest < 0 or (rest and not dots):
        raise ShapeError(
            f"einsum {subscripts!r}: {part!r} names {len(letters)} axes, the operand has {ndim}"
        )
    return (*before, *range(-rest, 0), *after)


def _sizes(subscripts: str, terms: Sequence[Labels], tensors: Sequence[Tensor]) -> dict[Any, int]:
    """Return the length of every label."""
    sizes: dict[Any, int] = {}
    for labels, t in zip(terms, tensors, strict=True):
        for a, n in zip(labels, t._raw.shape, strict=True):
            have = sizes.get(a, 1)
            if n not in (have, 1) and have != 1:
                raise ShapeError(
                    f"einsum {subscripts!r}: axis {a!r} has the lengths {have} and {n}; "
                    f"got shapes {', '.join(str(tuple(x._raw.shape)) for x in tensors)}"
                )
            sizes[a] = n if have == 1 else have
    return sizes


# ---------------------------------------------------------------- one operand
def _distinct(labels: Labels, t: Tensor, sizes: dict[Any, int]) -> tuple[Labels, Tensor]:
    """Take diagonals, and drop axes of length 1 that broadcast."""
    for a in dict.fromkeys(labels):
        while labels.count(a) > 1:
            labels, t = _diagonal(labels, t, a)
    kept = tuple(a for a, n in zip(labels, t._raw.shape, strict=True) if n == sizes[a])
    return kept, t if kept == labels else reshape(t, tuple(sizes[a] for a in kept))


def _diagonal(labels: Labels, t: Tensor, a: Any) -> tuple[Labels, Tensor]:
    """Replace two axes called `a` by their diagonal, as the last axis."""
    i = labels.index(a)
    j = labels.index(a, i + 1)
    t = moveaxis(t, (i, j), (-2, -1))
    *lead, m, n = t._raw.shape
    if 1 in (m, n) and m != n:  # one broadcasts against the other
        flat, cells = reshape(t, (*lead, m * n)), slice(None)
    else:
        flat, cells = reshape(t, (*lead, n * n)), slice(None, None, n + 1)
    rest = labels[:i] + labels[i + 1 : j] + labels[j + 1 :]
    return (*rest, a), getitem(flat, (..., cells))


def _summed(labels: Labels, t: Tensor, keep: set[Any]) -> tuple[Labels, Tensor]:
    """Sum over the axes that nobody else needs."""
    axes = tuple(i for i, a in enumerate(labels) if a not in keep)
    return (tuple(a for a in labels if a in keep), sum_along(t, axis=axes)) if axes else (labels, t)


# ---------------------------------------------------------------- contractions
def _contract(
    terms: list[Labels], tensors: list[Tensor], result: Labels, sizes: dict[Any, int]
) -> Tensor:
    for i, j in _path(terms, result, sizes):
        others = [t for k, t in enumerate(terms) if k not in (i, j)]
        keep = {*result, *(a for t in others for a in t)}
        pair = terms[i], tensors[i], terms[j], tensors[j]
        for k in sorted((i, j), reverse=True):
            del terms[k], tensors[k]
        labels, t = _pair(*pair, keep)
        terms.append(labels)
        tensors.append(t)
    labels, t = _summed(terms[0], tensors[0], set(result))
    return t if labels == result else permute_dims(t, tuple(labels.index(a) for a in result))


def _path(terms: Sequence[Labels], result: Labels, sizes: dict[Any, int]) -> list[tuple[int, int]]:
    """Return the pairs to contract: each takes two terms out and appends their product."""
    n = len(terms)
    if n > 2:  # noqa: PLR2004 - for two there is no choice
        try:
            from opt_einsum import contract_path  # type: ignore[import-not-found,unused-ignore]  # optional, not installed where types are checked
        except ImportError:
            pass
        else:
            return _optimal(contract_path, terms, result, sizes)
    return [(0, 1), *((n - 2 - k, 0) for k in range(n - 2))] if n > 1 else []


def _optimal(
    contract_path: Any, terms: Sequence[Labels], result: Labels, sizes: dict[Any, int]
) -> list[tuple[int, int]]:
    letters = {
        a: chr(0x4E00 + k) for k, a in enumerate(sizes)
    }  # beyond the 52 that opt_einsum needs no more
    names = ["".join(letters[a] for a in t) for t in terms]
    equation = f"{','.join(names)}->{''.join(letters[a] for a in result)}"
    shapes = [tuple(sizes[a] for a in t) for t in terms]
    path, _ = contract_path(equation, *shapes, shapes=True)
    pairs: list[tuple[int, int]] = []
    n = len(terms)
    for step in path:
        places = list(step)
        while len(places) > 1:  # a step of more than two operands becomes several
            i, j = places.pop(), places.pop()
            pairs.append((i, j))
            n -= 1
            places = [k - (k > i) - (k > j) for k in places]
            places.append(n - 1)
    return pairs


def _pair(a: Labels, x: Tensor, b: Labels, y: Tensor, keep: set[Any]) -> tuple[Labels, Tensor]:
    """Multiply two operands, and sum over the labels that are not to be kept."""
    a, x = _summed(a, x, keep | set(b))
    b, y = _summed(b, y, keep | set(a))
    batch = [k for k in a if k in b and k in keep]
    inner = [k for k in a if k in b and k not in keep]
    left = [k for k in a if k not in b]
    right = [k for k in b if k not in a]
    x = permute_dims(x, tuple(a.index(k) for k in (*batch, *left, *inner)))
    y = permute_dims(y, tuple(b.index(k) for k in (*batch, *inner, *right)))
    nb, nl, ni = len(batch), len(left), len(inner)
    heads, rows, depth = x._raw.shape[:nb], x._raw.shape[nb : nb + nl], x._raw.shape[nb + nl :]
    columns = y._raw.shape[nb + ni :]
    if not inner:
        out = multiply(
            reshape(x, (*heads, *rows, *(1,) * len(right))),
            reshape(y, (*heads, *(1,) * nl, *columns)),
        )
    else:
        m, k, n = math.prod(rows), math.prod(depth), math.prod(columns)
        out = matmul(reshape(x, (*heads, m, k)), reshape(y, (*heads, k, n)))
        out = reshape(out, (*heads, *rows, *columns))
    return (*batch, *left, *right), out

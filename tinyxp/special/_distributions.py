"""Distribution functions of statistics, and their inverses."""

from __future__ import annotations

from typing import Any

from tinyxp.special._define import make

# name: (arguments, what, example, result, the arguments without a closed derivative)
_TABLE = {
    "chdtr": ("v x", "chi-squared with v degrees of freedom, up to x", "2.0, xp.Tensor(2.0)", 0.6321, "v"),
    "chdtrc": ("v x", "chi-squared with v degrees of freedom, beyond x", "2.0, xp.Tensor(2.0)", 0.3679, "v"),
    "chdtri": ("v p", "the inverse of `chdtrc` in x", "2.0, xp.Tensor(0.25)", 2.7726, "v"),
    "stdtr": ("df t", "Student's t with df degrees of freedom, up to t", "1.0, xp.Tensor(1.0)", 0.75, "df"),
    "stdtrit": ("df p", "the inverse of `stdtr` in t", "1.0, xp.Tensor(0.75)", 1.0, "df"),
    "fdtr": ("dfn dfd x", "Fisher's F with dfn and dfd degrees of freedom, up to x", "2.0, 2.0, xp.Tensor(3.0)", 0.75, "dfn dfd"),
    "fdtrc": ("dfn dfd x", "Fisher's F with dfn and dfd degrees of freedom, beyond x", "2.0, 2.0, xp.Tensor(3.0)", 0.25, "dfn dfd"),
    "fdtri": ("dfn dfd p", "the inverse of `fdtr` in x", "2.0, 2.0, xp.Tensor(0.75)", 3.0, "dfn dfd"),
    "gdtr": ("a b x", "the gamma distribution of rate a and shape b, up to x", "1.0, 1.0, xp.Tensor(1.0)", 0.6321, "b"),
    "gdtrc": ("a b x", "the gamma distribution of rate a and shape b, beyond x", "1.0, 1.0, xp.Tensor(1.0)", 0.3679, "b"),
    "pdtr": ("k m", "Poisson's distribution of mean m, up to k", "1.0, xp.Tensor(1.0)", 0.7358, "k"),
    "pdtrc": ("k m", "Poisson's distribution of mean m, beyond k", "1.0, xp.Tensor(1.0)", 0.2642, "k"),
    "pdtri": ("k p", "the inverse of `pdtr` in m", "0.0, xp.Tensor(0.5)", 0.6931, "k"),
    "bdtr": ("k n p", "up to k successes of probability p in n trials", "1.0, 2.0, xp.Tensor(0.5)", 0.75, "k n"),
    "bdtrc": ("k n p", "more than k successes of probability p in n trials", "1.0, 2.0, xp.Tensor(0.5)", 0.25, "k n"),
    "bdtri": ("k n y", "the inverse of `bdtr` in p", "1.0, 2.0, xp.Tensor(0.75)", 0.5, "k n"),
    "nbdtr": ("k n p", "up to k failures before n successes of probability p", "1.0, 1.0, xp.Tensor(0.5)", 0.75, "k n"),
    "nbdtrc": ("k n p", "more than k failures before n successes of probability p", "1.0, 1.0, xp.Tensor(0.5)", 0.25, "k n"),
    "nbdtri": ("k n y", "the inverse of `nbdtr` in p", "1.0, 1.0, xp.Tensor(0.75)", 0.5, "k n"),
}  # fmt: skip


# The arguments that are whole numbers, which SciPy takes as integers.
_WHOLE = {
    **dict.fromkeys(("bdtr", "bdtrc", "bdtri"), "n"),
    **dict.fromkeys(("nbdtr", "nbdtrc", "nbdtri"), "k n"),
    "pdtri": "k",
}


def _with_whole_trials(name: str) -> Any:
    """Return a function of k, n and p that passes n on as integers: SciPy's warns of others."""
    return lambda xp, k, n, p: getattr(xp.special, name)(k, xp.astype(n, xp.int64), p)


_made = {
    name: make(
        name,
        arguments,
        what if what.startswith("the inverse") else f"the probability of {what}",
        example,
        result,
        fixed=fixed,
        whole=_WHOLE.get(name, ""),
        forward=_with_whole_trials(name) if name.startswith("bdtr") else None,
    )
    for name, (arguments, what, example, result, fixed) in _TABLE.items()
}
globals().update(_made)

__all__ = [*_made]  # noqa: PLE0604 - the names of the table above

"""Exponential and elliptic integrals, hypergeometric functions."""

from __future__ import annotations

from tinyxp.special._define import make

expi = make("expi", "x", "the exponential integral Ei", "xp.Tensor(1.0)", 1.8951)
exp1 = make("exp1", "x", "the exponential integral E1", "xp.Tensor(1.0)", 0.2194)
expn = make(
    "expn",
    "n x",
    "the exponential integral of integer order n",
    "2.0, xp.Tensor(1.0)",
    0.1485,
    fixed="n",
    whole="n",
)
spence = make(
    "spence",
    "z",
    "Spence's function, the integral of log(t) / (1 - t) from 1 to z",
    "xp.Tensor(0.0)",
    1.6449,
)
ellipk = make(
    "ellipk",
    "m",
    "the complete elliptic integral of the first kind, of the parameter m",
    "xp.Tensor(0.0)",
    1.5708,
)
ellipkm1 = make(
    "ellipkm1",
    "p",
    "`ellipk` of 1 - p, exact also near p = 0",
    "xp.Tensor(1.0)",
    1.5708,
)
ellipe = make(
    "ellipe",
    "m",
    "the complete elliptic integral of the second kind, of the parameter m",
    "xp.Tensor(1.0)",
    1.0,
)
hyp1f1 = make(
    "hyp1f1",
    "a b x",
    "Kummer's confluent hypergeometric function 1F1",
    "1.0, 2.0, xp.Tensor(1.0)",
    1.7183,
    fixed="a b",
)
hyp2f1 = make(
    "hyp2f1",
    "a b c x",
    "Gauss's hypergeometric function 2F1",
    "1.0, 1.0, 2.0, xp.Tensor(0.5)",
    1.3863,
    fixed="a b c",
)
lpmv = make(
    "lpmv",
    "m v x",
    "the associated Legendre function of integer order m and real degree v, with Condon's and Shortley's phase",
    "1.0, 2.0, xp.Tensor(0.5)",
    -1.299,
    fixed="m v",
)

__all__ = [
    "ellipe", "ellipk", "ellipkm1", "exp1", "expi", "expn", "hyp1f1", "hyp2f1", "lpmv", "spence",
]  # fmt: skip

"""Bessel functions."""

from __future__ import annotations

from tinyxp.special._define import make

_KIND = {
    "j": "the Bessel function of the first kind",
    "y": "the Bessel function of the second kind",
}
_MODIFIED = {
    "i": "the modified Bessel function of the first kind",
    "k": "the modified Bessel function of the second kind",
}
_ALL = _KIND | _MODIFIED
_SCALE = {"i": "times exp(-abs(x))", "k": "times exp(x)"}
# the functions at 1, of order 0 and 1
_AT_1 = {"j": (0.7652, 0.4401), "y": (0.0883, -0.7812), "i": (1.2661, 0.5652), "k": (0.421, 0.6019)}
_SCALED_AT_1 = {"i": (0.4658, 0.2079), "k": (1.1445, 1.6362)}

_made = {}
for _letter, _what in _ALL.items():
    for _n in (0, 1):
        _made[f"{_letter}{_n}"] = make(
            f"{_letter}{_n}", "x", f"{_what} and order {_n}", "xp.Tensor(1.0)", _AT_1[_letter][_n]
        )
    _made[f"{_letter}v"] = make(
        f"{_letter}v",
        "v x",
        f"{_what} and real order v",
        "1.0, xp.Tensor(1.0)",
        _AT_1[_letter][1],
        fixed="v",
    )
for _letter, _what in _MODIFIED.items():
    for _n in (0, 1):
        _made[f"{_letter}{_n}e"] = make(
            f"{_letter}{_n}e",
            "x",
            f"{_what} and order {_n}, {_SCALE[_letter]}",
            "xp.Tensor(1.0)",
            _SCALED_AT_1[_letter][_n],
        )
    _made[f"{_letter}ve"] = make(
        f"{_letter}ve",
        "v x",
        f"{_what} and real order v, {_SCALE[_letter]}",
        "1.0, xp.Tensor(1.0)",
        _SCALED_AT_1[_letter][1],
        fixed="v",
    )
_made["yn"] = make(
    "yn",
    "n x",
    "the Bessel function of the second kind and integer order n",
    "1.0, xp.Tensor(1.0)",
    _AT_1["y"][1],
    fixed="n",
    whole="n",
)
globals().update(_made)

__all__ = [*_made]  # noqa: PLE0604 - the names of the table above

"""Checks of the third tier: fused operations equal their definitions, value and cotangents."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinyxp import _decode, _fused, _updates
from tinyxp.backend import PLAIN
from tinyxp.testing import _fused_cases
from tinyxp.testing._checks import TOLERANCE, Checks
from tinyxp.testing._compare import expect, expect_same, values
from tinyxp.testing._samples import Samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyxp.backend import Backend

__all__ = ["FusedChecks"]

# The same for half precision, where intermediate results are rounded too, some here and others there.
_HALF = {"bfloat16": 4e-2, "float16": 5e-3}


class FusedChecks(Checks):
    """What may be done in one go."""

    def test_every_fused_operation_has_a_case(self) -> None:
        """No operation of the third tier goes unchecked."""
        known = {c.name for c in (*_fused_cases.FUSED, *_fused_cases.UPDATES)}
        missing = (
            {*_fused.OPERATIONS, *_updates.NAMES, *_decode.NAMES} - known - _updates.FOR_REPLAY
        )
        expect(not missing, f"no cases for {', '.join(sorted(missing))}")

    def test_fused_operations(self) -> None:
        """Every fused operation gives its definition's value, the default's cotangents, and writes nowhere."""
        for s in self.streams():
            for case in _fused_cases.FUSED:
                self._fused(s, case)

    def test_fused_operations_in_half_precision(self) -> None:
        """The same on arrays in half precision, where the library has it: sums and exponentials in float32."""
        for device in self.devices():
            for half in _HALF:
                if half in self.backend.native_dtypes:
                    for case in _fused_cases.FUSED:
                        self._fused(Samples(device, half), case)

    def _fused(self, s: Samples, case: _fused_cases.Case) -> None:
        backend, xp, compute = self.backend, s.device.xp, case.options.get("compute", s.dtype.name)
        if compute not in backend.native_dtypes:
            return
        known = TOLERANCE | _HALF
        rtol = max(known[s.dtype.name], known[compute])
        args = case.make(s)
        before = [backend.copy(a) if hasattr(a, "dtype") else a for a in args]
        out, aux = getattr(xp, case.name)(*args, **case.options)
        self.same(out, getattr(_fused, case.name)(xp, *args, **case.options), str(case), rtol)
        default = getattr(xp, f"{PLAIN}{case.name}"), getattr(xp, f"{PLAIN}{case.name}_vjp")
        ref_out, ref_aux = default[0](*args, **case.options)
        g = s.real(*out.shape)
        kept = _arrays(aux)
        held = [backend.copy(a) for a in (g, out, *kept)]
        scale = 0.0
        for needs in _patterns([_fused_cases.is_real(a) for a in args]):
            options = {"needs": needs, **case.options}
            got = getattr(xp, f"{case.name}_vjp")(g, out, aux, *args, **options)
            want = default[1](g, ref_out, ref_aux, *args, **options)
            # one that is 0 by mathematics, as that of the keys' bias, is rounding beside the others
            scale = max([scale, *(_largest(backend, w) for w in want if w is not None)])
            for i, need in enumerate(needs):
                what = f"cotangent {i} of {case}"
                expect((got[i] is not None) == need, f"{what} is {got[i]!r}, needs[{i}] = {need}")
                if need:
                    expect_same(
                        backend, got[i], backend, want[i], rtol=rtol, what=what, scale=scale
                    )
        for after, was in zip((*args, g, out, *kept), (*before, *held), strict=True):
            self.same(after, was, f"what {case} was given, after it")

    def test_update_steps(self) -> None:
        """Every update step writes what the default writes, and nothing into the gradient."""
        for s in self.streams():
            for case in _fused_cases.UPDATES:
                ours, theirs = (
                    [_copied(self.backend, a) for a in args] for args in [case.make(s)] * 2
                )
                plain = f"{PLAIN}{case.name}"
                got = getattr(s.device.xp, case.name)(*ours, **case.options)
                want = getattr(s.device.xp, plain)(*theirs, **case.options)
                self._alike([got, *ours], [want, *theirs], f"after {case}, result and argument", s)

    def _alike(self, got: Sequence[Any], want: Sequence[Any], what: str, s: Samples) -> None:
        for i, (a, b) in enumerate(zip(got, want, strict=True)):
            if isinstance(a, list | tuple):
                self._alike(a, b, f"{what} {i}, array", s)
            elif type(a) is self.backend.array_type:
                self.same(a, b, f"{what} {i}", TOLERANCE[s.dtype.name])


def _copied(backend: Backend, x: Any) -> Any:
    if isinstance(x, list):
        return [_copied(backend, y) for y in x]
    return backend.copy(x) if type(x) is backend.array_type else x


def _arrays(aux: Any) -> list[Any]:
    """Return the arrays in nested tuples, in which None may stand for one that was not given."""
    return [x for a in aux if a is not None for x in (_arrays(a) if isinstance(a, tuple) else [a])]


def _largest(backend: Backend, x: Any) -> float:
    """Return the largest finite magnitude in `x`, on the host."""
    found = [abs(v) for v in values(backend, x).reshape(-1).tolist()]
    return max((v for v in found if math.isfinite(v)), default=0.0)


def _patterns(real: list[bool]) -> list[tuple[bool, ...]]:
    """Return what a vjp may be asked for: everything that has a cotangent, and each alone."""
    each = [tuple(i == j for j in range(len(real))) for i, r in enumerate(real) if r]
    return [tuple(real), *(p for p in each if p != tuple(real))]

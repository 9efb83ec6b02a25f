"""Checks of the third tier: fused operations equal their definitions, value and cotangents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyxp import _fused, _updates
from tinyxp.testing import _fused_cases
from tinyxp.testing._checks import TOLERANCE, Checks
from tinyxp.testing._compare import expect

if TYPE_CHECKING:
    from tinyxp.backend import Backend
    from tinyxp.testing._samples import Samples

__all__ = ["FusedChecks"]


class FusedChecks(Checks):
    """What may be done in one go."""

    def test_every_fused_operation_has_a_case(self) -> None:
        """No operation of the third tier goes unchecked."""
        known = {c.name for c in (*_fused_cases.FUSED, *_fused_cases.UPDATES)}
        missing = {*_fused.OPERATIONS, *_updates.NAMES} - known
        expect(not missing, f"no cases for {', '.join(sorted(missing))}")

    def test_fused_operations(self) -> None:
        """Every fused operation gives its definition's value, the default's cotangents, and writes nowhere."""
        for s in self.streams():
            for case in _fused_cases.FUSED:
                self._fused(s, case)

    def _fused(self, s: Samples, case: _fused_cases.Case) -> None:
        backend, xp, rtol = self.backend, s.device.xp, TOLERANCE[s.dtype.name]
        args = case.make(s)
        before = [backend.copy(a) if hasattr(a, "dtype") else a for a in args]
        out, aux = getattr(xp, case.name)(*args, **case.options)
        self.same(out, getattr(_fused, case.name)(xp, *args, **case.options), str(case), rtol)
        default = _fused.Defaults
        ref_out, ref_aux = getattr(default, case.name)(backend, *args, **case.options)
        g = s.real(*out.shape)
        held = [backend.copy(a) for a in (g, out, *aux)]
        for needs in _patterns([_fused_cases.is_real(a) for a in args]):
            options = {"needs": needs, **case.options}
            got = getattr(xp, f"{case.name}_vjp")(g, out, aux, *args, **options)
            want = getattr(default, f"{case.name}_vjp")(
                backend, g, ref_out, ref_aux, *args, **options
            )
            for i, need in enumerate(needs):
                what = f"cotangent {i} of {case}"
                expect((got[i] is not None) == need, f"{what} is {got[i]!r}, needs[{i}] = {need}")
                if need:
                    self.same(got[i], want[i], what, rtol)
        for after, kept in zip((*args, g, out, *aux), (*before, *held), strict=True):
            self.same(after, kept, f"what {case} was given, after it")

    def test_update_steps(self) -> None:
        """Every update step writes what the default writes, and nothing into the gradient."""
        for s in self.streams():
            for case in _fused_cases.UPDATES:
                ours, theirs = (
                    [_copied(self.backend, a) for a in args] for args in [case.make(s)] * 2
                )
                getattr(s.device.xp, case.name)(*ours, **case.options)
                getattr(_updates.Defaults, case.name)(self.backend, *theirs, **case.options)
                for i, (got, want) in enumerate(zip(ours, theirs, strict=True)):
                    self.same(got, want, f"argument {i} after {case}", TOLERANCE[s.dtype.name])


def _copied(backend: Backend, x: Any) -> Any:
    return backend.copy(x) if hasattr(x, "dtype") else x


def _patterns(real: list[bool]) -> list[tuple[bool, ...]]:
    """Return what a vjp may be asked for: everything that has a cotangent, and each alone."""
    each = [tuple(i == j for j in range(len(real))) for i, r in enumerate(real) if r]
    return [tuple(real), *(p for p in each if p != tuple(real))]

"""What ``__array_namespace_info__`` returns."""

from __future__ import annotations

from typing import Any

from tinyxp import backend, dtypes, ops


class Info:
    """The inspection interface of the standard.

    Examples
    --------
    >>> import tinyxp as xp
    >>> xp.__array_namespace_info__().default_dtypes()["real floating"]
    tinyxp.float32
    """

    def capabilities(self) -> dict[str, Any]:
        """Return which optional behaviour there is."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> backend.Device:
        """Return the device on which arrays are created when none is named."""
        return backend.get_default_device()

    def devices(self) -> tuple[backend.Device, ...]:
        """Return the devices of the backends that are in use, the default one first."""
        first = backend.get_default_device()
        owners = [first.backend, *(b for b in backend.loaded_backends() if b is not first.backend)]
        found = [owner.device(local) for owner in owners for local in owner.devices()]
        return tuple(dict.fromkeys([first, *found]))

    def default_dtypes(self, *, device: Any = None) -> dict[str, dtypes.DType]:  # noqa: ARG002 - for subclasses that look
        """Return the dtypes that Python numbers and indices take."""
        return {
            "real floating": dtypes.default_of_kind("f"),
            "complex floating": dtypes.default_of_kind("c"),
            "integral": dtypes.default_of_kind("i"),
            "indexing": dtypes.type_names["int64"],
        }

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, dtypes.DType]:
        """Return the standard's dtypes that the device has, those of a kind only if one is given."""
        from tinyxp import _standard

        have = backend.device(device).backend.native_dtypes
        return {
            name: d
            for name, d in dtypes.type_names.items()
            if name in _standard.DTYPES and name in have and (kind is None or ops.isdtype(d, kind))
        }

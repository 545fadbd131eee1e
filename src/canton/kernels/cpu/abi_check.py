"""Comparison of ctypes structures and constants with the tables of the C++ library (abi_check.h)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Any


class _Field(ctypes.Structure):
    _fields_ = (
        ("structure", ctypes.c_char_p),
        ("field", ctypes.c_char_p),
        ("offset", ctypes.c_int64),
        ("size", ctypes.c_int64),
    )


class _Constant(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("value", ctypes.c_int64))


def structure_mismatch(table: Any, structures: Iterable[type[ctypes.Structure]]) -> str | None:
    """Return the first difference between `structures` and the C++ structs of the same names, None if equal.

    Args:
        table: exported function that returns a table of AbiField.
        structures: every structure of the table. A trailing underscore of a field's name is ignored.
    """
    table.restype = ctypes.POINTER(_Field)
    theirs = {
        f"{row.structure.decode()}.{row.field.decode()}": (row.offset, row.size)
        for row in takewhile(lambda row: row.structure, table())
    }
    ours = {}
    for structure in structures:
        ours[f"{structure.__name__}."] = (0, ctypes.sizeof(structure))
        for name, *_ in structure._fields_:
            field = getattr(structure, name)
            ours[f"{structure.__name__}.{name.rstrip('_')}"] = (field.offset, field.size)
    return _difference(ours, theirs, "offset and size of")


def constant_mismatch(table: Any, constants: Mapping[str, int]) -> str | None:
    """Return the first difference between `constants` and the C++ constants of the same names, None if equal.

    Args:
        table: exported function that returns a table of AbiConstant.
    """
    table.restype = ctypes.POINTER(_Constant)
    theirs = {row.name.decode(): row.value for row in takewhile(lambda row: row.name, table())}
    return _difference(constants, theirs, "value of")


def _difference(ours: Mapping[str, object], theirs: Mapping[str, object], what: str) -> str | None:
    for name in {**ours, **theirs}:
        if ours.get(name) != theirs.get(name):
            return (
                f"the C++ library does not match this version of Canton: {what} {name.rstrip('.')} "
                f"expected {ours.get(name)}, got {theirs.get(name)}; reinstall Canton"
            )
    return None

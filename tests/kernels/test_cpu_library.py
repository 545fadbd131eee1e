"""The C++ library: which cells register, and what is checked at load."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

from canton.cells.gru import GRUBeforeSpec
from canton.cells.lstm import LSTMSpec
from canton.kernels import cpu
from canton.kernels.cpu import abi
from canton.kernels.cpu.abi_check import constant_mismatch, structure_mismatch

needs_library = pytest.mark.skipif(not cpu.available(), reason=f"no C++ kernels: {cpu.why_not()}")


def build_script(root: Path) -> object:
    sys.path.insert(0, str(root))
    try:
        import hatch_build
    finally:
        sys.path.remove(str(root))
    return hatch_build


@needs_library
def test_every_cell_file_registers_its_cell(root: Path) -> None:
    script = build_script(root)
    names = {source.stem for source in script.sources(root) if source.parent.name == "cells"}
    assert {GRUBeforeSpec.cpp.name, "lstm", "min_gru"} <= names
    for name in names:
        assert abi.cell(name)
    with pytest.raises(RuntimeError, match="no_such_cell"):
        abi.cell("no_such_cell")


@needs_library
def test_another_layout_of_a_structure_is_refused() -> None:
    class GemmRun(ctypes.Structure):
        _fields_ = (*abi.GemmRun._fields_[:-2], ("c", ctypes.c_void_p), ("bias", ctypes.c_void_p))

    table = abi.library().canton_fields
    assert ctypes.sizeof(GemmRun) == ctypes.sizeof(abi.GemmRun)
    other = tuple(GemmRun if one is abi.GemmRun else one for one in abi.STRUCTURES)
    assert structure_mismatch(table, abi.STRUCTURES) is None
    assert "GemmRun" in str(structure_mismatch(table, other))
    assert "MAX_STATES" in str(constant_mismatch(abi.library().canton_constants, {"MAX_STATES": 3}))


def test_a_cell_without_a_cpp_entry_says_why() -> None:
    assert "peephole" in str(LSTMSpec(None, True, None).cpp)

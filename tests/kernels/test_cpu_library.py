"""The C++ library: what is compiled for an instruction set, what registers, and what is checked at load."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from canton.cells.gru import GRUBeforeSpec
from canton.cells.lstm import LSTMSpec
from canton.kernels import cpu
from canton.kernels.cpu import abi
from canton.kernels.cpu.abi_check import constant_mismatch, structure_mismatch

needs_library = pytest.mark.skipif(not cpu.available(), reason=f"no C++ kernels: {cpu.why_not()}")
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
NM = shutil.which("nm")


def build_script(root: Path) -> object:
    sys.path.insert(0, str(root))
    try:
        import hatch_build
    finally:
        sys.path.remove(str(root))
    return hatch_build


def weak_symbols(source: Path, options: list[str], folder: Path) -> list[str]:
    """The weak functions of an object file; a linker may keep this copy of them for all processors."""
    made = folder / f"{source.stem}.o"
    subprocess.run([str(COMPILER), *options, "-O0", "-c", str(source), "-o", str(made)], check=True)
    listed = subprocess.run([str(NM), "-C", str(made)], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line[17:18] == "W"]


@pytest.mark.skipif(COMPILER is None or NM is None, reason="no C++ compiler or nm")
@pytest.mark.parametrize("name", ["avx2", "avx512"])
def test_files_compiled_for_an_instruction_set_share_nothing(root: Path, tmp_path: Path, name: str) -> None:
    script = build_script(root)
    sources = [source for source in script.sources(root) if script.per_set(source)]
    assert {"gru_before", "kernels", "engine"} <= {source.stem for source in sources}
    for source in sources:
        found = weak_symbols(source, script.flags(root, name), tmp_path)
        assert not found, f"{source.name}: {found[0]}"


@pytest.mark.skipif(COMPILER is None or NM is None, reason="no C++ compiler or nm")
def test_a_standard_template_is_found(tmp_path: Path) -> None:
    source = tmp_path / "template.cpp"
    source.write_text("#include <vector>\nint f(int n) { return std::vector<int>(n).size(); }\n")
    assert any("std::" in symbol for symbol in weak_symbols(source, ["-std=c++17"], tmp_path))


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
    assert structure_mismatch(table, (abi.RecurrentRun, abi.ConvolutionRun, abi.GemmRun)) is None
    assert "GemmRun" in str(structure_mismatch(table, (abi.RecurrentRun, abi.ConvolutionRun, GemmRun)))
    assert "MAX_STATES" in str(constant_mismatch(abi.library().canton_constants, {"MAX_STATES": 3}))


def test_a_cell_without_a_cpp_entry_says_why() -> None:
    assert "peephole" in str(LSTMSpec(None, True, None).cpp)

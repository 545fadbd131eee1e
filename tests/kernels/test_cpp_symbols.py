"""C++ that is compiled once for each instruction set shares no code with another instruction set."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

C_HEADERS = {"immintrin.h", "math.h", "stddef.h", "stdint.h", "stdlib.h", "string.h"}


@pytest.fixture
def hatch_build(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", root / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sources(hatch_build: ModuleType, root: Path) -> list[Path]:
    found = [path for path in hatch_build.sources(root) if hatch_build.per_set(path)]
    assert {"kernels", "engine", "gru_before"} <= {path.stem for path in found}
    return found


def test_no_standard_header_with_templates_is_included(hatch_build: ModuleType, root: Path) -> None:
    folders = [root / folder for folder in hatch_build.SOURCES]
    waiting, read = sources(hatch_build, root), set()
    assert waiting
    while waiting:
        path = waiting.pop()
        read.add(path)
        for angle, name in re.findall(r'^\s*#include ([<"])(.*)[>"]', path.read_text(), re.MULTILINE):
            if angle == "<":
                assert name in C_HEADERS, f"{path.name} includes <{name}>"
                continue
            near = next(f / name for f in (path.parent, *folders) if (f / name).is_file())
            waiting += [] if near in read else [near]
    assert len(read) > len(sources(hatch_build, root))


@pytest.mark.skipif(shutil.which("nm") is None or shutil.which("g++") is None, reason="needs g++ and nm")
@pytest.mark.skipif(sys.platform != "linux", reason="reads the symbols of ELF objects")
def test_no_weak_function_is_shared_by_instruction_sets(
    hatch_build: ModuleType, root: Path, tmp_path: Path
) -> None:
    """The linker keeps one copy of a weak function, perhaps one that another processor cannot run."""
    include = [f"-I{root / folder}" for folder in hatch_build.SOURCES]
    for number, path in enumerate(sources(hatch_build, root)):
        made = tmp_path / f"{number}.o"
        flags = ["-std=c++17", "-O0", "-fPIC", "-fvisibility=hidden"]  # unoptimised: nothing is inlined away
        subprocess.run(["g++", *flags, *include, "-c", str(path), "-o", str(made)], check=True)
        listed = subprocess.run(["nm", "-C", str(made)], capture_output=True, text=True, check=True).stdout
        assert re.findall(r" [Tt] ", listed)
        assert not re.findall(r" [Wu] .*", listed)

"""Build the C++ kernels when the package is installed; without a compiler, install without them.

For development in the source tree run ``python hatch_build.py``.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script without hatchling
    BuildHookInterface = object  # type: ignore[assignment,misc]

FOLDER = Path("src", "canton", "kernels", "cpu")
SOURCES = (FOLDER / "src", Path("src", "canton", "text", "engine"))
PER_INSTRUCTION_SET = ("kernels.cpp", "engine.cpp", "exact_engine.cpp")
"""Files compiled once for each instruction set, like those in src/cells. The others are compiled once."""

EXACT = {"exact_engine.cpp": ["-ffp-contract=off"]}
"""Further options of files whose results must not depend on the instruction set."""

SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"]
INSTRUCTIONS = {
    "portable": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mfma", "-mprefer-vector-width=512"],
}


def build(root: Path) -> Path:
    """Compile and link the library, and return its path.

    Raises:
        RuntimeError: there is no compiler, or it failed; the message is its output.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if compiler is None:
        raise RuntimeError("no C++ compiler was found (g++, clang++ or $CXX)")
    folder = root / FOLDER
    library = folder / f"libcanton{SUFFIX}"
    x86 = platform.machine().lower() in ("x86_64", "amd64") and sys.maxsize > 2**32
    names = list(INSTRUCTIONS) if x86 else ["portable"]
    with tempfile.TemporaryDirectory() as temporary:
        jobs = [
            (source, name)
            for source in sources(root)
            for name in (names if per_set(source) else ["portable"])
        ]
        objects = [str(Path(temporary, f"{number}.o")) for number in range(len(jobs))]
        commands = [
            [
                compiler,
                *flags(root, name, x86=x86),
                *EXACT.get(source.name, []),
                "-c",
                str(source),
                "-o",
                output,
            ]
            for (source, name), output in zip(jobs, objects, strict=True)
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run, commands))
        linked = str(Path(temporary, library.name))
        _run([compiler, "-shared", "-o", linked, *objects, "-lpthread"])
        shutil.copyfile(linked, folder / f".{library.name}")
        os.replace(folder / f".{library.name}", library)  # noqa: PTH105  (atomic, also while the library is loaded)
    return library


def sources(root: Path) -> list[Path]:
    """Return all C++ files."""
    folders = (*(root / folder for folder in SOURCES), root / SOURCES[0] / "cells")
    return [source for folder in folders for source in sorted(folder.glob("*.cpp"))]


def per_set(source: Path) -> bool:
    """Return whether the file is compiled once for each instruction set."""
    return source.name in PER_INSTRUCTION_SET or source.parent.name == "cells"


def flags(root: Path, name: str, *, x86: bool = True) -> list[str]:
    """Return the compiler's options for the instruction set `name`."""
    defines = ["-DCANTON_X86"] if x86 else []
    return [*FLAGS, *INSTRUCTIONS[name], *defines, *(f"-I{root / folder}" for folder in SOURCES)]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except OSError as error:
        raise RuntimeError(f"{command[0]} did not start: {error}") from error
    if done.returncode:
        raise RuntimeError(f"the C++ compiler failed:\n{done.stdout[-2000:]}")


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc,type-arg]
    """Build hook of Hatch, for wheels and editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        try:
            library = build(Path(self.root))
        except Exception as error:  # the package works without the library
            print(
                f"canton: installed without its C++ kernels, torch's operations run instead: {error}",
                file=sys.stderr,
            )
            return
        build_data["artifacts"].append(str(library.relative_to(self.root)))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


if __name__ == "__main__":
    print(build(Path(__file__).resolve().parent))

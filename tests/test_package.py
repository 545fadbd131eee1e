"""The installed package: `python -m canton`, completion, and a wheel built without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

needs_cli = pytest.mark.skipif(find_spec("typer") is None, reason="typer is not installed")

MODELS = (
    "text/models/text.safetensors",
    "track/models/visible.safetensors",
    "track/models/infrared.safetensors",
)
DATA_FILES = ("py.typed", "text/page.html", "ui/page.css", "ui/page.js", *MODELS)
"""Files that a wheel must contain although no import needs them."""


def run(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the arguments `words` in `folder`."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )


@needs_cli
def test_python_m_canton_runs_the_command(tmp_path: Path) -> None:
    done = run("-m", "canton", "--help", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Usage: canton" in done.stdout
    assert {"info", "text", "track"} <= set(done.stdout.split())


@needs_cli
def test_python_m_canton_exits_with_2_on_a_usage_error(tmp_path: Path) -> None:
    done = run("-m", "canton", "txet", folder=tmp_path)
    assert done.returncode == 2
    assert "txet" in done.stderr


@needs_cli
def test_the_shell_completes(tmp_path: Path) -> None:
    words = {"_CANTON_COMPLETE": "complete_bash", "COMP_WORDS": "canton track ", "COMP_CWORD": "2"}
    done = run("-m", "canton", folder=tmp_path, **words)
    assert done.returncode == 0, done.stderr
    assert {"train", "watch", "evaluate", "figure", "export"} <= set(done.stdout.split())


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", ["setup", "demo", "test", "slow", "lint", "types", "docs", "bench"])
def test_every_make_target_is_valid_shell_on_a_new_machine(root: Path, target: str) -> None:
    recipe = ["make", "--dry-run", target, "VENV=not_made_yet"]
    script = subprocess.run(recipe, cwd=root, capture_output=True, text=True, check=True).stdout
    assert "tools/setup.sh" in script
    parsed = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr


def test_the_pretrained_models_are_small(root: Path) -> None:
    assert sum((root / "src" / "canton" / name).stat().st_size for name in MODELS) < 3_500_000


@pytest.mark.slow
@pytest.mark.skipif(find_spec("hatchling") is None, reason="hatchling is not installed (canton-torch[dev])")
def test_a_wheel_built_without_a_compiler_works_and_reports_it(root: Path, tmp_path: Path) -> None:
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
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) >= {f"canton/{name}" for name in DATA_FILES}
        archive.extractall(tmp_path / "site")
    code = "import canton.cli, sys; print(canton.__file__); sys.exit(canton.cli.main(['info']))"
    done = run("-c", code, folder=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site"))
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("C++ kernels"))
    assert "was not built" in line
    assert "compiler" in line
    work = "import torch, canton; g, x = canton.GRU(3, 4), torch.randn(5, 2, 3); print(g.which(x), g(x))"
    assert run("-c", work, folder=tmp_path, PYTHONPATH=str(tmp_path / "site")).stdout.startswith("manual")

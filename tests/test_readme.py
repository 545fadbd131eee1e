"""README's code and commands run in a copy of the project.

The commands are slow tests, with three changes: a training budget in minutes becomes a few seconds, `pip
install` installs into a new environment that sees this one's packages, and `make test` is skipped, since it
runs these tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from blocks import MINUTES, commands, run_python, shorten

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
COMMANDS = commands(README)


def test_the_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_python(README) > 0


def test_the_links_have_targets() -> None:
    for page in [README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"


def test_the_commands_are_found() -> None:
    assert "make demo" in COMMANDS
    assert any(command.startswith("pip install") for command in COMMANDS)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project's files, uncommitted changes included, with this environment."""
    if not (ROOT / ".venv" / ".ready-dev").exists():
        pytest.skip("the commands need the environment of make setup")
    if Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip(f"the commands need .venv, but the tests run in {sys.prefix}")
    # otherwise `make demo` would install the environment from the copy
    subprocess.run(["make", ".venv/.ready-text"], cwd=ROOT, capture_output=True, check=True)
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)  # with its times, so that make rebuilds nothing
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a new environment that sees this one's packages except Canton."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (outer,) = (p for p in map(Path, sys.path) if p.name == "site-packages" and p.is_relative_to(sys.prefix))
    (site / "borrowed.pth").write_text(f"{outer}\n", "utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(command: str, clone: Path, fresh: Path) -> None:
    if command == "make test":
        assert "make test" in (ROOT / ".ci" / "run").read_text("utf-8")
        pytest.skip("make test runs these tests; .ci/run runs make test")
    bins = fresh / "bin" if command.startswith("pip ") else ROOT / ".venv" / "bin"
    shortened = shorten(command)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", shortened],
        cwd=clone,
        env={**os.environ, "PATH": f"{bins}{os.pathsep}{os.environ['PATH']}", "MINUTES": MINUTES},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
    )
    output = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0, f"{shortened}\n{output}"
    assert output.strip(), f"{shortened} printed nothing"

"""Every Python block and every command of the pages runs, and every fenced block has a language.

A training budget in minutes becomes a few seconds. test_readme and .ci/run run the pip and make commands;
here they are only compared.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from blocks import blocks, commands, run_python, shorten

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"])
COMMANDS = {page: commands(page) for page in PAGES}
OTHER_PROGRAMS = {"--strict", "--early", "--footage", "--modality", "--seed"}
"""Options of mypy and of the scripts in benchmarks/."""
CANTON = {page: [c for c in found if c.startswith("canton ")] for page, found in COMMANDS.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # blocks write files here
    run_python(page)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_every_block_has_a_language(page: Path) -> None:
    languages = {block.language for block in blocks(page)}
    assert languages <= {"python", "sh", "text"}
    text_lines = [line for b in blocks(page) if b.language == "text" for line in b.code.splitlines()]
    assert not [line for line in text_lines if re.match(r"(canton|pip|make|python3?) ", line)], (
        "commands must be in sh blocks"
    )


def test_a_failing_block_is_reported(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Said.\n\n```python\nx = 1\n```\n\nThen:\n\n```python\nassert x == 2\n```\n", "utf-8")
    with pytest.raises(AssertionError) as caught:
        run_python(page)
    assert caught.traceback[-1].lineno == 9  # counted from 0: line 10 of the page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_run_by_a_test(page: Path) -> None:
    ci, readme = (ROOT / ".ci" / "run").read_text("utf-8"), commands(ROOT / "README.md")
    targets_run = re.findall(r"^(?:step .*\n)?make ([\w ]+)$", ci, re.M)
    targets = {target for line in targets_run for target in line.split()}
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    for command in COMMANDS[page]:
        program, *words = command.split()
        if program == "make":
            assert set(words) <= targets, f"{command}: .ci/run makes {targets}"
        elif program == "pip" and (named := re.fullmatch(r"pip install 'canton-torch\[(\w+)\]'", command)):
            assert named[1] in extras, f"{command}: there is no such extra"
        elif program == "pip":
            assert command in readme, f"{command}: README has another"
        else:
            assert program == "canton" or command == ".venv/bin/pre-commit install", f"nothing runs {command}"


ANNOTATIONS = """<annotations><version>1.1</version>
<track id="0" label="drone">
<box frame="0" keyframe="1" outside="0" xtl="10" ytl="12" xbr="18" ybr="19"></box>
<box frame="1" keyframe="1" outside="0" xtl="11" ytl="12" xbr="19" ybr="19"></box>
</track>
</annotations>
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a folder with the files that the commands need: a text, a model, a video, footage."""
    if any(find_spec(name) is None for name in ("typer", "av", "onnx", "matplotlib", "gradio")):
        pytest.skip("the commands need canton-torch[all]")
    (tmp_path / "README.md").write_bytes((ROOT / "README.md").read_bytes())
    shipped = ROOT / "src" / "canton" / "text" / "models" / "text.safetensors"
    (tmp_path / "model.safetensors").write_bytes(shipped.read_bytes())
    words = ["track", "scenes", "--out", "FOLDER", "--clips", "8", "--frames", "24"]
    subprocess.run([sys.executable, "-m", "canton", *words], cwd=tmp_path, check=True, capture_output=True)
    splits = tmp_path / "FOLDER" / "splits.csv"
    header, *rows = splits.read_text("utf-8").splitlines()
    drones = [row for row in rows if ",DRONE," in row]  # every split needs one
    part = {drones[0]: "train", drones[1]: "val"}
    rows = [re.sub(r",(train|val|test)\b", f",{part.get(row, 'test')}", row) for row in rows]
    splits.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    clip = next((tmp_path / "FOLDER" / "clips").glob("*.mp4"))
    (tmp_path / "films").mkdir()
    shutil.copytree(tmp_path / "FOLDER", tmp_path / "footage")
    for name in ("video.mp4", "more.mp4", "film.mp4", "films/a.mp4", "footage/clips/film.mp4"):
        (tmp_path / name).write_bytes(clip.read_bytes())
    (tmp_path / "annotations.xml").write_text(ANNOTATIONS)
    (tmp_path / "films.txt").write_text("video.mp4\nmore.mp4\n")
    return tmp_path


def test_every_option_that_a_page_names_exists() -> None:
    pytest.importorskip("typer")
    sys.path.append(str(ROOT / "tools"))
    from docs_options import PATTERN, command

    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    listed = [words.split() for words in PATTERN.findall(page)]
    options = {
        name: {
            option
            for parameter in command(name.split()).params
            for option in parameter.opts + parameter.secondary_opts
        }
        for name in map(" ".join, listed)
    }
    assert {"text train", "track watch", "info"} <= set(options)
    known = set().union(*options.values()) | {
        "--help",
        "--install-completion",
        "--show-completion",
        "--version",
    }
    for path in [*PAGES, ROOT / "README.md"]:
        for command_line in commands(path):
            name = next((name for name in options if command_line.startswith(f"canton {name} ")), None)
            if name is not None:
                used = set(re.findall(r"(?<=\s)--[a-z][\w-]*", command_line))
                assert used <= options[name], f"{path.name}: {command_line}"
        spans = " ".join(re.findall(r"`([^`\n]+)`", path.read_text("utf-8")))
        unknown = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", spans)) - known
        assert not {o for o in unknown if o not in OTHER_PROGRAMS}, f"{path.name}: {sorted(unknown)}"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if CANTON[page]], ids=lambda page: page.stem)
def test_the_commands_run_in_order(page: Path, workspace: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    for command in CANTON[page]:
        shortened = shorten(command)
        running = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", f"exec {shortened}"],
            cwd=workspace,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert running.stdout is not None
        if serves := command == "canton ui":
            assert b"http://127.0.0.1:" in running.stdout.readline()
            running.send_signal(signal.SIGINT)
        output = running.communicate(timeout=600)[0].decode("utf-8", "replace")
        assert running.returncode == (130 if serves else 0), f"{shortened}\n{output}"
        assert serves or output.strip(), f"{shortened} printed nothing"


@pytest.mark.slow
def test_the_hooks_install(tmp_path: Path) -> None:
    hooks = Path(sys.executable).with_name("pre-commit")
    if not hooks.exists():
        pytest.skip("pre-commit is not installed (canton-torch[dev])")
    (tmp_path / ".pre-commit-config.yaml").write_bytes((ROOT / ".pre-commit-config.yaml").read_bytes())
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([hooks, "install"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / ".git" / "hooks" / "pre-commit").exists()

"""Pipes, devices, file names that are not UTF-8, and settings without effect."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cli.conftest import Canton

TRAIN = ("--steps", "3", "--batch-size", "4", "--sequence-length", "16", "--hidden-size", "8", "--quiet")
ODD = "caf\udce9.txt"
"""A name with Latin-1 bytes, as Python decodes it."""


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_an_output_may_be_a_pipe(canton: Canton, model: Path, text: Path, pipe: Path) -> None:
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert canton("text", "score", model, text, "--json", pipe).status == 0
    reader.join(timeout=60)
    assert json.loads(got[0].splitlines()[0])
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [path.name for path in pipe.parent.iterdir()] == ["pipe"]


def test_a_model_may_come_from_a_pipe(canton: Canton, model: Path, pipe: Path) -> None:
    writer = threading.Thread(target=lambda: pipe.write_bytes(model.read_bytes()), daemon=True)
    writer.start()
    done = canton("text", "generate", pipe, "--bytes", "5")
    writer.join(timeout=60)
    assert done.status == 0, done.err
    assert done.out


@pytest.mark.skipif(sys.platform != "linux", reason="needs mknod of Linux")
def test_a_device_is_not_replaced(canton: Canton, model: Path, text: Path, tmp_path: Path) -> None:
    null = tmp_path / "null"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        null.write_bytes(b"x")
    except OSError as error:
        pytest.skip(f"cannot create a device: {error}")
    assert canton("text", "score", model, text, "--json", null).status == 0
    assert "regular file" in canton.complains("text", "train", text, "--out", null, *TRAIN)
    assert stat.S_ISCHR(null.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["null"]


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="there is no /dev/fd")
def test_an_output_may_be_a_file_descriptor(canton: Canton, model: Path, text: Path) -> None:
    """As a shell does in `--json >(wc -l)`."""
    reader, writer = os.pipe()
    got: list[bytes] = []
    with os.fdopen(reader, "rb") as file:
        thread = threading.Thread(target=lambda: got.append(file.read()), daemon=True)
        thread.start()
        done = canton("text", "score", model, text, "--json", f"/dev/fd/{writer}")
        os.close(writer)
        thread.join(timeout=60)
    assert done.status == 0, done.err
    assert json.loads(got[0].splitlines()[0])


def test_file_names_that_are_not_utf8(model: Path, text: Path, tmp_path: Path) -> None:
    """In a separate process whose standard output is strict, as in most terminals."""
    odd = tmp_path / ODD
    try:
        odd.write_bytes(text.read_bytes())
    except OSError:
        pytest.skip("this file system refuses such names")
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    saved = tmp_path / ODD.replace("txt", "safetensors")
    for words in (
        ["score", model, odd, "--html", tmp_path / "page.html"],
        ["train", odd, "--out", saved, *TRAIN],
    ):
        command = [sys.executable, "-m", "canton", "text", *map(os.fsencode, words)]
        done = subprocess.run(command, capture_output=True, env=strict, check=False)
        assert done.returncode == 0, done.stderr
    assert rb"caf\udce9.safetensors" in done.stdout
    assert "caf?.txt" in (tmp_path / "page.html").read_text("utf-8")
    assert saved.is_file()


def test_the_curve_of_a_name_with_dots_has_its_own_file(canton: Canton, text: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (canton-torch[plot])")
    for name in ("run.v1", "run.v2", "run.safetensors"):
        assert canton("text", "train", text, "--out", tmp_path / name, *TRAIN).status == 0
    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert drawn == ["run.curve.png", "run.v1.curve.png", "run.v2.curve.png"]


def test_the_log_directory_is_a_file(canton: Canton, text: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (canton-torch[log])")
    line = canton.complains("text", "train", text, "--out", tmp_path / "m", "--log-dir", text, *TRAIN)
    assert "log directory" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--modality", "IR", "modality"),
        ("--seed", str(2**64), "seed"),
        ("--save-seconds", "-5", "save_seconds"),
        ("--save-seconds", "nan", "save_seconds"),
    ],
)
def test_settings_without_effect_or_out_of_range(
    canton: Canton, tmp_path: Path, option: str, value: str, message: str
) -> None:
    assert message in canton.complains("track", "train", option, value, "--out", tmp_path / "m")
    assert list(tmp_path.iterdir()) == []

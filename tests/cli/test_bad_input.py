"""Invalid input gives a one-line error and exit status 2, and writes nothing."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cli.conftest import Canton, disk_of

TRAIN = ("--steps", "3", "--batch-size", "4", "--sequence-length", "16", "--hidden-size", "8", "--quiet")


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "is empty"), (b"x", "train_fraction"), (b"to be or not to be", "batch_size")],
)
def test_a_file_that_is_too_short(canton: Canton, tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert complaint in canton.complains("text", "train", file, "--out", tmp_path / "m", *TRAIN)
    assert listing(tmp_path) == ["file"]


def test_a_directory(canton: Canton, model: Path, text: Path, tmp_path: Path) -> None:
    assert "must have files" in canton.complains("text", "train", tmp_path, "--out", tmp_path / "m", *TRAIN)
    assert "is a directory" in canton.complains("text", "train", text, "--out", tmp_path, *TRAIN)
    assert "is a directory" in canton.complains("text", "generate", tmp_path)
    assert "is a directory" in canton.complains("text", "score", model, tmp_path)
    assert listing(tmp_path) == []


def test_a_missing_file(canton: Canton, model: Path, text: Path, tmp_path: Path) -> None:
    none = tmp_path / "none"
    for words in (("train", none, "--out", tmp_path / "m", *TRAIN),
                  ("train", text, "--out", none / "m", *TRAIN), ("generate", none),
                   ("score", none, text), ("score", model, none),
                  ("score", model, text, "--html", none / "x")):  # fmt: skip
        assert "no such file" in canton.complains("text", *words)
    assert "no such file" in canton.complains("info", none)
    assert listing(tmp_path) == []


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/usr/bin/setpriv").exists(), reason="root may read every file"
)
def test_no_permission(model: Path, text: Path, tmp_path: Path) -> None:
    """In a separate process without root's rights."""
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "file").write_bytes(text.read_bytes())
    (tmp_path / "secret").write_bytes(text.read_bytes())
    (tmp_path / "secret").chmod(0)
    closed.chmod(0o555)
    code = f"""
import os
from canton.cli import main
small = ["--steps", "1", "--batch-size", "4", "--sequence-length", "8", "--hidden-size", "8", "--quiet"]
train = ["text", "train", {str(text)!r}, *small]
assert main([*train, "--out", {str(tmp_path / "warm")!r}]) == 0  # import everything before giving up root
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
os.chdir("/")
train[2] = {str(tmp_path / "secret")!r}
print(main([*train, "--out", {str(tmp_path / "m")!r}]))
train[2] = {str(tmp_path / "open")!r}
print(main([*train, "--out", {str(closed / "m")!r}]))
"""
    (tmp_path / "open").write_bytes(text.read_bytes())
    tmp_path.chmod(0o777)
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.owner() == "root" and folder not in (Path("/"), Path("/tmp")):
            folder.chmod(folder.stat().st_mode | 0o005)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["2", "2"]
    assert "Traceback" not in done.stderr
    assert [line.rpartition(": ")[2].lower() for line in done.stderr.splitlines()] == [
        "permission denied"
    ] * 2
    assert listing(closed) == ["file"]


def test_a_damaged_model_file(canton: Canton, model: Path, text: Path, tmp_path: Path) -> None:
    half, changed = tmp_path / "half", tmp_path / "changed"
    whole = model.read_bytes()
    half.write_bytes(whole[: len(whole) // 2])
    changed.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for file, complaint in (
        (half, "damaged"),
        (changed, "changed after it was written"),
        (text, "not a"),
    ):
        for words in (("text", "generate", file), ("text", "score", file, text), ("info", file)):
            assert complaint in canton.complains(*words)


def test_a_file_that_is_not_such_a_model(canton: Canton, text: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from canton.io.tensor_file import write_tensors
    from canton.text import Architecture, ByteModel
    from canton.text.checkpoint import FORMAT

    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign")
    small, large = Architecture(hidden_size=4), Architecture(hidden_size=5)
    tensors = {f"model.{name}": tensor for name, tensor in ByteModel(small).state_dict().items()}
    write_tensors(tmp_path / "misfit", tensors, {"architecture": large.to_json()}, format=FORMAT)
    assert "not written by Canton" in canton.complains("text", "generate", tmp_path / "foreign")
    assert "weight" in canton.complains("text", "generate", tmp_path / "misfit")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--temperature", "-1"), "temperature"),
        (("--temperature", "nan"), "temperature"),
        (("--temperature", "warm"), "Invalid value for '--temperature'"),
        (("--top-k", "-1"), "top_k"),
        (("--top-p", "0"), "top_p"),
        (("--bytes", "-5"), "bytes"),
        (("--min-p", "1.5"), "min_p"),
        (("--repetition-penalty", "0"), "repetition_penalty"),
        (("--repetition-window", "0"), "repetition_window"),
        (("--logit-bias", "300+1"), "logit_bias"),
        (("--logit-bias", "e+1"), "logit_bias"),
        (("--escape", "--stop", r"\q"), "stop"),
        (("--prompt", "a", "--prompts", "-"), "--prompts"),
        (("--interactive", "--json"), "--json"),
        (("--count", "0"), "count"),
        (("--seed", "-1"), "seed"),
        (("--bytes",), "requires an argument"),
        (("--nonsense",), "No such option"),
        (("--prompt", os.fsdecode(b"a\xff")), "prompt"),
    ],
)
def test_invalid_options_of_generate(
    canton: Canton, model: Path, words: tuple[str, ...], complaint: str
) -> None:
    assert complaint in canton.complains("text", "generate", model, *words)


def test_a_prompt_on_standard_input_must_be_utf8(
    canton: Canton, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xc0\x80")))
    assert "byte 0 (0xc0)" in canton.complains("text", "generate", model, "--prompt", "-")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--cell", "gruu"), "--cell"),
        (("--hidden-size", "0"), "hidden_size"),
        (("--num-layers", "-1"), "num_layers"),
        (("--preset", "essay"), "preset"),
        (("--learning-rate", "nan"), "learning_rate"),
        (("--minutes", "1"), "minutes"),
        (("--steps", "0"), "steps"),
        (("--train-fraction", "1.5"), "train_fraction"),
        (("--seed", "-1"), "seed"),
        (("--precision", "17"), "precision"),
        (("--device", "abacus"), "abacus"),
        (("--processes", "0"), "processes"),
        (("--processes", "3"), "processes"),
        (("--save-seconds", "-1"), "save_seconds"),
    ],
)
def test_invalid_options_of_train(
    canton: Canton, text: Path, tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    assert complaint in canton.complains("text", "train", text, "--out", tmp_path / "m", *TRAIN, *words)
    assert listing(tmp_path) == []


def test_invalid_uses_of_resume(canton: Canton, model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    assert "no such file" in canton.complains("text", "train", "--resume", "--out", tmp_path / "none")
    assert "finished model" in canton.complains("text", "train", "--resume", "--out", model)
    assert "--preset" in canton.complains("text", "train", "--resume", "--out", model, "--preset", "article")
    assert model.read_bytes() == before


def test_a_full_disk(canton: Canton, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    words = ("text", "train", text, "--out", out, *TRAIN)
    assert canton(*words).status == 0
    before, files = out.read_bytes(), listing(tmp_path)
    with disk_of(4000):
        assert "cannot write" in canton.complains(*words, "--seed", "5", "--save-seconds", "0")
        done = canton("text", "score", out, text, "--html", tmp_path / "page")
        assert done.status == 2
        assert "cannot write" in done.err
    assert out.read_bytes() == before
    assert listing(tmp_path) == files
    assert canton("text", "generate", out, "--bytes", "5").status == 0


def test_outputs_must_be_files_of_their_own(canton: Canton, model: Path, text: Path, tmp_path: Path) -> None:
    before, link = (model.read_bytes(), text.read_bytes()), tmp_path / "link"
    link.symlink_to(text)
    words = ("text", "score", model, text)
    for option in ("--html", "--json"):
        for file in (text, link, model):
            assert f"{option} must not be an input" in canton.complains(*words, option, file)
    same = tmp_path / "same"
    assert f"{same} twice" in canton.complains(*words, "--html", same, "--json", same)
    assert (model.read_bytes(), text.read_bytes()) == before
    assert listing(tmp_path) == ["link"]


def test_adapt_options_need_adapt(canton: Canton, model: Path, text: Path) -> None:
    assert "--adapt" in canton.complains("text", "score", model, text, "--learning-rate", "1e-3")


@pytest.mark.parametrize("package", ["lightning_fabric", "safetensors", "rich", "numpy"])
def test_a_missing_package_is_named_with_its_extra(package: str, text: Path, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\nfrom canton.cli import main\n"
        f"sys.exit(main(['text', 'train', {str(text)!r}, '--out', {str(tmp_path / 'm')!r}, '--steps', '1']))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert package.replace("_", "-") in done.stderr
    assert "pip install 'canton-torch[text]'" in done.stderr
    assert listing(tmp_path) == []

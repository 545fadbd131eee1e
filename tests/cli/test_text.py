"""`canton text` and `canton info` from end to end."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from canton import __version__
from canton.cli.models import PRETRAINED
from cli.conftest import Canton


def test_train_writes_a_model_and_prints_its_score(canton: Canton, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    done = canton("text", "train", text, "--out", out, "--steps", "30", "--hidden-size", "8",
                  "--num-layers", "2", "--cell", "lstm",
                  "--batch-size", "4", "--sequence-length", "16", "--quiet")  # fmt: skip
    assert done.status == 0, done.err
    assert "bits per byte on 700 held-out bytes, after 30 steps" in done.out
    assert done.err == ""
    assert "curve.png" in done.out
    shown = canton("info", out).out
    for part in (
        '"cell": "lstm", "hidden_size": 8, "num_layers": 2',
        "finished",
        "held_out_bits_per_byte",
        "corpus",
    ):
        assert part in shown


def test_without_a_terminal_progress_is_lines(canton: Canton, text: Path, tmp_path: Path) -> None:
    done = canton(
        "text",
        "train",
        text,
        "--out",
        tmp_path / "m",
        "--steps",
        "30",
        "--hidden-size",
        "8",
        "--batch-size",
        "4",
    )
    assert "bits/byte" in done.err
    assert "kB/s" in done.err
    assert "left" in done.err
    assert "\x1b" not in done.err


def test_the_articles_preset(canton: Canton, text: Path, tmp_path: Path) -> None:
    done = canton(
        "text", "train", text, "--out", tmp_path / "m", "--steps", "1", "--preset", "article", "--quiet"
    )
    assert done.status == 0, done.err
    shown = canton("info", tmp_path / "m").out
    assert '"hidden_size": 256, "num_layers": 1, "embedding_size": 0' in shown
    assert '"batch_size": 256, "sequence_length": 16' in shown
    assert "410,304" in shown or "parameters" in shown


def test_generate_prints_the_given_number_of_bytes(canton: Canton, model: Path) -> None:
    done = canton("text", "generate", model, "--bytes", "200", "--seed", "1")
    assert done.status == 0
    assert len(done.out.encode()) == 200
    assert "is" in done.out
    assert canton("text", "generate", model, "--bytes", "200", "--seed", "1").out == done.out
    assert canton("text", "generate", model, "--bytes", "200", "--seed", "2").out != done.out


def test_generate_continues_a_prompt(canton: Canton, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("text", "generate", model, "--bytes", "12", "--temperature", "0")
    given = canton(*words, "--prompt", "What is past is pro")
    assert given.out.startswith("logue")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"What is past is pro")))
    assert canton(*words, "--prompt", "-").out == given.out


def test_generate_without_a_model_uses_the_pretrained_one(
    canton: Canton, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = canton("text", "generate", "--bytes", "40", "--seed", "1")
    assert done.status == 0, done.err
    assert len(done.out.encode()) == 40
    monkeypatch.setitem(PRETRAINED, "text", "models/none.safetensors")
    assert "pretrained" in canton.complains("text", "generate")


def test_generate_stop_and_count(canton: Canton, model: Path) -> None:
    done = canton("text", "generate", model, "--temperature", "0", "--stop", "logue")
    assert done.out.endswith("logue")
    assert done.out.count("logue") == 1
    done = canton("text", "generate", model, "--count", "3", "--seed", "7", "--bytes", "10", "--no-utf8")
    assert "3 of 3, seed 9" in done.err
    third = canton("text", "generate", model, "--seed", "9", "--bytes", "10", "--no-utf8")
    assert done.out.endswith(third.out + "\n")


def test_generate_prints_json_lines_for_prompts_from_a_file(
    canton: Canton, model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "prompts"
    file.write_text("What is\\x20past\nä\\n\n")
    words = ("text", "generate", model, "--bytes", "20", "--seed", "4", "--min-p", "0.1")
    done = canton(*words, "--prompts", file, "--escape", "--json", "--echo", "--count", "2")
    assert done.status == 0, done.err
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["prompt"] for row in rows] == ["What is past", "What is past", "ä\n", "ä\n"]
    assert [row["seed"] for row in rows] == [4, 5, 4, 5]
    single = canton(*words, "--prompt", "What is past").out
    assert rows[0]["text"] == "What is past" + single
    assert rows[0]["bytes"] == 20
    assert 0 < rows[0]["bits"] < 160
    assert rows[0]["bits"] == pytest.approx(20 * rows[0]["bits_per_byte"])


def test_generate_prints_bytes_that_are_not_utf8_as_base64(canton: Canton, model: Path) -> None:
    words = ("--no-utf8", "--json", "--escape", "--prompt", r"a\xff", "--bytes", "3")
    row = json.loads(canton("text", "generate", model, *words).out)
    assert base64.b64decode(row["prompt_base64"]) == b"a\xff"


def test_generate_interactively_continues_one_text(
    canton: Canton, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("text", "generate", model, "--bytes", "9", "--temperature", "0")
    first = canton(*words, "--prompt", "What is past").out
    second = canton(*words, "--prompt", "What is past" + first + "What is past is ").out
    lines = io.TextIOWrapper(io.BytesIO(b"\nWhat is past is \n"))
    monkeypatch.setattr("sys.stdin", lines)
    done = canton(*words, "--prompt", "What is past", "--interactive", "--echo")
    assert done.out == f"What is past{first}\n{second}\n"


def test_version_and_bare_command(canton: Canton) -> None:
    assert canton("--version").out == f"canton {__version__}\n"
    done = canton("text")
    assert done.status == 2
    assert "\n  generate" in done.err


def test_score_prints_bits_per_byte(canton: Canton, model: Path, text: Path, tmp_path: Path) -> None:
    done = canton("text", "score", model, text)
    assert done.status == 0
    bits = float(done.out.split()[0])
    assert 0 < bits < 2.5
    assert "\x1b" not in done.out
    other = tmp_path / "other"  # what it never read, so that there is something to learn while reading
    other.write_text("Whatever comes next is epilogue. " * 40)
    plain, adapted = canton("text", "score", model, other, "--adapt").out.splitlines()[:2]
    assert float(plain.split()[0]) == float(canton("text", "score", model, other).out.split()[0])
    assert float(adapted.split()[0]) < 0.8 * float(plain.split()[0])


def test_score_without_a_model_uses_the_pretrained_one(canton: Canton, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "plain"
    file.write_text("The value that is given to a function when it is called is known as an argument of it.")
    bits = [float(canton("text", "score", *words, file).out.split()[0]) for words in ((), (model,))]
    assert bits[0] < bits[1] - 1, "the little model of these tests has read one sentence only"
    assert "got 3 texts" in canton.complains("text", "score", model, file, file)


def test_score_colours_the_text(canton: Canton, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "odd"
    file.write_bytes("What is past: XQ ä漢\n".encode() + b"\xff\x1b[2J\x07")
    done = canton("text", "score", model, file, "--colour")
    plain = done.out
    while "\x1b[" in plain:  # our own colours, every one of which ends in m
        before, _, after = plain.partition("\x1b[")
        code, _, rest = after.partition("m")
        assert set(code) <= set("0123456789;"), code
        plain = before + rest
    assert "What is past: XQ ä漢" in plain
    assert "\\xff\\x1b[2J\\x07" in plain
    surprising = done.out[: done.out.index("X")].rpartition("\x1b[")[2]
    assert surprising.startswith("38;5;16;48;5;"), "X was never seen in training and must stand out"


def test_score_writes_a_page_and_json(canton: Canton, model: Path, text: Path, tmp_path: Path) -> None:
    page, table = tmp_path / "page.html", tmp_path / "table.json"
    done = canton("text", "score", model, text, "--html", page, "--json", table)
    assert done.status == 0, done.err
    assert page.read_text().startswith("<!DOCTYPE html>")
    rows = json.loads(table.read_text())["rows"]
    assert bytes(row[0] for row in rows) == text.read_bytes()
    done = canton("text", "score", model, text, "--json", "-")
    assert json.loads(done.out)["rows"] == rows


def test_score_writes_no_page_to_standard_output(canton: Canton, model: Path, text: Path) -> None:
    assert "--html" in canton.complains("text", "score", model, text, "--html", "-")


def test_info_without_a_model_describes_the_installation(canton: Canton) -> None:
    done = canton("info")
    assert done.status == 0
    assert "torch" in done.out
    assert "kernels" in done.out


def test_info_prints_the_scores_of_the_pretrained_models(
    canton: Canton, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {line[:24].strip(): line[25:] for line in canton("info").out.splitlines()}
    for name, what in (("text", "bits per byte on"), ("visible", "F1"), ("infrared", "F1")):
        path, _, figures = shown[f"pretrained {name}"].partition(": ")
        assert what in figures
        assert "held_out" in canton("info", path).out
    assert canton("info", "infrared").out == canton("info", shown["pretrained infrared"].split(": ")[0]).out
    monkeypatch.setitem(PRETRAINED, "text", "models/none.safetensors")
    assert "not installed" in canton("info").out


def test_help_imports_nothing_slow() -> None:
    """benchmarks/startup.py measures the time."""
    code = "import sys; from canton.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *shown, modules = done.stdout.splitlines()
    assert any("text" in line for line in shown)
    slow = {"torch", "numpy", "safetensors", "cv2", "av", "lightning_fabric", "trackers", "matplotlib"}
    assert "canton" in modules.split()
    assert not slow & set(modules.split())


def test_the_first_byte_needs_no_compiler() -> None:
    """torch._dynamo takes longer to import than torch itself."""
    code = "import sys; from canton.cli import main; main(['text', 'generate', '--bytes', '1'])\n"
    code += "print('\\n', 'torch._dynamo' in sys.modules, 'sympy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["False", "False"]


def test_a_closed_pipe_is_not_an_error(model: Path) -> None:
    words = [sys.executable, "-m", "canton", "text", "generate", str(model), "--bytes", "100000"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})
    assert process.stdout is not None
    assert process.stderr is not None
    assert len(process.stdout.read(10)) == 10  # so it streams: the whole would take much longer
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == b""


def test_text_needs_neither_fabric_nor_typer_nor_rich_to_be_imported() -> None:
    code = "import sys, canton.text\n"
    code += "print([m for m in ('lightning_fabric', 'typer', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_compress_and_decompress(canton: Canton, model: Path, text: Path, tmp_path: Path) -> None:
    pytest.importorskip("constriction", reason="constriction is not installed (canton-torch[compress])")
    empty, packed, again = tmp_path / "empty", tmp_path / "packed", tmp_path / "again"
    empty.touch()
    for file in (text, empty):
        for out in (packed, again):
            out.unlink(missing_ok=True)
        done = canton("text", "compress", model, file, "--out", packed)
        assert done.status == 0, done
        assert canton("text", "decompress", model, packed, "--out", again).status == 0
        assert again.read_bytes() == file.read_bytes()
    assert "--out" in canton.complains("text", "decompress", model, packed, "--out", again)
    again.unlink()
    assert "--out" in canton.complains("text", "decompress", model, packed)
    assert str(text) in canton.complains("text", "decompress", model, text, "--out", again)
    assert not again.exists()


def test_score_documents(canton: Canton, model: Path, text: Path, tmp_path: Path) -> None:
    lines, out = tmp_path / "lines.jsonl", tmp_path / "scores.jsonl"
    texts = [f"number {k} is past" for k in range(5)]
    lines.write_text("".join(json.dumps({"body": each}) + "\n" for each in texts))

    def rows() -> list[dict[str, object]]:
        return [json.loads(line) for line in out.read_text().splitlines()]

    options = ("--documents", "jsonl", "--field", "body", "--out", out)
    done = canton("text", "score", model, lines, *options, "--workers", 1, "--word-bits")
    assert done.status == 0, done
    assert [(row["document"], row["bytes"]) for row in rows()] == [
        (k, len(each)) for k, each in enumerate(texts)
    ]
    assert all(len(row["word_bits"]) == 4 for row in rows())  # type: ignore[arg-type]
    first = out.read_text().splitlines(keepends=True)
    out.write_text("".join(first[:2]))
    assert canton("text", "score", model, lines, *options, "--skip-done", "--word-bits").status == 0
    assert out.read_text() == "".join(first)

    files = ("text", "score", model, text, lines, "--documents", "file", "--out", out)
    assert canton(*files, "--line-bits").status == 0
    assert [row["file"] for row in rows()] == [str(text), str(lines)]
    assert len(rows()[1]["line_bits"]) == 5  # type: ignore[arg-type]
    assert canton(*files, "--shard", "1/2").status == 0
    assert len(rows()) == 2, "both files are one part"
    assert canton(*files, "--shard", "2/2").status == 0
    assert rows() == []

    assert "--out" in canton.complains("text", "score", model, text, "--documents", "file")
    assert "--documents" in canton.complains("text", "score", model, text, "--out", out)
    lines.write_text('{"body": "x"}\n{"other": 1}\n')
    failed = canton("text", "score", model, lines, *options)
    assert failed.status == 2
    assert "line 2" in failed.err

"""Files, folders, streams and rows as one text."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import resource
import threading
from pathlib import Path

import numpy as np
import pytest

from canton.errors import UserError
from canton.text.corpus import ContiguousBatches, Corpus
from canton.text.sources import Sources, map_file


def whole(source: Sources) -> bytes:
    return source.read(0, len(source)).tobytes()


def compressed(folder: Path, text: bytes) -> list[Path]:
    zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed (canton-torch[corpora])")
    contents = {
        "a.gz": gzip.compress(text),
        "a.bz2": bz2.compress(text),
        "a.xz": lzma.compress(text),
        "a.zst": zstandard.compress(text),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def test_compressed_files_are_decoded(tmp_path: Path) -> None:
    text = bytes(range(256)) * 5000
    for file in compressed(tmp_path, text):
        assert whole(Sources([file])) == text
        assert map_file(file).tobytes() == text
        file.write_bytes(file.read_bytes()[:-20])
        with pytest.raises(UserError, match=file.name):
            Sources([file])
        file.write_bytes(b"no such format")
        with pytest.raises(UserError, match=file.name):
            map_file(file)


def test_plain_and_decoded_files_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"second")
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"first "))
    (tmp_path / "c.jsonl.gz").write_bytes(
        gzip.compress(b'{"text": "x\\u00e9"}\n\n{"text": ""}\n{"text": "y"}\n')
    )
    source = Sources([tmp_path / name for name in ("a.gz", "b.txt", "c.jsonl.gz", "b.txt")])
    expected = b"first second" + "xé".encode() + b"y" + b"second"
    assert whole(source) == expected
    assert source.starts.tolist() == [0, 6, 12, 15, 16]
    for start in range(len(expected)):
        assert source.read(start, start + 7).tobytes() == expected[start : start + 7]


def test_a_folder_is_read_recursively(tmp_path: Path) -> None:
    for name in ("b/two.txt", "a/one.txt", "b/c/three.md", ".git/four.txt", "b/.five.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "empty.txt").touch()
    assert whole(Sources([tmp_path])) == b"a/one.txtb/c/three.mdb/two.txt"
    assert whole(Sources([tmp_path], glob="*.txt")) == b"a/one.txtb/two.txt"
    with pytest.raises(UserError, match="glob"):
        Sources([tmp_path], glob="*.tex")


def test_more_files_than_may_be_open(tmp_path: Path) -> None:
    for k in range(300):
        (tmp_path / f"{k:03}").write_bytes(b"%03d" % k)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 100, hard))
    try:
        source = Sources([tmp_path])
        assert whole(source) == b"".join(b"%03d" % k for k in range(300))
        assert source.read(299, 302).tobytes() == b"910"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_pipe_and_standard_input_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for read in (map_file, lambda file: Sources([file]).read(0, 10**6)):
        pipe = tmp_path / f"pipe{read is map_file}"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(b"through a pipe" * 9000,))
        writer.start()
        assert read(pipe).tobytes() == b"through a pipe" * 9000
        writer.join()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"typed")))
        assert read(Path("-")).tobytes() == b"typed"


def test_rows_of_parquet_are_documents(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed (canton-torch[corpora])")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"body": ["one", None, "zwei ä"], "n": [1, 2, 3]})
    parquet.write_table(table, tmp_path / "t.parquet")
    source = Sources([tmp_path / "t.parquet"], field="body")
    assert whole(source) == "onezwei ä".encode()
    assert source.starts.tolist() == [0, 3]
    for field in ("text", "n"):
        with pytest.raises(UserError, match="field"):
            Sources([tmp_path / "t.parquet"], field=field)
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(UserError, match=r"t\.parquet"):
        Sources([tmp_path / "t.parquet"])


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"body": "x"}', '{"text": 3}', "[" * 100_000])
def test_an_invalid_row_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"text": "good"}) + "\n" + line + "\n")
    with pytest.raises(UserError, match=r"rows\.jsonl line 2"):
        Sources([file])


def test_a_file_that_is_no_text_gets_a_hint(tmp_path: Path) -> None:
    for name, content in (("z", gzip.compress(b"abc" * 99)), ("b", bytes(500) + b"x"), ("t", b"plain text")):
        (tmp_path / name).write_bytes(content)
    hints = Sources([tmp_path / "z", tmp_path / "b", tmp_path / "t"]).hints
    assert len(hints) == 2
    assert "gzip" in hints[0]
    assert "binary" in hints[1]


def test_batches_start_at_documents(tmp_path: Path) -> None:
    texts = [b"aaaa", b"bb", b"cccccccccc", b"dd" * 20]
    for k, text in enumerate(texts):
        (tmp_path / f"{k}").write_bytes(text)
    corpus = Corpus([tmp_path], train_fraction=0.9)
    batches = ContiguousBatches(corpus, batch_size=2, sequence_length=5)
    document = np.repeat(np.arange(4), [len(text) for text in texts])
    for step in range(3 * batches.steps_per_epoch):
        batch = batches(step)
        starts = np.zeros((5, 2), bool) if batch.starts is None else batch.starts.numpy()
        for lane, first in enumerate(batches.positions(step)):
            at = (first + np.arange(6)) % corpus.split
            assert np.array_equal(starts[:, lane], (document[at[1:]] != document[at[:-1]]) | (at[1:] == 0))

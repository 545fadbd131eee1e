"""Scores of many documents: the same as of each alone, and one row for each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from canton.errors import UserError
from canton.text import Architecture, ByteModel, surprisals
from canton.text.documents import Document, DocumentScore, Part, plan_parts, read_documents, score_documents
from canton.text.ngram.table import count_ngrams

TEXTS = [
    b"",
    b"a",
    b"\0" * 30,
    b"one two one two one two " * 9,
    "wörld 漢 wörld 漢\n".encode() * 20,
    bytes(range(256)) * 2,
    b"one two\n\0\0\0\0\0",
]


def make_model(history_size: int) -> ByteModel:
    torch.manual_seed(0)
    a = Architecture(hidden_size=20, embedding_size=8, num_layers=2, history_size=history_size)
    model = ByteModel(a)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.ngrams = count_ngrams(np.frombuffer(b"".join(TEXTS), np.uint8), a.ngram_kinds, 300)
    return model


@pytest.mark.parametrize("history_size", [5, 40, 5000])
def test_each_document_is_scored_as_if_alone(history_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("canton.text.documents.BATCH_BYTES", 1200)
    monkeypatch.setattr("canton.text.documents.STEP", 16)
    model = make_model(history_size)
    documents = [Document("f", k, text) for k, text in enumerate([*TEXTS, b"long " * 300])]
    found = {each.document.number: each for each in score_documents(model, documents)}
    assert set(found) == set(range(len(documents)))
    for document in documents:
        parts = [part.bits for part in surprisals(model, np.frombuffer(document.text, np.uint8))]
        expected = np.concatenate([np.zeros(0, np.float32), *parts])
        np.testing.assert_allclose(found[document.number].bits, expected, rtol=1e-4, atol=1e-4)


def test_a_row_sums_the_bits_of_words_and_lines() -> None:
    text = b" ab c\n\nde \n"
    bits = np.arange(1, len(text) + 1, dtype=np.float32)
    row = DocumentScore(Document("f", 3, text), bits).to_row(words=True, lines=True)
    assert (row["file"], row["document"], row["bytes"]) == ("f", 3, 11)
    assert row["bits"] == 66
    assert row["bits_per_byte"] == 6
    assert row["word_bits"] == [1 + 2 + 3, 4 + 5, 6 + 7 + 8 + 9, 10 + 11]
    assert row["line_bits"] == [21, 7, 38]
    assert DocumentScore(Document("f", 0, b""), bits[:0]).to_row()["bits_per_byte"] is None


def test_lines_are_numbered_across_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("canton.text.documents.PART_BYTES", 7)
    file = tmp_path / "lines"
    file.write_bytes(b"one\n\nthree three\nfour\n\n\nseven")
    parts = plan_parts([file], "line")
    assert len(parts) > 2
    found = [document for part in parts for document in read_documents(part, "line")]
    assert [(each.number, each.text) for each in found] == [
        (0, b"one"), (2, b"three three"), (3, b"four"), (6, b"seven"),
    ]  # fmt: skip


def test_json_lines_and_files(tmp_path: Path) -> None:
    file, other = tmp_path / "a.jsonl", tmp_path / "b"
    file.write_text(json.dumps({"body": "ä\n"}) + "\n" + json.dumps({"body": ""}) + "\n", "utf-8")
    other.write_bytes(b"x\ny\n")
    (part,) = plan_parts([file], "jsonl")
    assert [each.text for each in read_documents(part, "jsonl", "body")] == ["ä\n".encode(), b""]
    with pytest.raises(UserError, match=r"line 1.*field"):
        list(read_documents(part, "jsonl", "text"))
    with pytest.raises(UserError, match="line 1"):
        list(read_documents(Part((str(other),)), "jsonl"))
    assert [each.text for each in read_documents(plan_parts([other], "file")[0], "file")] == [b"x\ny\n"]
    with pytest.raises(UserError, match="missing"):
        plan_parts([tmp_path / "missing"], "file")

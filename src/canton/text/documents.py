"""Scores of many documents: each by itself, several side by side on the batch axis."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from canton.errors import UserError
from canton.io.atomic import os_error_reason
from canton.text.likelihood import nats_per_byte, surprisals
from canton.text.model import ByteModel
from canton.text.types import START_BYTE, NgramStats

KINDS = ("file", "line", "jsonl")
"""What a document is: a file, a line of a file, or a field of the JSON object on a line."""

PART_BYTES = 1 << 20
"""Bytes of documents that are read and scored as one job."""

BATCH_BYTES = 1 << 16
"""Bytes of a batch, padding included. A longer document is scored by itself."""

STEP = 128
"""Bytes of each document that the network reads at a time."""

WORD = re.compile(rb"\s*\S+|\s+$")
"""A word with the white space before it, or white space at the end."""


class Part(NamedTuple):
    """Documents that are read together: files, or the lines from byte `start` to `stop` of one file.

    Attributes:
        files: paths.
        start, stop: offsets in bytes; None: the whole files.
        first: number of the first line, from 0.
    """

    files: tuple[str, ...]
    start: int = 0
    stop: int | None = None
    first: int = 0


class Document(NamedTuple):
    """A document: its file, its number in the file from 0, and its bytes."""

    file: str
    number: int
    text: bytes


class DocumentScore(NamedTuple):
    """The bits of every byte of a document."""

    document: Document
    bits: npt.NDArray[np.float32]

    def to_row(self, *, words: bool = False, lines: bool = False) -> dict[str, Any]:
        """Return file, document, bytes, bits and bits_per_byte (None if empty) as JSON values.

        Args:
            words: add `word_bits`, the bits of each word with the white space before it.
            lines: add `line_bits`, the bits of each line with its newline.
        """
        text, total = self.document.text, float(self.bits.sum(dtype=np.float64))
        row: dict[str, Any] = {
            "file": self.document.file,
            "document": self.document.number,
            "bytes": len(text),
            "bits": round(total, 3),
            "bits_per_byte": round(total / len(text), 5) if text else None,
        }
        if words:
            row["word_bits"] = self._sums([match.end() for match in WORD.finditer(text)])
        if lines:
            row["line_bits"] = self._sums(np.cumsum([len(line) for line in text.splitlines(True)]).tolist())
        return row

    def _sums(self, ends: list[int]) -> list[float]:
        """Return the bits up to each end since the one before."""
        sums = np.concatenate([[0.0], self.bits.cumsum(dtype=np.float64)])[[0, *ends]]
        return [round(float(bits), 3) for bits in np.diff(sums)]


def plan_parts(files: Sequence[Path], kind: str) -> list[Part]:
    """Return the parts of all documents, about `PART_BYTES` each.

    Args:
        files: the files.
        kind: one of `KINDS`.

    Raises:
        UserError: a file cannot be read.
    """
    if kind == "file":
        groups: list[list[str]] = [[]]
        size = 0
        for file in files:
            if size and size + _size(file) > PART_BYTES:
                groups.append([])
                size = 0
            groups[-1].append(str(file))
            size += _size(file)
        return [Part(tuple(group)) for group in groups if group]
    return [part for file in files for part in _line_parts(file)]


def read_documents(part: Part, kind: str, field: str = "text") -> Iterator[Document]:
    """Yield the documents of a part. A line's document is the line without its newline.

    Args:
        part: from `plan_parts`.
        kind: one of `KINDS`.
        field: the JSON field that holds the text.

    Raises:
        UserError: a file cannot be read, or a line is not a JSON object with the field.
    """
    for file in part.files:
        try:
            with Path(file).open("rb") as opened:
                opened.seek(part.start)
                content = opened.read(-1 if part.stop is None else part.stop - part.start)
        except OSError as error:
            raise UserError(f"cannot read {file}: {os_error_reason(error)}") from error
        if kind == "file":
            yield Document(file, 0, content)
            continue
        for number, line in enumerate(content.split(b"\n")[: content.count(b"\n") + 1], part.first):
            if kind == "line" and line:
                yield Document(file, number, line)
            elif line.strip():
                yield Document(file, number, _field(line, field, f"{file}, line {number + 1}"))


def score_documents(model: ByteModel, documents: Sequence[Document]) -> Iterator[DocumentScore]:
    """Score every document as `surprisals` scores it alone; documents of similar length share a batch.

    Args:
        model: the model; it is set to evaluation mode.
        documents: scored in the order of their length.

    Raises:
        UserError: the model's prediction is not finite.
    """
    model.eval()
    batch: list[Document] = []
    for document in sorted(documents, key=lambda each: len(each.text)):
        if len(document.text) > BATCH_BYTES:
            text = np.frombuffer(document.text, np.uint8)
            yield DocumentScore(document, np.concatenate([part.bits for part in surprisals(model, text)]))
        elif not document.text:
            yield DocumentScore(document, np.zeros(0, np.float32))
        else:
            if (len(batch) + 1) * len(document.text) > BATCH_BYTES:
                yield from _score_batch(model, batch)
                batch = []
            batch.append(document)
    if batch:
        yield from _score_batch(model, batch)


@torch.inference_mode()
def _score_batch(model: ByteModel, batch: list[Document]) -> Iterator[DocumentScore]:
    longest = max(len(document.text) for document in batch)
    text = np.zeros((1 + longest, len(batch)), np.uint8)
    text[0] = START_BYTE
    for k, document in enumerate(batch):
        text[1 : 1 + len(document.text), k] = np.frombuffer(document.text, np.uint8)
    window = torch.from_numpy(text)
    device = model.logits.weight.device
    stats = None if model.history is None else model.history.look_up_documents(window[:-1])
    state = model.initial_state(len(batch))
    bits = np.empty((longest, len(batch)), np.float32)
    for start in range(0, longest, STEP):
        stop = min(start + STEP, longest)
        part = (
            None if stats is None else NgramStats(*(_rows(each, start, stop, len(batch)) for each in stats))
        )
        logits, state = model(window[start:stop].to(device), state, None, part)
        nats = nats_per_byte(logits.flatten(0, 1), window[start + 1 : stop + 1].flatten().to(device))
        bits[start:stop] = (nats.view(stop - start, len(batch)) / math.log(2)).cpu().numpy()
    for k, document in enumerate(batch):
        yield DocumentScore(document, bits[: len(document.text), k].copy())


def _rows(stats: torch.Tensor, start: int, stop: int, batch_size: int) -> torch.Tensor:
    return stats[start * batch_size : stop * batch_size]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read {file}: {os_error_reason(error)}") from error


def _line_parts(file: Path) -> Iterator[Part]:
    """Yield parts of whole lines, without the last newline of each."""
    try:
        with file.open("rb") as opened:
            start = first = 0
            while block := opened.read(PART_BYTES):
                block += opened.readline() if not block.endswith(b"\n") else b""
                yield Part((str(file),), start, start + len(block.removesuffix(b"\n")), first)
                start, first = start + len(block), first + block.count(b"\n")
    except OSError as error:
        raise UserError(f"cannot read {file}: {os_error_reason(error)}") from error


def _field(line: bytes, field: str, place: str) -> bytes:
    try:
        table = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} must be a JSON object, got {line[:40]!r}") from error
    if not isinstance(table, dict) or not isinstance(table.get(field), str):
        raise UserError(f"{place} must have the text field {field!r}: choose it with --field")
    text: str = table[field]
    return text.encode("utf-8", "surrogatepass")

"""Scores of a text, with or without dynamic evaluation, and their JSON output."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import IO, NamedTuple

import numpy as np

from canton.errors import UserError
from canton.text.dynamic_eval import Adapter
from canton.text.likelihood import CHUNK, Scored, surprisals
from canton.text.model import ByteModel
from canton.text.types import Bytes

Sink = Callable[[Scored, Scored | None], None]
"""Receives each chunk with the model's scores and, with dynamic evaluation, the adapted model's."""


class Totals(NamedTuple):
    """The mean scores of a text.

    Attributes:
        bytes: length of the text.
        bits_per_byte: with the trained weights.
        adapted: bits per byte with dynamic evaluation, None without.
    """

    bytes: int
    bits_per_byte: float
    adapted: float | None


def score(
    model: ByteModel,
    text: Bytes,
    *,
    adapter: Adapter | None = None,
    alternatives: int = 0,
    chunk_size: int | None = None,
    sinks: Sequence[Sink] = (),
) -> Totals:
    """Score a text in one pass.

    Args:
        model: the model.
        text: the bytes.
        adapter: made from `model`; scores the text with dynamic evaluation too.
        alternatives: number of likeliest bytes that the sinks receive at each position.
        chunk_size: bytes of a chunk. None: 1024, or the adapter's.
        sinks: each receives every chunk.

    Raises:
        UserError: the text is empty.
    """
    if not len(text):
        raise UserError("text must have at least 1 byte, got an empty text")
    if chunk_size is None:
        chunk_size = CHUNK if adapter is None else adapter.chunk_size
    joined = max(1, CHUNK // chunk_size)  # the model that does not train reads longer chunks
    plain = surprisals(model, text, alternatives=alternatives, chunk_size=joined * chunk_size)
    adapting = None
    if adapter is not None:
        adapting = surprisals(
            adapter.model, text, alternatives=alternatives, chunk_size=chunk_size, on_chunk=adapter
        )
    bits = adapted_bits = 0.0
    for scored in plain:
        adapted = None if adapting is None else _join(islice(adapting, joined))
        bits += float(scored.bits.sum(dtype="float64"))
        adapted_bits += 0.0 if adapted is None else float(adapted.bits.sum(dtype="float64"))
        for sink in sinks:
            sink(scored, adapted)
    return Totals(len(text), bits / len(text), None if adapter is None else adapted_bits / len(text))


def _join(chunks: Iterable[Scored]) -> Scored:
    """Return consecutive scored chunks as one."""
    return Scored(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))


class JSONWriter:
    """Sink that writes JSON: `rows` of [byte, bits] or [byte, bits, adapted bits], then the totals.

    The constructor writes the start of the file and `end` its end.
    """

    def __init__(self, file: IO[bytes], *, name: str) -> None:
        self.file, self.first = file, True
        file.write(b'{"file": ' + json.dumps(name).encode() + b', "rows": [')

    def __call__(self, scored: Scored, adapted: Scored | None) -> None:
        """Write a chunk."""
        columns = [scored.text.tolist(), [round(float(b), 4) for b in scored.bits]]
        if adapted is not None:
            columns.append([round(float(b), 4) for b in adapted.bits])
        rows = ", ".join(json.dumps(row) for row in zip(*columns, strict=True))
        self.file.write((("" if self.first else ", ") + rows).encode())
        self.first = False

    def end(self, totals: Totals) -> None:
        """Write the totals."""
        table = {
            "bytes": totals.bytes,
            "bits_per_byte": totals.bits_per_byte,
            "adapted_bits_per_byte": totals.adapted,
        }
        self.file.write(b"], " + json.dumps(table)[1:].encode() + b"\n")

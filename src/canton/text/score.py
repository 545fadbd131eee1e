"""Scoring a text: its bits per byte, as it is or with a model that learns while it reads, and every byte's
share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import IO, NamedTuple

from canton.errors import UserError
from canton.text.corpus import Bytes
from canton.text.dynamic_eval import Adapter
from canton.text.likelihood import Scored, surprisals
from canton.text.model import ByteModel

Sink = Callable[[Scored, Scored | None], None]
"""Is handed each stretch as it is scored: by the model as it is, and by the one that learns, if there is
one.
"""


class Totals(NamedTuple):
    """How many bytes, and what one of them costs in the mean; adapted: with a model that learned, else
    None.
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
    stretch: int | None = None,
    sinks: Sequence[Sink] = (),
) -> Totals:
    """Score `text` in one pass from its first byte to its last.

    Args:
        adapter: made from `model`; it learns from each stretch once the stretch is scored.
        alternatives: how many likeliest bytes `sinks` are told at each place.
        stretch: bytes a turn; left out, 1024, or the adapter's own.
        sinks: each is handed every stretch.

    Raises: UserError if there is nothing to score.
    """
    if not len(text):
        raise UserError("there is nothing to score: the text is empty")
    if stretch is None:
        stretch = 1024 if adapter is None else adapter.stretch
    plain = surprisals(model, text, alternatives=alternatives, stretch=stretch)
    learned = None
    if adapter is not None:
        learned = surprisals(adapter.model, text, alternatives=alternatives, stretch=stretch, learn=adapter)
    bits = adapted_bits = 0.0
    for scored in plain:
        adapted = None if learned is None else next(learned)
        bits += float(scored.bits.sum(dtype="float64"))
        adapted_bits += 0.0 if adapted is None else float(adapted.bits.sum(dtype="float64"))
        for sink in sinks:
            sink(scored, adapted)
    return Totals(len(text), bits / len(text), None if adapter is None else adapted_bits / len(text))


class JSONWriter:
    """A sink that writes JSON: `rows` of [byte, bits] or [byte, bits, adapted bits], then the totals.

    Give the file to `begin` by making it, every stretch to it, and the totals to `end`.
    """

    def __init__(self, file: IO[bytes], *, name: str) -> None:
        self.file, self.first = file, True
        file.write(b'{"file": ' + json.dumps(name).encode() + b', "rows": [')

    def __call__(self, scored: Scored, adapted: Scored | None) -> None:
        columns = [scored.text.tolist(), [round(float(b), 4) for b in scored.bits]]
        if adapted is not None:
            columns.append([round(float(b), 4) for b in adapted.bits])
        rows = ", ".join(json.dumps(row) for row in zip(*columns, strict=True))
        self.file.write((("" if self.first else ", ") + rows).encode())
        self.first = False

    def end(self, totals: Totals) -> None:
        """Write the totals and close the table."""
        table = {
            "bytes": totals.bytes,
            "bits_per_byte": totals.bits_per_byte,
            "adapted_bits_per_byte": totals.adapted,
        }
        self.file.write(b"], " + json.dumps(table)[1:].encode() + b"\n")

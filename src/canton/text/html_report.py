"""A scored text as one self-contained HTML page: bytes coloured by surprisal, alternatives as tooltips.

The page holds four arrays (bytes, bits, likeliest bytes, their probabilities) in base64 and renders only the
characters in view, so that a text of a megabyte opens fast. The text and its name enter the page as base64 or
HTML-escaped, and the script sets them as textContent: they cannot become markup.
"""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import IO

import numpy as np

from canton.errors import UserError
from canton.text.likelihood import Scored
from canton.text.score import Totals

ALTERNATIVES = 5
MAX_BYTES = 8 << 20
"""The longest text of a page. A page has about 18 bytes per byte of the text."""


class PageWriter:
    """Sink that collects a scored text; `end` writes the page.

    Raises:
        UserError: the text is longer than `MAX_BYTES`.
    """

    def __init__(self, file: IO[bytes], *, name: str) -> None:
        self.file, self.name = file, name
        self.text, self.bits = bytearray(), bytearray()
        self.top_bytes, self.top_probabilities = bytearray(), bytearray()

    def __call__(self, scored: Scored, adapted: Scored | None) -> None:
        """Add a chunk: the adapted model's scores, if there are any."""
        selected = adapted or scored
        if len(self.text) + len(selected.text) > MAX_BYTES:
            raise UserError(
                f"text must be at most {MAX_BYTES} bytes for a page, got more from {self.name}: "
                "score a part of it"
            )
        self.text += selected.text.tobytes()
        self.bits += (selected.bits.clip(0, 255) * 256).astype("<u2").tobytes()
        self.top_bytes += selected.top_bytes.tobytes()
        self.top_probabilities += np.rint(selected.top_probabilities * 65535).astype("<u2").tobytes()

    def end(self, totals: Totals) -> None:
        """Write the page."""
        figures = f"{totals.bits_per_byte:.4f} bits per byte"
        if totals.adapted is not None:
            figures += f", {totals.adapted:.4f} with dynamic evaluation (shown)"
        arrays = (
            ("text", self.text),
            ("bits", self.bits),
            ("top_bytes", self.top_bytes),
            ("top_probabilities", self.top_probabilities),
        )
        table = json.dumps({name: base64.b64encode(array).decode() for name, array in arrays})
        parts = [  # in their order in the page
            ("@NAME@", html.escape(self.name)),
            ("@NAME@", html.escape(self.name)),
            ("@FIGURES@", html.escape(f"{totals.bytes:,} bytes · {figures}")),
            ("@DATA@", table),
        ]
        page = Path(__file__).with_name("page.html").read_text("utf-8")
        for place, content in parts:
            before, _, page = page.partition(place)
            self.file.write((before + content).encode(errors="replace"))  # a file name may not be UTF-8
        self.file.write(page.encode())

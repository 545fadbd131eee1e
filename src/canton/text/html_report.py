"""A scored text as one self-contained page: every byte coloured by its surprise, the alternatives on
hovering.

The page holds four arrays (bytes, bits, likeliest bytes, their chances) in base64 and builds the few thousand
characters that are in view, so that a text of a megabyte opens like a short one. What comes from outside
reaches the page as base64 or HTML-escaped, and its text through textContent: nothing in it can become markup.
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
MOST = 8 << 20
"""Bytes a page may show: it comes to about 18 bytes for each."""


class PageWriter:
    """A sink that gathers what a page shows; `end` writes it.

    Raises: UserError from the call that would make the page too large.
    """

    def __init__(self, file: IO[bytes], *, name: str) -> None:
        self.file, self.name = file, name
        self.text, self.bits, self.likeliest, self.chance = bytearray(), bytearray(), bytearray(), bytearray()

    def __call__(self, scored: Scored, adapted: Scored | None) -> None:
        """Add a stretch; where a model learned while it read, its figures are shown."""
        shown = adapted or scored
        if len(self.text) + len(shown.text) > MOST:
            raise UserError(
                f"{self.name} is too long for a page: it shows {MOST} bytes at most; score a part of it"
            )
        self.text += shown.text.tobytes()
        self.bits += (shown.bits.clip(0, 255) * 256).astype("<u2").tobytes()
        self.likeliest += shown.likeliest.tobytes()
        self.chance += np.rint(shown.chance * 65535).astype("<u2").tobytes()

    def end(self, totals: Totals) -> None:
        """Write the page."""
        figures = f"{totals.bits_per_byte:.4f} bits per byte"
        if totals.adapted is not None:
            figures += f", {totals.adapted:.4f} when learning while it reads (shown)"
        arrays = (
            ("text", self.text),
            ("bits", self.bits),
            ("likeliest", self.likeliest),
            ("chance", self.chance),
        )
        table = json.dumps({name: base64.b64encode(array).decode() for name, array in arrays})
        parts = [  # in the order of the page
            ("@NAME@", html.escape(self.name)),
            ("@NAME@", html.escape(self.name)),
            ("@FIGURES@", html.escape(f"{totals.bytes:,} bytes · {figures}")),
            ("@DATA@", table),
        ]
        page = Path(__file__).with_name("page.html").read_text("utf-8")
        for place, content in parts:
            before, _, page = page.partition(place)
            self.file.write((before + content).encode(errors="replace"))  # names of files may be no UTF-8
        self.file.write(page.encode())

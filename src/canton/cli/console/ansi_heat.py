"""Scored text in a terminal: the background colour of a character shows its surprisal."""

from __future__ import annotations

import codecs
from itertools import groupby
from typing import TYPE_CHECKING, TextIO

from rich.color import ColorSystem
from rich.style import Style

if TYPE_CHECKING:
    from canton.text import Scored

PALETTE = (230, 229, 228, 221, 214, 208, 202, 196, 160)
STYLES = (Style(), *(Style.parse(f"color(16) on color({colour})") for colour in PALETTE))
"""Style of a character by its bits, rounded down."""


def paint(text: str, bits: float) -> str:
    """Return `text` in the colour of `bits`, with escape sequences."""
    return STYLES[min(int(bits), len(PALETTE))].render(text, color_system=ColorSystem.EIGHT_BIT)


def legend() -> str:
    """Return one line that shows each colour with its bits."""
    return "bits: " + "".join(paint(f" {k}{'+' * (k == len(PALETTE))} ", k) for k in range(len(STYLES)))


class Painter:
    """A sink that prints a text in colour while it is scored.

    The bits of a character are the sum over its bytes. Control characters and invalid UTF-8 are shown in
    hexadecimal.
    """

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self.bits = 0.0

    def __call__(self, scored: Scored, adapted: Scored | None) -> None:
        shown, parts = adapted or scored, list[tuple[float, str]]()
        for byte, bits in zip(shown.text.tolist(), shown.bits.tolist(), strict=True):
            self.bits += bits
            parts += self._parts(self.decoder.decode(bytes([byte])))
        for level, run in groupby(parts, key=lambda part: min(int(part[0]), len(PALETTE))):
            self.out.write(paint("".join(text for _, text in run), level))
        self.out.flush()

    def end(self) -> None:
        """Print an incomplete last character, and a newline."""
        rest = self._parts(self.decoder.decode(b"", final=True))
        self.out.write("".join(paint(text, bits) for bits, text in rest) + "\n")

    def _parts(self, characters: str) -> list[tuple[float, str]]:
        parts = []
        for character in characters:
            if character == "\n":  # the newline itself has no colour, or it would fill the rest of the line
                parts += [(self.bits, "⏎" if self.bits >= 1 else ""), (0.0, "\n")]
            elif character.isprintable() or character == "\t":
                parts.append((self.bits, character))
            else:
                parts.append((self.bits, character.encode("unicode_escape").decode()))
        self.bits = 0.0 if characters else self.bits
        return parts

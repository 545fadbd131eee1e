"""A scored text in a terminal: every byte on a background as warm as it was surprising."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from canton.text import Scored

WARMTH = (0, 230, 229, 228, 221, 214, 208, 202, 196, 160)
"""Colours of the 256-colour palette by bits, rounded down; none below one bit."""
PLAIN = "\x1b[0m"


def paint(bits: float) -> str:
    """The escape sequence for a character that cost so many bits."""
    colour = WARMTH[min(int(bits), len(WARMTH) - 1)]
    return f"\x1b[38;5;16;48;5;{colour}m" if colour else PLAIN


def legend() -> str:
    """The colours and what they stand for."""
    names = [*map(str, range(len(WARMTH) - 1)), f"{len(WARMTH) - 1}+"]
    return "bits: " + "".join(f"{paint(k)} {name} " for k, name in enumerate(names)) + PLAIN


class Painter:
    """A sink that paints a text as it is scored. A character of several bytes is painted by their sum.

    Control characters and bytes that are not UTF-8 are shown as what they are, in hexadecimal, and never
    sent.
    """

    def __init__(self, out: TextIO) -> None:
        self.out, self.last = out, ""
        self.decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self.cost = 0.0

    def __call__(self, scored: Scored, adapted: Scored | None) -> None:
        shown = adapted or scored
        for byte, bits in zip(shown.text.tolist(), shown.bits.tolist(), strict=True):
            self.cost += bits
            self._put(self.decoder.decode(bytes([byte])))
        self.out.flush()

    def end(self) -> None:
        """Paint what is left, and go back to plain."""
        self._put(self.decoder.decode(b"", final=True))
        self.out.write(PLAIN + "\n")

    def _put(self, characters: str) -> None:
        for character in characters:
            paints = paint(self.cost)
            if paints != self.last:
                self.out.write(paints)
                self.last = paints
            if character == "\n":  # a background must not run to the end of the line
                self.out.write(("⏎" if self.cost >= 1 else "") + PLAIN + "\n")
                self.last = PLAIN
            elif character.isprintable() or character == "\t":
                self.out.write(character)
            else:
                self.out.write(character.encode("unicode_escape").decode())
        if characters:
            self.cost = 0.0

"""Text on paper, every character on a background as warm as its bytes were surprising."""

from __future__ import annotations

import codecs
import html
import math

import torch

from canton.text.generate import read
from canton.text.likelihood import BEFORE
from canton.text.model import ByteModel

STEPS = 24
"""Colours, one for each half bit; twelve bits and more are the deepest."""


class Meter:
    """What each byte costs under a model, in bits, told as the bytes come."""

    def __init__(self, model: ByteModel) -> None:
        self._model = model
        logits, self._state = read(model, bytes([BEFORE]))
        self._logits = torch.from_numpy(logits)[None]

    @torch.no_grad()
    def bits(self, text: bytes) -> list[float]:
        """Of the bytes of `text`, which follow those of the last call."""
        if not text:
            return []
        device = self._model.logits.weight.device
        came = torch.frombuffer(bytearray(text), dtype=torch.uint8).to(device)
        pieces = []
        for piece in came.split(1024):
            logits, self._state = self._model(piece[:, None], self._state)
            pieces.append(logits[:, 0].float().cpu())
        every = torch.cat([self._logits, *pieces])
        self._logits = every[-1:]
        costs = -every[:-1].log_softmax(-1).gather(1, came.cpu().long()[:, None])[:, 0] / math.log(2)
        return [float(cost) for cost in costs]


class Paper:
    """HTML that only ever grows at its end, so that a page is sent no more than what is new.

    A character of several bytes is coloured by their sum. What comes in is escaped.
    """

    def __init__(self) -> None:
        self.html = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._cost = 0.0

    def add(self, text: bytes, bits: list[float], *, given: bool = False) -> None:
        """Append bytes that cost `bits`; given: they are the prompt."""
        parts = []
        for byte, cost in zip(text, bits, strict=True):
            self._cost += cost
            for character in self._decoder.decode(bytes([byte])):
                parts.append(_character(character, self._cost, given))
                self._cost = 0.0
        self.html += "".join(parts)


def _character(character: str, bits: float, given: bool) -> str:
    level = min(int(2 * bits), STEPS)
    kind = f"b{level} given" if given else f"b{level}"
    if character == "\n":
        shown = "⏎\n" if bits >= 1 else "\n"
        kind += " mark"
    elif character.isprintable() or character == "\t":
        shown = html.escape(character)
    else:
        shown, kind = f"‹{ord(character):02x}›", kind + " mark"
    return f'<i class="{kind}" title="{bits:.1f} bits">{shown}</i>'


def colours() -> str:
    """The style sheet of `Paper`: the colours that the page of `canton text score --html` has."""
    rules = []
    for level in range(STEPS + 1):
        x = level / STEPS
        rules.append(f".paper .b{level} {{ background: {_colour(x)} }}")
    return "\n".join(rules)


def legend() -> str:
    """The colours and the bits they stand for, as HTML."""
    marks = "".join(
        f'<i class="b{2 * bits}">{bits}{"+" if bits == 12 else ""}</i>' for bits in (0, 1, 2, 4, 6, 8, 12)
    )
    return f'<span class="paper legend">surprise in bits {marks}</span>'


def _colour(x: float) -> str:
    return f"hsl({55 - 55 * x:.0f}, 95%, {100 - 45 * math.sqrt(x):.0f}%)"

"""Text as HTML: the background colour of a character shows its surprisal."""

from __future__ import annotations

import codecs
import html
import math

import torch

from canton.text.generate import predict_next
from canton.text.model import ByteModel
from canton.text.types import START_BYTE

STEPS = 24
"""Colours, one for each half bit; the last is for 12 bits and more."""


class SurprisalMeter:
    """Compute the bits of each byte under a model while the bytes arrive."""

    def __init__(self, model: ByteModel) -> None:
        self._model = model
        logits, self._state = predict_next(model, bytes([START_BYTE]))
        self._logits = torch.from_numpy(logits)[None]

    @torch.no_grad()
    def bits(self, text: bytes) -> list[float]:
        """Return the bits of each byte of `text`, which follows the bytes of the last call."""
        if not text:
            return []
        device = self._model.logits.weight.device
        new = torch.frombuffer(bytearray(text), dtype=torch.uint8).to(device)
        parts = []
        for piece in new.split(1024):
            logits, self._state = self._model(piece[:, None], self._state)
            parts.append(logits[:, 0].float().cpu())
        all_logits = torch.cat([self._logits, *parts])
        self._logits = all_logits[-1:]
        costs = -all_logits[:-1].log_softmax(-1).gather(1, new.cpu().long()[:, None])[:, 0] / math.log(2)
        return [float(cost) for cost in costs]


class SurprisalHTML:
    """HTML that grows at its end only, so that the page is sent only what is new.

    The bits of a character are the sum over its bytes. The text is escaped.
    """

    def __init__(self) -> None:
        self.html = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._bits = 0.0

    def add(self, text: bytes, bits: list[float], *, is_prompt: bool = False) -> None:
        """Append bytes with their bits; is_prompt: mark them as the prompt."""
        parts = []
        for byte, cost in zip(text, bits, strict=True):
            self._bits += cost
            for character in self._decoder.decode(bytes([byte])):
                parts.append(_character(character, self._bits, is_prompt))
                self._bits = 0.0
        self.html += "".join(parts)


def _character(character: str, bits: float, is_prompt: bool) -> str:
    level = min(int(2 * bits), STEPS)
    classes = f"b{level} prompt" if is_prompt else f"b{level}"
    if character == "\n":
        shown = "⏎\n" if bits >= 1 else "\n"
        classes += " mark"
    elif character.isprintable() or character == "\t":
        shown = html.escape(character)
    else:
        shown, classes = f"‹{ord(character):02x}›", classes + " mark"
    return f'<i class="{classes}" title="{bits:.1f} bits">{shown}</i>'


def stylesheet() -> str:
    """Return the CSS of `SurprisalHTML`: the colours of `canton text score --html`."""
    rules = []
    for level in range(STEPS + 1):
        x = level / STEPS
        rules.append(f".surprisal .b{level} {{ background: {_colour(x)} }}")
    return "\n".join(rules)


def legend() -> str:
    """Return the legend of the colours as HTML."""
    marks = "".join(
        f'<i class="b{2 * bits}">{bits}{"+" if bits == 12 else ""}</i>' for bits in (0, 1, 2, 4, 6, 8, 12)
    )
    return f'<span class="surprisal legend">surprisal in bits {marks}</span>'


def _colour(x: float) -> str:
    return f"hsl({55 - 55 * x:.0f}, 95%, {100 - 45 * math.sqrt(x):.0f}%)"

"""The score of a model on the held-out part, during training and after it."""

from __future__ import annotations

from typing import NamedTuple

import torch

from canton.text.corpus import Corpus
from canton.text.likelihood import next_byte_bits
from canton.text.model import ByteModel

WINDOW = 1 << 13
"""Bytes that are scored in one window of the held-out part."""
CONTEXT = 1 << 12
"""Bytes before each window that are read and not scored."""
COLD_BYTES = 1 << 10
"""First bytes of a window that are scored from the initial state."""
MAX_WINDOWS = 128
"""At most this many windows are scored, evenly spaced, to limit the time on large files."""
PART_WINDOWS = 4
"""Windows that are scored at each evaluation during training."""
BATCH = 16


class HeldOut(NamedTuple):
    """A score on the held-out part.

    Attributes:
        warm: bits per byte after `CONTEXT` bytes of context.
        cold: bits per byte of the first `COLD_BYTES` bytes of a text, from the initial state.
        bytes: bytes that `warm` is the mean of.
    """

    warm: float
    cold: float
    bytes: int


@torch.no_grad()
def score_held_out(model: ByteModel, corpus: Corpus, *, max_windows: int = MAX_WINDOWS) -> HeldOut:
    """Score the held-out part in windows of `WINDOW` bytes.

    Args:
        model: the model.
        corpus: the text.
        max_windows: windows to score; if there are more, evenly spaced ones. The windows that training
            scores are among those that are scored at the end.
    """
    training = model.training
    model.eval()
    starts = range(corpus.split, len(corpus), WINDOW)
    chosen = [starts[k * len(starts) // max_windows] for k in range(max_windows)]
    chosen = list(starts) if len(starts) <= max_windows else chosen
    size = min(WINDOW, len(corpus) - chosen[0])
    warm = cold = 0.0
    scored = cold_bytes = 0
    for first in range(0, len(chosen), BATCH):
        begins = chosen[first : first + BATCH]
        bits, valid = next_byte_bits(model, corpus, begins, size, context=CONTEXT)
        warm, scored = warm + float(bits[valid].sum()), scored + int(valid.sum())
        bits, valid = next_byte_bits(model, corpus, begins, min(COLD_BYTES, size), context=0)
        cold, cold_bytes = cold + float(bits[valid].sum()), cold_bytes + int(valid.sum())
    model.train(training)
    return HeldOut(warm / scored, cold / cold_bytes, scored)

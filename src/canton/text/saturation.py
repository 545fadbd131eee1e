"""Starts from which a recurrent layer saturates.

A GRU whose state is near -1 or 1 in most channels can stay there for thousands of bytes: its gates are
closed, and it predicts the same bytes whatever it reads. Training on few long streams does not visit such
states, so its loss does not show them.
"""

from __future__ import annotations

import numpy as np
import torch

from canton.text.corpus import Corpus
from canton.text.model import ByteModel
from canton.text.types import START_BYTE

SATURATED = 0.99
"""A channel is saturated if its absolute value is larger."""


@torch.no_grad()
def saturated_starts(
    model: ByteModel, corpus: Corpus, *, count: int = 256, length: int = 64, seed: int = 0
) -> float:
    """Return the fraction of random starts in the training part after which most channels are saturated.

    Args:
        model: the model; the state's memory cells of an LSTM, which are not bounded, are not looked at.
        corpus: the text.
        count: number of starts. The first byte read is `START_BYTE` for half of them.
        length: bytes to read from each start.
        seed: of the starts.
    """
    length = min(length, corpus.split)
    begins = np.random.default_rng(seed).integers(corpus.split - length + 1, size=count)
    text = torch.from_numpy(np.stack([corpus.read(b, b + length) for b in begins.tolist()], axis=1))
    text[0, ::2] = START_BYTE
    training = model.training
    finals = model.eval().final_states(text)
    model.train(training)
    return max(float(((h.abs() > SATURATED).float().mean(-1) > 0.5).float().mean()) for h in finals)

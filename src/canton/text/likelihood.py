"""How many bits each byte of a text costs under a model, given all bytes before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from canton.text.corpus import Bytes, Corpus
from canton.text.model import ByteModel, State

BEFORE = 0x0A
"""A text is read as if a line had just ended: its first byte, too, is guessed from something."""

TURN = 1024
"""Bytes of each lane that are read in one go."""

Learn = Callable[[Tensor, Tensor, Tensor], None]
"""Is handed, once a stretch is scored, its loss in nats a byte, the bytes that were read (T,) and those that
came (T,), and may change the model by them.
"""


class Scored(NamedTuple):
    """A stretch of a text, byte by byte.

    text (n,) the bytes; bits (n,) what each costs; likeliest (n, k) the k bytes that seemed likeliest in its
    place, best first; chance (n, k) their probabilities.
    """

    text: Bytes
    bits: npt.NDArray[np.float32]
    likeliest: Bytes
    chance: npt.NDArray[np.float32]


def surprisals(
    model: ByteModel, text: Bytes, *, alternatives: int = 0, stretch: int = TURN, learn: Learn | None = None
) -> Iterator[Scored]:
    """Score `text` from its first byte to its last, a stretch at a time, so that it may be of any size.

    Args:
        alternatives: how many likeliest bytes to tell at each place.
        stretch: bytes a turn. Without `learn` it changes nothing but speed.
        learn: see `Learn`; a byte is always scored before it is learned from.
    """
    model.eval()
    device = model.logits.weight.device
    state: State | None = None
    last = np.array([BEFORE], np.uint8)
    for start in range(0, len(text), stretch):
        here = np.array(text[start : start + stretch])  # a copy: a map is read-only, torch wants more
        read = torch.from_numpy(np.concatenate([last, here[:-1]])).to(device)
        with torch.set_grad_enabled(learn is not None):
            logits, state = model(read[:, None], state)
            state = tuple(tensor.detach() for tensor in state)
            nats = _nats(logits[:, 0], torch.from_numpy(here).to(device))
        chance, likeliest = logits.detach()[:, 0].float().softmax(-1).topk(alternatives)
        yield Scored(
            here,
            (nats.detach() / math.log(2)).cpu().numpy(),
            likeliest.to(torch.uint8).cpu().numpy(),
            chance.cpu().numpy(),
        )
        if learn is not None:
            learn(nats.mean(), read, torch.from_numpy(here))
        last = here[-1:]


def bits_per_byte(
    model: ByteModel, corpus: Corpus, start: int, stop: int, *, lanes: int = 16, run_up: int | None = None
) -> float:
    """Bits per byte of the corpus from `start` to `stop`, every byte scored once, the state carried along.

    For speed the stretch is read in `lanes` lanes side by side; each starts `run_up` bytes early, and these
    are not counted; left out, 512 or as many as the model looks back at. One lane is the exact figure, which
    more of them approach from above.
    """
    run_up = max(512, model.carried) if run_up is None else run_up
    training = model.training
    model.eval()
    lanes = max(1, min(lanes, (stop - start) // (2 * run_up)))
    size = -(-(stop - start) // lanes)
    begins = [start + lane * size for lane in range(lanes)]
    device = model.logits.weight.device
    bits, state = 0.0, None
    # at time t a lane reads byte begin - 1 - lead + t and guesses the one after it
    lead = min(run_up, max(start - 1, 0))
    with torch.no_grad():
        for first in range(-lead, size, TURN):
            last = min(first + TURN, size)
            window = np.stack([_stretch(corpus, b + first - 1, b + last, stop) for b in begins], axis=1)
            given = torch.from_numpy(window).to(device)
            logits, state = model(given[:-1], state)
            nats = _nats(logits.flatten(0, 1), given[1:].flatten()).view(last - first, lanes)
            place = torch.arange(first, last)[:, None]
            counted = (place >= 0) & (place + torch.tensor(begins) < stop)
            bits += float(nats.cpu()[counted].double().sum()) / math.log(2)
    model.train(training)
    return bits / (stop - start)


def _nats(logits: Tensor, answers: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.float(), answers.long(), reduction="none")


def _stretch(corpus: Corpus, start: int, stop: int, end: int) -> Bytes:
    """Bytes `start` to `stop`; what lies before the corpus is `BEFORE`, what lies behind `end` is not looked
    at.
    """
    real = corpus.read(max(start, 0), min(stop, end))
    before = np.full(max(-start, 0), BEFORE, np.uint8)
    after = np.zeros(stop - start - len(before) - len(real), np.uint8)
    return np.concatenate([before, real, after])

"""Surprisal: the bits that each byte of a text costs under a model, given all bytes before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from canton.errors import UserError
from canton.text.corpus import Corpus
from canton.text.model import ByteModel, State
from canton.text.types import START_BYTE, Bytes, NgramStats

CHUNK = 1024
"""Bytes of each stream to score at a time."""

SEARCHED = 1 << 13
"""Bytes for which the history is searched at a time."""

OnChunk = Callable[[Tensor, Tensor, Tensor], None]
"""Called after a chunk is scored with its loss in nats per byte, its inputs (T,) and its targets (T,). It may
train the model on them."""


class Scored(NamedTuple):
    """The scores of a part of a text.

    Attributes:
        text: (n,) bytes.
        bits: (n,) surprisal of each.
        top_bytes: (n, k) the k likeliest bytes at each position, the likeliest first.
        top_probabilities: (n, k) their probabilities.
    """

    text: Bytes
    bits: npt.NDArray[np.float32]
    top_bytes: Bytes
    top_probabilities: npt.NDArray[np.float32]


def surprisals(
    model: ByteModel,
    text: Bytes,
    *,
    alternatives: int = 0,
    chunk_size: int = CHUNK,
    on_chunk: OnChunk | None = None,
) -> Iterator[Scored]:
    """Score a text of any size from its first byte to its last, chunk by chunk.

    Args:
        model: the model; it is set to evaluation mode.
        text: the bytes.
        alternatives: number of likeliest bytes to return at each position.
        chunk_size: bytes of a chunk. Without `on_chunk` it affects only the speed.
        on_chunk: see `OnChunk`. A byte is scored before the model trains on it.
    """
    model.eval()
    device = model.logits.weight.device
    state: State | None = None
    last = np.array([START_BYTE], np.uint8)
    block_size = chunk_size * max(1, SEARCHED // chunk_size)
    found: NgramStats | None = None
    for start in range(0, len(text), chunk_size):
        chunk = np.array(text[start : start + chunk_size])  # a copy: torch cannot use read-only memory
        inputs = torch.from_numpy(np.concatenate([last, chunk[:-1]])).to(device)
        within = start % block_size
        if model.history is not None and not within:  # one search for many chunks
            block = np.concatenate([last, text[start : start + block_size - 1]])
            past = model.initial_state(1)[0] if state is None else state[0]
            found = model.history.look_up(torch.cat([past.cpu(), torch.from_numpy(block)[:, None]]))
        part = slice(within, within + len(chunk))
        history = None if found is None else NgramStats(*(each[part] for each in found))
        with torch.set_grad_enabled(on_chunk is not None):
            logits, state = model(inputs[:, None], state, history=history)
            state = tuple(tensor.detach() for tensor in state)
            nats = nats_per_byte(logits[:, 0], torch.from_numpy(chunk).to(device))
        probabilities, top_bytes = logits.detach()[:, 0].float().softmax(-1).topk(alternatives)
        yield Scored(
            chunk,
            (nats.detach() / math.log(2)).cpu().numpy(),
            top_bytes.to(torch.uint8).cpu().numpy(),
            probabilities.cpu().numpy(),
        )
        if on_chunk is not None:
            on_chunk(nats.mean(), inputs, torch.from_numpy(chunk))
        last = chunk[-1:]


def bits_per_byte(
    model: ByteModel,
    corpus: Corpus,
    start: int,
    stop: int,
    *,
    streams: int = 16,
    warmup_bytes: int | None = None,
) -> float:
    """Return the mean surprisal of the corpus from `start` to `stop`, with the state carried along.

    Args:
        model: the model.
        corpus: the text.
        start, stop: the range; every byte of it is scored once.
        streams: parts of the range that are scored in parallel. 1 is exact; more streams are faster, and the
            result is slightly higher.
        warmup_bytes: bytes before each part that are read but not scored. None: 512, or those that the
            model's state carries if more.
    """
    warmup_bytes = max(512, model.past_size) if warmup_bytes is None else warmup_bytes
    training = model.training
    model.eval()
    streams = max(1, min(streams, (stop - start) // (2 * warmup_bytes)))
    size = -(-(stop - start) // streams)
    begins = [start + stream * size for stream in range(streams)]
    bits, scored = next_byte_bits(model, corpus, begins, size, context=warmup_bytes, stop=stop)
    model.train(training)
    return float(bits[scored].sum()) / (stop - start)


@torch.no_grad()
def next_byte_bits(
    model: ByteModel,
    corpus: Corpus,
    begins: Sequence[int],
    size: int,
    *,
    context: int,
    stop: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the surprisal of `size` bytes from each of `begins`, float64 (size, B), and whether each counts.

    Args:
        model: the model, in evaluation mode.
        corpus: the text.
        begins: positions in it.
        size: bytes to score at each.
        context: bytes before each that are read and not scored. 0: from the initial state, after
            `START_BYTE`.
        stop: bytes from here on do not count. None: from the corpus's end on.
    """
    stop = len(corpus) if stop is None else stop
    device = model.logits.weight.device
    lead = min(context, max(min(begins) - 1, 0))
    parts, state = [], None
    # at time t a stream reads byte begin - 1 + t and predicts the one after it
    for first in range(-lead, size, CHUNK):
        last = min(first + CHUNK, size)
        columns = [_read(corpus, begin + first - 1, begin + last, stop) for begin in begins]
        window = torch.from_numpy(np.stack(columns, axis=1)).to(device)
        if first == 0 and not context:
            window[0] = START_BYTE
        starts = _starts(corpus, [begin + first for begin in begins], last - first)
        logits, state = model(window[:-1], state, starts=None if starts is None else starts.to(device))
        nats = nats_per_byte(logits.flatten(0, 1), window[1:].flatten()).view(last - first, len(begins))
        parts.append(nats.cpu()[max(-first, 0) :].double() / math.log(2))
    counts = torch.arange(size)[:, None] + torch.tensor(begins) < stop
    return torch.cat(parts), counts


def nats_per_byte(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss (N,) of logits (N, 256) at targets (N,), in nats.

    Raises:
        UserError: a loss is not finite.
    """
    nats = nn.functional.cross_entropy(logits.float(), targets.long(), reduction="none")
    if not bool(nats.detach().isfinite().all()):
        raise UserError(
            "the model's prediction is not finite: its weights are damaged, or a learning rate too high"
        )
    return nats


def _starts(corpus: Corpus, begins: Sequence[int], size: int) -> Tensor | None:
    """Return before which of `size` bytes from each of `begins` a document starts, (size, B); None: none."""
    columns = [corpus.starts(begin, begin + size) for begin in begins]
    if all(column is None for column in columns):
        return None
    empty = np.zeros(size, np.bool_)
    return torch.from_numpy(np.stack([empty if c is None else c for c in columns], axis=1))


def _read(corpus: Corpus, start: int, stop: int, end: int) -> Bytes:
    """Return bytes `start` to `stop`: `START_BYTE` before the corpus, zeros from `end` on."""
    real = corpus.read(max(start, 0), min(stop, end))
    before = np.full(max(-start, 0), START_BYTE, np.uint8)
    after = np.zeros(stop - start - len(before) - len(real), np.uint8)
    return np.concatenate([before, real, after])

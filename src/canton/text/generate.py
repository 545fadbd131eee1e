"""Generation of text: each byte is sampled from the model's prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from canton.errors import UserError
from canton.text import utf8
from canton.text.engine.engine import Engine, build_engine
from canton.text.likelihood import START_BYTE
from canton.text.model import ByteModel, State

Floats = npt.NDArray[np.floating]


def generate(
    model: ByteModel,
    length: int,
    *,
    prompt: bytes = b"",
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: bytes = b"",
    only_utf8: bool = True,
    precision: str = "float32",
) -> Iterator[bytes]:
    """Continue `prompt` by up to `length` bytes. Yield them as they are sampled, without the prompt.

    Args:
        model: the model.
        length: bytes to generate.
        prompt: text to continue.
        temperature: divides the logits; 0 takes the likeliest byte.
        top_k: sample from this many likeliest bytes; 0 for all.
        top_p: sample from the fewest likeliest bytes that together have this probability (Holtzman et al.
            2019, arXiv:1904.09751).
        seed: random seed.
        stop: stop after this text; empty for never.
        only_utf8: mask bytes that are not well-formed UTF-8 and characters that do not fit in `length`, so
            that the text consists of whole characters.
        precision: "float32" or "int8", see `canton.text.engine.engine.build_engine`.

    Raises:
        UserError: a value is out of range or, with `only_utf8`, the prompt is not UTF-8.
    """
    check_sampling(length=length, temperature=temperature, top_k=top_k, top_p=top_p)
    utf8_state = utf8.START
    if only_utf8:
        try:
            utf8_state = utf8.advance(utf8_state, prompt)
        except UserError as error:
            raise UserError(f"prompt must be UTF-8: {error}; or allow any bytes with --no-utf8") from error
    engine = build_engine(model, precision=precision)
    return _stream(
        model,
        engine,
        length,
        prompt,
        temperature,
        top_k,
        top_p,
        seed,
        stop,
        utf8_state if only_utf8 else None,
    )


def check_sampling(*, length: int, temperature: float, top_k: int, top_p: float) -> None:
    """Check the arguments of `generate`.

    Raises:
        UserError: a value is out of range.
    """
    if length < 0:
        raise UserError(f"length must be >= 0, got {length}")
    if not 0 <= temperature < math.inf:
        raise UserError(f"temperature must be finite and >= 0, got {temperature}")
    if not 0 <= top_k <= 256:
        raise UserError(f"top_k must be 0 (all bytes) to 256, got {top_k}")
    if not 0 < top_p <= 1:
        raise UserError(f"top_p must be > 0 and <= 1, got {top_p}")


def _stream(
    model: ByteModel,
    engine: Engine | None,
    length: int,
    prompt: bytes,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    stop: bytes,
    utf8_state: int | None,
) -> Iterator[bytes]:
    model.eval()
    logits, state = predict_next(model, bytes([START_BYTE]) + prompt)
    generator = np.random.default_rng(seed)
    written = b""
    while len(written) < length:
        block = min(32 if engine is None else 256, length - len(written))  # a few milliseconds of work
        sample_block = partial(sample_bytes, model) if engine is None else engine.generate
        text, logits, state, utf8_state = sample_block(
            logits,
            state,
            generator.random(block),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            utf8_state=utf8_state,
            remaining=length - len(written),
        )
        end = (written + text).find(stop, max(0, len(written) - len(stop))) if stop else -1
        if end >= 0:
            yield text[: end + len(stop) - len(written)]
            return
        written += text
        yield text


@torch.no_grad()
def predict_next(model: ByteModel, text: bytes, state: State | None = None) -> tuple[Floats, State]:
    """Return the (256,) logits of the byte after `text` (at least one byte), and the state."""
    device = model.logits.weight.device
    inputs = torch.frombuffer(bytearray(text), dtype=torch.uint8).to(device)[:, None]
    for chunk in inputs.split(4096):
        logits, state = model(chunk, state)
    assert state is not None
    return logits[-1, 0].float().cpu().numpy(), state


def sample_bytes(
    model: ByteModel,
    logits: Floats,
    state: State,
    uniforms: Floats,
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    utf8_state: int | None,
    remaining: int,
) -> tuple[bytes, Floats, State, int | None]:
    """Sample one byte for each of `uniforms`, and run the model on every byte.

    The reference for `canton.text.engine.engine.Engine.generate`.

    Args:
        logits, state: results of `predict_next` or of the previous call.
        utf8_state: state of the UTF-8 automaton; None allows any byte.
        remaining: bytes up to the end of the text, see `utf8.allowed`.

    Returns:
        the bytes, and logits, state and utf8_state for the next call.
    """
    text = bytearray()
    for k, uniform in enumerate(uniforms):
        mask = None if utf8_state is None else utf8.allowed(utf8_state, remaining - k)
        byte = sample_byte(
            logits, float(uniform), temperature=temperature, top_k=top_k, top_p=top_p, allowed=mask
        )
        text.append(byte)
        if utf8_state is not None:
            utf8_state = int(utf8.NEXT[utf8_state, byte])
        logits, state = predict_next(model, bytes([byte]), state)
    return bytes(text), logits, state, utf8_state


def sample_byte(
    logits: Floats,
    uniform: float,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> int:
    """Sample a byte by inverting the cumulative distribution of the logits at `uniform`.

    Args:
        logits: (256,).
        uniform: a number in [0, 1).
        temperature, top_k, top_p: see `generate`. With top-k or top-p the distribution is sorted, the
            likeliest byte first; otherwise it is in byte order.
        allowed: (256,) the bytes that may be sampled; applied first. None: all.
    """
    scores = logits.astype(np.float64)
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    if temperature == 0:
        return int(scores.argmax())
    order = np.argsort(-scores, kind="stable") if top_k or top_p < 1 else np.arange(256)
    if top_k:
        order = order[:top_k]
    weights = np.exp((scores[order] - scores.max()) / temperature)
    ends = weights.cumsum()
    if top_p < 1:
        ends = ends[: int(np.searchsorted(ends, top_p * ends[-1])) + 1]
    place = int(np.searchsorted(ends, uniform * ends[-1], side="right"))
    last = int(
        np.searchsorted(ends, ends[-1])
    )  # the last byte with a probability above 0; rounding can exceed it
    return int(order[min(place, last)])

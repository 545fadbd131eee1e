"""Writing: one byte after the other, drawn from what the model expects next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from canton.errors import UserError
from canton.text import utf8
from canton.text.engine.build import native_writer
from canton.text.engine.engine import Writer
from canton.text.likelihood import BEFORE
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
    """Continue `prompt` by at most `length` bytes, given out as they are drawn. The prompt is not given out.

    Args:
        temperature: the logits are divided by it; 0 always takes the likeliest byte.
        top_k: draw from the k likeliest bytes only; 0 for all.
        top_p: draw from the fewest likeliest bytes that together have this probability (Holtzman et al. 2019,
            arXiv:1904.09751).
        seed: the same seed gives the same text.
        stop: end once this has been written; empty for never.
        only_utf8: never draw a byte that would break UTF-8, nor begin a character that `length` has no room
        for, so
            that the text is whole characters to its end. Such bytes are masked before the draw.
        precision: "float32", or "int8": see
            `canton.text.engine.build.native_writer`, which writes where it can.

    Raises: UserError for a value out of range, or, with `only_utf8`, a prompt that is not UTF-8.
    """
    check_sampling(length=length, temperature=temperature, top_k=top_k, top_p=top_p)
    character = utf8.START
    if only_utf8:
        try:
            character = utf8.advance(character, prompt)
        except UserError as error:
            raise UserError(f"the prompt is not UTF-8: {error}; --no-utf8 takes any bytes") from error
    writer = native_writer(model, precision=precision)
    return _stream(
        model, writer, length, prompt, temperature, top_k, top_p, seed, stop, character if only_utf8 else None
    )


def check_sampling(*, length: int, temperature: float, top_k: int, top_p: float) -> None:
    """Raises: UserError for a value out of range."""
    if length < 0:
        raise UserError(f"the number of bytes is {length}: it is at least 0")
    if not 0 <= temperature < math.inf:
        raise UserError(f"temperature is {temperature}: it is a number of at least 0")
    if not 0 <= top_k <= 256:
        raise UserError(f"top-k is {top_k}: it is 0 (all bytes) to 256")
    if not 0 < top_p <= 1:
        raise UserError(f"top-p is {top_p}: it is above 0 and at most 1")


def _stream(
    model: ByteModel,
    writer: Writer | None,
    length: int,
    prompt: bytes,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    stop: bytes,
    character: int | None,
) -> Iterator[bytes]:
    model.eval()
    logits, state = read(model, bytes([BEFORE]) + prompt)
    generator = np.random.default_rng(seed)
    written = b""
    while len(written) < length:
        block = min(32 if writer is None else 256, length - len(written))  # some milliseconds of either
        once = partial(write, model) if writer is None else partial(write_natively, writer)
        text, logits, state, character = once(
            logits,
            state,
            generator.random(block),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            character=character,
            room=length - len(written),
        )
        end = (written + text).find(stop, max(0, len(written) - len(stop))) if stop else -1
        if end >= 0:
            yield text[: end + len(stop) - len(written)]
            return
        written += text
        yield text


@torch.no_grad()
def read(model: ByteModel, text: bytes, state: State | None = None) -> tuple[Floats, State]:
    """Read `text` (one byte at least): the (256,) logits for the byte after it, and the state."""
    device = model.logits.weight.device
    given = torch.frombuffer(bytearray(text), dtype=torch.uint8).to(device)[:, None]
    for piece in given.split(4096):
        logits, state = model(piece, state)
    assert state is not None
    return logits[-1, 0].float().cpu().numpy(), state


def write(
    model: ByteModel,
    logits: Floats,
    state: State,
    uniforms: Floats,
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    character: int | None,
    room: int,
) -> tuple[bytes, Floats, State, int | None]:
    """Draw one byte for each of `uniforms`, reading each as it is drawn.

    A function of its arguments alone: the truth that `write_natively` is held to.

    Args:
        logits, state: what `read` or a former call gave.
        character: the state of the UTF-8 automaton, None to allow all bytes; `room`: see `utf8.allowed`.

    Returns: the bytes, and logits, state and character to go on from.
    """
    text = bytearray()
    for k, uniform in enumerate(uniforms):
        mask = None if character is None else utf8.allowed(character, room - k)
        byte = draw(logits, float(uniform), temperature=temperature, top_k=top_k, top_p=top_p, allowed=mask)
        text.append(byte)
        if character is not None:
            character = int(utf8.NEXT[character, byte])
        logits, state = read(model, bytes([byte]), state)
    return bytes(text), logits, state, character


def write_natively(
    writer: Writer,
    logits: Floats,
    state: State,
    uniforms: Floats,
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    character: int | None,
    room: int,
) -> tuple[bytes, Floats, State, int | None]:
    """What `write` does, by the native kernel."""
    past, *hidden = state
    written = writer.write(
        logits,
        hidden,
        past[:, 0].numpy().tobytes(),
        uniforms,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        character=character,
        room=room,
        follow=utf8.NEXT,
        fits=utf8.FITS,
    )
    after = torch.from_numpy(np.frombuffer(written.past, np.uint8).copy())[:, None]
    return written.text, written.logits, (after, *written.states), written.character


def draw(
    logits: Floats,
    uniform: float,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> int:
    """The byte on which `uniform`, in [0, 1), falls when the (256,) `logits` are turned into probabilities.

    `allowed` masks first, then temperature, top-k and top-p narrow what is left; see `generate`. The bytes
    lie side by side in [0, 1) in their own order; once top-k or top-p has sorted them, the likeliest first.
    """
    scores = logits.astype(np.float64)
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    if temperature == 0:
        return int(scores.argmax())
    order = np.argsort(-scores, kind="stable") if top_k or top_p < 1 else np.arange(256)
    if top_k:
        order = order[:top_k]
    chance = np.exp((scores[order] - scores.max()) / temperature)
    ends = chance.cumsum()
    if top_p < 1:
        ends = ends[: int(np.searchsorted(ends, top_p * ends[-1])) + 1]
    place = int(np.searchsorted(ends, uniform * ends[-1], side="right"))
    return int(
        order[min(place, int(np.searchsorted(ends, ends[-1])))]
    )  # rounding never leaves a byte of chance 0

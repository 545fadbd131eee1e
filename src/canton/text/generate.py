"""Generation of text: each byte is sampled from the model's prediction."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from canton.errors import UserError
from canton.text import utf8
from canton.text.config import Sampling
from canton.text.engine.engine import build_engine
from canton.text.model import ByteModel, State
from canton.text.sampling import Floats, sample_byte
from canton.text.types import START_BYTE, SampledBytes


class Context(NamedTuple):
    """The position at the end of a text, from which a `TextGenerator` continues. It is never changed.

    Attributes:
        logits: (256,) of the next byte.
        state: of the model.
        utf8_state: of the automaton in `canton.text.utf8`; None allows any byte.
        recent: the last `repetition_window` bytes.
    """

    logits: Floats
    state: State
    utf8_state: int | None
    recent: bytes


class Part(NamedTuple):
    """A part of a generated text.

    Attributes:
        text: its bytes.
        bits: (n,) surprisal of each under the model, as `canton.text.surprisals` gives it: neither
            temperature nor any other setting of the sampling changes it.
        context: the position after it.
    """

    text: bytes
    bits: npt.NDArray[np.float32]
    context: Context


class TextGenerator:
    """A model prepared to continue texts. One text at a time: the calls share the engine's memory.

    Args:
        model: the model; it is set to evaluation mode.
        sampling: how bytes are sampled. None: the defaults.
        only_utf8: mask bytes that are not well-formed UTF-8 and characters that do not fit in the length, so
            that the text consists of whole characters.
        precision: "float32" or "int8", see `canton.text.engine.engine.build_engine`.

    Raises:
        UserError: the precision is unknown, or the C++ engine cannot run the model in int8.
    """

    def __init__(
        self,
        model: ByteModel,
        sampling: Sampling | None = None,
        *,
        only_utf8: bool = True,
        precision: str = "float32",
    ) -> None:
        self.model, self.sampling, self.only_utf8 = model.eval(), sampling or Sampling(), only_utf8
        self._engine = build_engine(model, precision=precision)

    def start(self, prompt: bytes = b"") -> Context:
        """Return the position after `prompt`.

        Raises:
            UserError: with `only_utf8`, the prompt is not UTF-8.
        """
        state = self._advance_utf8(utf8.START if self.only_utf8 else None, prompt)
        logits, after = predict_next(self.model, bytes([START_BYTE]) + prompt)
        return Context(logits, after, state, prompt[-self.sampling.repetition_window :])

    def read(self, context: Context, text: bytes) -> Context:
        """Return the position after `text`, which follows `context`.

        Raises:
            UserError: with `only_utf8`, the text is not UTF-8.
        """
        if not text:
            return context
        state = self._advance_utf8(context.utf8_state, text)
        logits, after = predict_next(self.model, text, context.state)
        return Context(logits, after, state, self._recent(context, text))

    def generate(self, context: Context, length: int, *, seed: int = 0, stop: bytes = b"") -> Iterator[Part]:
        """Yield up to `length` bytes, in parts, as they are sampled.

        Args:
            context: the position to continue from.
            length: bytes to generate.
            seed: random seed.
            stop: stop after this text; empty for never.

        Raises:
            UserError: the length is negative.
        """
        if length < 0:
            raise UserError(f"length must be >= 0, got {length}")
        return self._generate(context, length, seed, stop)

    def _generate(self, context: Context, length: int, seed: int, stop: bytes) -> Iterator[Part]:
        random, count, tail = np.random.default_rng(seed), 0, b""
        while count < length:
            block = min(32 if self._engine is None else 256, length - count)  # a few milliseconds of work
            uniforms = random.random(block)
            part = self._sample(context, uniforms, length - count)
            end = (tail + part.text).find(stop) if stop else -1
            if end >= 0:
                kept = end + len(stop) - len(tail)
                if kept < block:  # sample the block again up to here, for the position after it
                    part = self._sample(context, uniforms[:kept], length - count)
                yield part
                return
            tail = (tail + part.text)[1 - len(stop) :] if len(stop) > 1 else b""
            count, context = count + block, part.context
            yield part

    def _sample(self, context: Context, uniforms: npt.NDArray[np.float64], remaining: int) -> Part:
        sample = partial(sample_bytes, self.model) if self._engine is None else self._engine.generate
        done = sample(
            context.logits,
            context.state,
            uniforms,
            sampling=self.sampling,
            recent=context.recent,
            utf8_state=context.utf8_state,
            remaining=remaining,
        )
        after = Context(done.logits, done.state, done.utf8_state, self._recent(context, done.text))
        return Part(done.text, done.bits, after)

    def _recent(self, context: Context, text: bytes) -> bytes:
        return (context.recent + text)[-self.sampling.repetition_window :]

    def _advance_utf8(self, state: int | None, text: bytes) -> int | None:
        if state is None:
            return None
        try:
            return utf8.advance(state, text)
        except UserError as error:
            raise UserError(f"prompt must be UTF-8: {error}; or allow any bytes with --no-utf8") from error


def generate(
    model: ByteModel,
    length: int,
    *,
    prompt: bytes = b"",
    sampling: Sampling | None = None,
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
        sampling: how bytes are sampled. None: the defaults.
        seed: random seed.
        stop: stop after this text; empty for never.
        only_utf8, precision: see `TextGenerator`.

    Raises:
        UserError: a value is out of range or, with `only_utf8`, the prompt is not UTF-8.
    """
    generator = TextGenerator(model, sampling, only_utf8=only_utf8, precision=precision)
    parts = generator.generate(generator.start(prompt), length, seed=seed, stop=stop)
    return (part.text for part in parts)


@torch.no_grad()
def predict_next(model: ByteModel, text: bytes, state: State | None = None) -> tuple[Floats, State]:
    """Return the (256,) logits of the byte after `text` (at least one byte), and the state."""
    device = model.logits.weight.device
    inputs = torch.frombuffer(bytearray(text), dtype=torch.uint8).to(device)[:, None]
    for chunk in inputs.split(4096):
        logits, state = model(chunk, state)
    assert state is not None
    if not bool(logits[-1, 0].isfinite().all()):
        raise UserError("the model's logits must be finite, got NaN or infinity: its weights are damaged")
    return logits[-1, 0].float().cpu().numpy(), state


def sample_bytes(
    model: ByteModel,
    logits: Floats,
    state: State,
    uniforms: Floats,
    *,
    sampling: Sampling | None = None,
    recent: bytes = b"",
    utf8_state: int | None = None,
    remaining: int = 0,
) -> SampledBytes:
    """Sample one byte for each of `uniforms`, and run the model on every byte.

    The reference for `canton.text.engine.engine.Engine.generate`.

    Args:
        logits, state: results of `predict_next` or of the previous call.
        sampling: how bytes are sampled. None: the defaults.
        recent: the text so far, at least its last `repetition_window` bytes.
        utf8_state: state of the UTF-8 automaton; None allows any byte.
        remaining: bytes up to the end of the text, see `utf8.allowed`.
    """
    text, bits = bytearray(), np.empty(len(uniforms), np.float32)
    for k, uniform in enumerate(uniforms):
        mask = None if utf8_state is None else utf8.allowed(utf8_state, remaining - k)
        byte = sample_byte(logits, float(uniform), sampling, recent=recent + bytes(text), allowed=mask)
        text.append(byte)
        bits[k] = (np.logaddexp.reduce(logits) - logits[byte]) / np.log(2)
        if utf8_state is not None:
            utf8_state = int(utf8.NEXT[utf8_state, byte])
        logits, state = predict_next(model, bytes([byte]), state)
    return SampledBytes(bytes(text), bits, logits, state, utf8_state)

"""The native writer writes the bytes of the readable one, under every instruction set there is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from canton.errors import UserError
from canton.kernels import cpu
from canton.text import ARTICLE, Architecture, ByteModel, generate
from canton.text.engine.build import native_writer
from canton.text.generate import read, write, write_natively
from canton.text.ngram.table import count

pytestmark = pytest.mark.skipif(bool(cpu.why_not()), reason=str(cpu.why_not()))

TEXT = np.frombuffer(("It's said, Hello wörld 42; Hello there. " * 30).encode(), np.uint8)

SHAPES = (
    ARTICLE.model,
    Architecture(hidden=40, memory=90),
    Architecture(
        hidden=33, layers=2, contexts=((2, 512), (5, 1024)), recent=(1, 7), recent_words=(3,), memory=30
    ),
    Architecture(
        hidden=16, layers=2, skip=False, head=7, contexts=(), counts=(), words=(), recent=(), recent_words=()
    ),
    Architecture(hidden=10, layers=2, skip=False, head=7, counts=(7, 2), words=(3, 0), recent=()),
)


@pytest.fixture(params=["portable", "avx2", "avx512"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    before = cpu.instruction_set()
    cpu.use_instruction_set(request.param)
    found = cpu.instruction_set()
    if found != request.param:
        pytest.skip(f"this processor has no {request.param}")
    yield found
    cpu.use_instruction_set(before)


def opinionated(shape: Architecture) -> ByteModel:
    model = ByteModel(shape).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5).add_(0.02 * torch.randn_like(weight))
    if shape.runs:
        model.counts = count(TEXT, shape.runs, 300)
    return model


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("character", [0, None])
def test_the_same_bytes(instruction_set: str, shape: Architecture, character: int | None) -> None:
    model = opinionated(shape)
    logits, state = read(model, b"\nHello")
    uniforms = np.random.default_rng(0).random(200)
    ways = {"temperature": 0.9, "top_k": 60, "top_p": 0.95, "character": character, "room": 200}
    slow, slow_logits, slow_state, ended = write(model, logits, state, uniforms, **ways)
    writer = native_writer(model)
    assert writer is not None
    fast, fast_logits, fast_state, fast_ended = write_natively(writer, logits, state, uniforms, **ways)
    assert fast == slow
    assert fast_ended == ended
    np.testing.assert_allclose(fast_logits, slow_logits, atol=2e-5)
    for ours, theirs in zip(fast_state, slow_state, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


def test_int8_is_near() -> None:
    model = opinionated(ARTICLE.model)
    logits, state = read(model, b"\nHello")
    uniforms = np.zeros(50)  # with one byte to choose from, both walk the same way as long as they agree
    ways = {"temperature": 1.0, "top_k": 1, "top_p": 1.0, "character": None, "room": 50}
    exact, coarse = (native_writer(model, precision=p) for p in ("float32", "int8"))
    assert exact is not None
    assert coarse is not None
    first = write_natively(exact, logits, state, uniforms[:1], **ways)
    second = write_natively(coarse, logits, state, uniforms[:1], **ways)
    assert first[0] == second[0]
    difference = np.abs(first[1] - second[1]).max()
    assert 0 < difference < 0.02 * np.abs(first[1]).max()  # other arithmetic, nearly the same numbers


def test_int8_where_it_cannot_be_is_an_error() -> None:
    model = ByteModel(Architecture(cell="lstm", hidden=8))
    assert native_writer(model) is None
    with pytest.raises(UserError, match=r"int8 needs the native kernel.*gru alone"):
        generate(model, 5, precision="int8")
    with pytest.raises(UserError, match="precision is 'int4'"):
        generate(model, 5, precision="int4")

"""Writing without Python in between, against the byte model's own loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from canton.kernels import cpu
from canton.text import utf8
from canton.text.config import ARTICLE, Architecture
from canton.text.engine import engine, spec
from canton.text.generate import generate, read, write
from canton.text.model import ByteModel
from tolerances import assert_close

pytestmark = pytest.mark.skipif(not cpu.available(), reason=f"no native kernels: {cpu.why_not()}")

MODELS = {
    "article": ARTICLE.model,
    "contexts": Architecture(
        hidden=33, embedding=11, contexts=((2, 64), (4, 128)), counts=(), words=(), recent=(), recent_words=()
    ),
    "stack": Architecture(
        hidden=7, layers=3, embedding=5, contexts=(), counts=(), words=(), recent=(), recent_words=(), head=13
    ),
    "plain-stack": Architecture(
        hidden=17,
        layers=2,
        embedding=0,
        contexts=(),
        counts=(),
        words=(),
        recent=(),
        recent_words=(),
        skip=False,
    ),
}


def model_of(name: str) -> ByteModel:
    """The named model with weights large enough for all of them to be felt."""
    model = ByteModel(MODELS[name]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2).add_(torch.randn_like(parameter) * 0.1)
    return model


def net_of(model: ByteModel) -> spec.ByteNet:
    layers = [
        spec.GRULayer(
            cell.input_map.weight, cell.input_map.bias, cell.hidden_map.weight, cell.candidate_map.weight
        )
        for cell in (layer.cells[0] for layer in model.layers)
    ]
    norm, narrow = model.norm, model.narrow
    return spec.ByteNet(
        None if model.embedding is None else model.embedding.weight,
        [
            (n, table.weight)
            for (n, _), table in zip(model.architecture.contexts, model.contexts, strict=True)
        ],
        None if norm is None else (norm.weight, norm.bias, norm.eps),
        layers,
        model.architecture.skip,
        None if narrow is None else (narrow.weight, narrow.bias),
        (model.logits.weight, model.logits.bias),
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 20, 0.9), (1.3, 0, 0.8), (0.0, 0, 1.0)]
)
@pytest.mark.parametrize("only_utf8", [True, False])
def test_it_writes_what_the_model_writes(
    instructions: str, name: str, temperature: float, top_k: int, top_p: float, only_utf8: bool
) -> None:
    model = model_of(name)
    logits, state = read(model, b"\nhello wor")
    uniforms = np.random.default_rng(3).random(40)
    character = utf8.START if only_utf8 else None
    text, after, states, ended = write(
        model,
        logits,
        state,
        uniforms,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        character=character,
        room=40,
    )
    packed = engine.Writer(net_of(model))
    given, left = (logits, list(state[1:]), state[0].numpy().tobytes(), character), 40
    pieces = []
    for piece in np.split(uniforms, [1, 13]):  # in pieces as in one
        written = packed.write(
            *given[:3],
            piece,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            character=given[3],
            room=left,
            follow=utf8.NEXT,
            fits=utf8.FITS,
        )
        pieces.append(written.text)
        given, left = written[1:], left - len(piece)
    assert b"".join(pieces) == text
    assert (written.character, written.past) == (ended, states[0].numpy().tobytes())
    assert_close(torch.from_numpy(written.logits), torch.from_numpy(np.asarray(after)), "logits")
    for got, expected in zip(written.states, states[1:], strict=True):
        assert_close(got, expected, "state")


@pytest.mark.parametrize("name", MODELS)
def test_eight_bits_are_close(instructions: str, name: str) -> None:
    model = model_of(name)
    logits, state = read(model, b"\nhello wor")
    results = [
        engine.Writer(net_of(model), precision=precision).write(
            logits, state[1:], state[0].numpy().tobytes(), np.array([0.3]), temperature=1.0
        )
        for precision in ("float32", "int8")
    ]
    assert results[0].text == results[1].text
    error = np.abs(results[0].logits - results[1].logits).max() / np.abs(results[0].logits).max()
    assert 0 < error < 0.03  # not the same path twice, and not another function


def test_a_broken_state_is_an_error(instructions: str) -> None:
    model = model_of("article")
    logits, (past, hidden) = read(model, b"\nhello")
    hidden[0, 0, 3] = float("nan")
    for precision in ("float32", "int8"):
        packed = engine.Writer(net_of(model), precision=precision)
        with pytest.raises(ValueError, match="after 1 bytes the model's scores are no finite numbers"):
            packed.write(logits, [hidden], past.numpy().tobytes(), np.full(4, 0.5))


def test_shapes_that_do_not_fit_are_named() -> None:
    net = net_of(model_of("article"))
    with pytest.raises(
        ValueError, match=r"layer 0's gates has the shape \(512, 255\): here it is \(512, 256\)"
    ):
        engine.Writer(net._replace(layers=[net.layers[0]._replace(gates=net.layers[0].gates[:, 1:])]))
    with pytest.raises(ValueError, match="precision is 'int4'"):
        engine.Writer(net, precision="int4")
    with pytest.raises(ValueError, match="they are"):
        engine.Writer(net).write(np.zeros(256), [torch.zeros(3)], b"", np.zeros(1))


WIDE = {
    "article": ARTICLE.model,
    "stack": Architecture(
        hidden=165,
        layers=2,
        embedding=21,
        contexts=((2, 64),),
        counts=(),
        words=(),
        recent=(1, 3),
        recent_words=(),
        memory=50,
        head=13,
    ),
}


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("name", WIDE)
def test_threads_write_the_same_bytes(name: str, precision: str) -> None:
    """From the 17th byte on all threads write together wherever that is quicker (company.h)."""
    model = ByteModel(WIDE[name]).eval()
    texts = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        pieces = generate(model, 700, prompt=b"hello wor", seed=5, precision=precision)
        texts.append(b"".join(pieces))
    torch.set_num_threads(1)
    assert len(texts[0]) == 700
    assert texts[1] == texts[0]
    assert texts[2] == texts[0]

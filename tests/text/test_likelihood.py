"""Surprisal against its definition, dynamic evaluation, JSON and the HTML page."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from canton.errors import UserError
from canton.text import Adapter, Architecture, ByteModel, Corpus, bits_per_byte, score, surprisals
from canton.text.html_report import PageWriter
from canton.text.score import JSONWriter

TEXT = np.frombuffer(
    ("What <b>is</b> & what is not: Ä 漢 </script> " * 40).encode() + b"\xff\x00\x1b[2J", np.uint8
)


@pytest.fixture
def model() -> ByteModel:
    torch.manual_seed(2)
    model = ByteModel(
        Architecture(
            hidden_size=12,
            embedding_size=6,
            contexts=((3, 16),),
            ngram_orders=(),
            ngram_words=(),
            history_orders=(),
            history_words=(),
            dropout=0.5,
        )
    )
    with torch.no_grad():
        model.logits.weight.mul_(5)
    return model


def definition(model: ByteModel, text: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits, _ = model.eval()(torch.tensor([0x0A, *text[:-1].tolist()])[:, None])
    chance = logits[:, 0].double().softmax(-1)[torch.arange(len(text)), torch.tensor(text.tolist())]
    return -chance.log2().numpy()


@pytest.mark.parametrize("chunk_size", [1, 7, 1024])
def test_bits_equal_the_definition(model: ByteModel, chunk_size: int) -> None:
    got = list(surprisals(model, TEXT, alternatives=5, chunk_size=chunk_size))
    bits = np.concatenate([scored.bits for scored in got])
    assert np.abs(bits - definition(model, TEXT)).max() < 1e-4
    assert np.array_equal(np.concatenate([scored.text for scored in got]), TEXT)
    assert score(model, TEXT).bits_per_byte == pytest.approx(bits.mean(), abs=1e-5)
    top_bytes, top = (
        np.concatenate([getattr(s, n) for s in got]) for n in ("top_bytes", "top_probabilities")
    )
    assert (np.diff(top, axis=1) <= 0).all()
    hit = top_bytes == TEXT[:, None]
    assert hit.any()
    assert np.abs(-np.log2(top[hit]) - bits[hit.any(1)]).max() < 1e-3


def test_one_stream_is_exact_and_many_are_close(model: ByteModel, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(np.random.default_rng(0).choice(TEXT, 9000).tobytes())
    corpus = Corpus([file], train_fraction=0.2)
    whole = definition(model, corpus.read(0, 9000))
    exact = bits_per_byte(model, corpus, 1800, 9000, streams=1, warmup_bytes=1800)
    assert exact == pytest.approx(whole[1800:].mean(), abs=1e-5)
    for streams in (2, 7):
        near = bits_per_byte(model, corpus, 1800, 9000, streams=streams, warmup_bytes=60)
        assert near == pytest.approx(exact, abs=1e-3)
    assert bits_per_byte(model, corpus, 0, 100, streams=1) == pytest.approx(whole[:100].mean(), abs=1e-5)
    model.train()
    bits_per_byte(model, corpus, 0, 100)
    assert model.training  # the mode is restored


def test_dynamic_evaluation_follows_its_equations(model: ByteModel) -> None:
    rate, decay, averaging, epsilon, chunk_size = 0.02, 0.3, 0.5, 1e-3, 11
    adapter = Adapter(
        model, learning_rate=rate, decay=decay, averaging=averaging, epsilon=epsilon, chunk_size=chunk_size
    )
    before = [p.detach().clone() for p in model.parameters()]
    got = np.concatenate(
        [s.bits for s in surprisals(adapter.model, TEXT[:66], chunk_size=chunk_size, on_chunk=adapter)]
    )
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))

    twin = ByteModel(model.architecture).eval()
    twin.load_state_dict(model.state_dict())
    names = [name for name, _ in twin.named_parameters()]
    trained = {name: p.detach().clone() for name, p in twin.named_parameters()}
    squares = {name: torch.zeros_like(p) for name, p in trained.items()}
    state, last, expected = None, 0x0A, []
    for k in range(6):
        here = TEXT[k * chunk_size : (k + 1) * chunk_size].tolist()
        logits, state = twin(torch.tensor([last, *here[:-1]])[:, None], state)
        state, last = tuple(t.detach() for t in state), here[-1]
        nats = torch.nn.functional.cross_entropy(logits[:, 0], torch.tensor(here), reduction="none")
        expected += (nats / math.log(2)).tolist()
        gradients = dict(zip(names, torch.autograd.grad(nats.mean(), list(twin.parameters())), strict=True))
        for name in names:
            squares[name] = averaging * squares[name] + (1 - averaging) * gradients[name] ** 2
        sizes = {name: torch.sqrt(squares[name] / (1 - averaging ** (k + 1))) for name in names}
        mean = torch.cat([size.flatten() for size in sizes.values()]).mean()
        with torch.no_grad():
            for name, p in twin.named_parameters():
                back = torch.clamp(decay * sizes[name] / mean, max=1.0) * (trained[name] - p)
                p += back - rate * gradients[name] / (sizes[name] + epsilon)
    assert np.abs(got - np.array(expected)).max() < 2e-3
    assert np.abs(got - definition(model, TEXT[:66])).max() > 0.1  # it has trained


def test_dynamic_evaluation_helps_on_a_repetitive_text(model: ByteModel) -> None:
    totals = score(model, TEXT, adapter=Adapter(model, learning_rate=2e-2))
    assert totals.adapted is not None
    assert totals.adapted < 0.7 * totals.bits_per_byte


def test_a_byte_is_scored_before_the_model_trains_on_it(model: ByteModel) -> None:
    adapter = Adapter(model, learning_rate=0.1, chunk_size=50)
    first = next(iter(surprisals(adapter.model, TEXT, chunk_size=50, on_chunk=adapter)))
    assert np.abs(first.bits - definition(model, TEXT[:50])).max() < 1e-4


def test_json_output_is_valid(model: ByteModel) -> None:
    file = io.BytesIO()
    writer = JSONWriter(file, name='a"b')
    writer.end(score(model, TEXT, adapter=Adapter(model), sinks=[writer]))
    table = json.loads(file.getvalue())
    assert table["file"] == 'a"b'
    assert [row[0] for row in table["rows"]] == TEXT.tolist()
    assert np.mean([row[1] for row in table["rows"]]) == pytest.approx(table["bits_per_byte"], abs=1e-3)
    assert np.mean([row[2] for row in table["rows"]]) == pytest.approx(
        table["adapted_bits_per_byte"], abs=1e-3
    )


def test_the_page_holds_the_text_without_markup(model: ByteModel) -> None:
    file = io.BytesIO()
    writer = PageWriter(file, name="<script>alert(1)</script>")
    totals = score(model, TEXT, alternatives=5, sinks=[writer])
    writer.end(totals)
    page = file.getvalue().decode()
    assert "<script>alert" not in page
    assert page.count("<script>") == page.count("</script>") == 1
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    assert not re.search(r"(?:src|href)\s*=|https?://|@import|url\(", page)  # nothing is fetched
    assert not re.search(r"@[A-Z]+@", page)
    data = json.loads(re.search(r"const data = (.*);", page)[1])  # type: ignore[index]
    arrays = {name: base64.b64decode(value) for name, value in data.items()}
    assert arrays["text"] == TEXT.tobytes()
    bits = np.frombuffer(arrays["bits"], "<u2") / 256
    assert bits.mean() == pytest.approx(totals.bits_per_byte, abs=0.01)
    assert len(arrays["top_bytes"]) * 2 == len(arrays["top_probabilities"]) == 10 * len(TEXT)


def test_a_text_too_long_for_a_page_raises(model: ByteModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("canton.text.html_report.MAX_BYTES", 100)
    with pytest.raises(UserError, match="100 bytes"):
        score(model, TEXT, alternatives=5, sinks=[PageWriter(io.BytesIO(), name="x")])


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": -1.0},
        {"learning_rate": math.nan},
        {"decay": 2.0},
        {"averaging": 1.0},
        {"chunk_size": 0},
    ],
)
def test_invalid_adapter_settings_raise(model: ByteModel, wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        Adapter(model, **wrong)  # type: ignore[arg-type]


def test_an_empty_text_raises(model: ByteModel) -> None:
    with pytest.raises(UserError, match="text"):
        score(model, TEXT[:0])

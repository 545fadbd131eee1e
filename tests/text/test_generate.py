"""Sampling of bytes and of texts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from canton.errors import UserError
from canton.text import Architecture, ByteModel, Sampling, TextGenerator, generate, surprisals
from canton.text.sampling import sample_byte

SMALL = Architecture(hidden_size=12, num_layers=2, embedding_size=6, contexts=((2, 16),), dropout=0.5)


@pytest.fixture
def model() -> ByteModel:
    torch.manual_seed(4)
    model = ByteModel(SMALL)
    with torch.no_grad():
        model.logits.weight.mul_(8)  # far from uniform, without training
        model.logits.bias[0x80:].add_(3)  # prefers bytes that can break UTF-8
    return model.eval()


def shares(
    logits: np.ndarray,
    sampling: Sampling | None = None,
    *,
    recent: bytes = b"",
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """Return the frequency of each byte for evenly spaced `uniform`."""
    count = 20_000
    drawn = [
        sample_byte(logits, (k + 0.5) / count, sampling, recent=recent, allowed=allowed) for k in range(count)
    ]
    return np.bincount(drawn, minlength=256) / count


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()


LOGITS = np.random.default_rng(0).normal(size=256).astype(np.float32) * 3


def test_frequencies_equal_probabilities() -> None:
    assert np.abs(shares(LOGITS) - softmax(LOGITS)).max() < 1e-4


def test_temperature_flattens_and_sharpens() -> None:
    assert np.abs(shares(LOGITS, Sampling(temperature=2.0)) - softmax(LOGITS / 2)).max() < 1e-4
    assert sample_byte(LOGITS, 0.999, Sampling(temperature=0.0)) == int(LOGITS.argmax())
    assert np.abs(shares(LOGITS, Sampling(temperature=1e-3))[LOGITS.argmax()] - 1) < 1e-9


def test_top_k_keeps_the_k_likeliest_in_proportion() -> None:
    likely = np.argsort(-LOGITS)[:5]
    expected = np.zeros(256)
    expected[likely] = softmax(LOGITS)[likely] / softmax(LOGITS)[likely].sum()
    assert np.abs(shares(LOGITS, Sampling(top_k=5)) - expected).max() < 1e-4


def test_top_p_keeps_the_fewest_bytes_that_reach_p() -> None:
    chance = np.sort(softmax(LOGITS))[::-1]
    kept = np.flatnonzero(shares(LOGITS, Sampling(top_p=0.5)))
    assert chance[: len(kept) - 1].sum() < 0.5 <= chance[: len(kept)].sum()
    assert set(kept) == set(np.argsort(-LOGITS)[: len(kept)])
    assert np.count_nonzero(shares(LOGITS, Sampling(top_p=1e-9))) == 1


def test_min_p_keeps_the_bytes_with_a_fraction_of_the_highest_probability() -> None:
    chance = softmax(LOGITS / 2)
    expected = np.where(chance >= 0.2 * chance.max(), chance, 0)
    assert 1 < np.count_nonzero(expected) < 250
    for other in (Sampling(temperature=2.0, min_p=0.2), Sampling(temperature=2.0, min_p=0.2, top_k=200)):
        assert np.abs(shares(LOGITS, other) - expected / expected.sum()).max() < 1e-4


def test_the_repetition_penalty_changes_the_bytes_of_the_window() -> None:
    best, worst = int(LOGITS.argmax()), int(LOGITS.argmin())
    assert LOGITS[worst] < 0 < LOGITS[best]
    expected = LOGITS.copy()
    expected[best] /= 2
    expected[worst] *= 2
    penalty = Sampling(repetition_penalty=2.0, repetition_window=3)
    text = bytes([best, 0, best, worst, worst])  # the byte 0 is outside the window
    assert np.abs(shares(LOGITS, penalty, recent=text) - softmax(expected)).max() < 1e-4


def test_a_logit_bias_is_added() -> None:
    expected = LOGITS.copy()
    expected[65] += 2.5
    expected[int(LOGITS.argmax())] -= 1000
    sampling = Sampling(logit_bias=((65, 2.5), (int(LOGITS.argmax()), -1000.0)))
    assert np.abs(shares(LOGITS, sampling) - softmax(expected)).max() < 1e-4


LEVEL = np.full(256, -1e4, np.float32)
LEVEL[[40, 50, 60, 200]] = 0.0  # four bytes of equal probability; all others have none


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (0, 0.25, 1),
        (0, 0.5, 2),
        (0, 0.500001, 3),
        (0, 0.75, 3),
        (0, 0.999, 4),
        (1, 1.0, 1),
        (3, 1.0, 3),
        (4, 0.5, 2),
    ],
)
def test_equal_bytes_at_the_limit(top_k: int, top_p: float, kept: int) -> None:
    """Bytes that reach top-p exactly are enough; of equal bytes the smaller comes first."""
    chosen = (40, 50, 60, 200)[:kept]
    for place in range(kept):  # `uniform` on a border belongs to the byte after it
        for uniform in (max(place / kept, 1e-9), (place + 0.999) / kept):
            assert sample_byte(LEVEL, uniform, Sampling(top_k=top_k, top_p=top_p)) == chosen[place]


def test_a_mask_keeps_the_proportions() -> None:
    mask = np.arange(256) % 3 == 0
    expected = np.where(mask, softmax(LOGITS), 0) / softmax(LOGITS)[mask].sum()
    assert np.abs(shares(LOGITS, allowed=mask) - expected).max() < 1e-4
    assert sample_byte(LOGITS, 0.5, Sampling(temperature=0.0), allowed=mask) % 3 == 0


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 256), st.floats(1e-6, 1))
def test_only_allowed_bytes_are_sampled(uniform: float, top_k: int, top_p: float) -> None:
    mask = np.arange(256) > 250
    sampling = Sampling(top_k=top_k, top_p=top_p, min_p=0.3)
    assert sample_byte(LOGITS, uniform, sampling, allowed=mask) > 250


@pytest.mark.parametrize("length", [0, 1, 2, 3, 31, 32, 33, 300])
def test_the_text_is_whole_characters_of_the_given_length(model: ByteModel, length: int) -> None:
    for seed in range(3):
        text = b"".join(generate(model, length, seed=seed, sampling=Sampling(temperature=1.5)))
        assert len(text) == length
        text.decode("utf-8")
    raw = b"".join(generate(model, 100, only_utf8=False, sampling=Sampling(temperature=1.5)))
    with pytest.raises(UnicodeDecodeError):  # so the mask has work to do
        raw.decode("utf-8")


def test_a_prompt_may_end_within_a_character(model: ByteModel) -> None:
    start = "漢".encode()[:1]
    (start + b"".join(generate(model, 20, prompt=start))).decode("utf-8")


def test_the_seed_decides(model: ByteModel) -> None:
    texts = [b"".join(generate(model, 50, seed=seed)) for seed in (1, 1, 0, 2)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3
    assert b"".join(generate(model, 50)) == texts[2]


def test_each_byte_is_predicted_from_all_text_before_it(model: ByteModel) -> None:
    text = b"".join(generate(model, 45, prompt=b"ab", sampling=Sampling(temperature=0.0), only_utf8=False))
    whole = b"\nab" + text
    with torch.no_grad():
        logits, _ = model(torch.tensor(list(whole))[:, None])
    assert logits[2:-1, 0].argmax(-1).tolist() == list(text)


def test_it_streams(model: ByteModel) -> None:
    parts = list(itertools.islice(generate(model, 10**9), 3))
    assert all(0 < len(part) <= 256 for part in parts)


@pytest.mark.parametrize(("cell", "length"), [("gru", 600), ("lstm", 100)])  # blocks of 256 and of 32 bytes
def test_it_stops_after_the_stop_text(cell: str, length: int) -> None:
    model = ByteModel(
        Architecture(
            cell=cell, hidden_size=8, embedding_size=6, contexts=(), history_orders=(), history_words=()
        )
    ).eval()
    blocks = list(generate(model, length, seed=5, only_utf8=False))
    text, ends = b"".join(blocks), list(itertools.accumulate(map(len, blocks)))
    assert len(ends) > 2
    assert ends[-1] == length
    across = [text[ends[0] - before : ends[0] + after] for before, after in ((3, 1), (1, 3), (4, 0), (0, 4))]
    longer_than_a_block = text[ends[0] - 2 : ends[1] + 2]
    for stop in (text[30:33], text[0:1], *across, longer_than_a_block):
        end = text.index(stop) + len(stop)
        assert b"".join(generate(model, length, seed=5, only_utf8=False, stop=stop)) == text[:end]


def test_a_text_continues_from_every_context(model: ByteModel) -> None:
    """In turns, and after a stop within a block, a text goes on as if it had been the prompt."""
    generator = TextGenerator(model, Sampling(repetition_penalty=1.5, repetition_window=20), only_utf8=False)
    whole = b"".join(part.text for part in generator.generate(generator.start(b"ab"), 100, seed=5))
    stopped = list(generator.generate(generator.start(b"ab"), 100, seed=5, stop=whole[40:43]))
    start = b"ab" + b"".join(part.text for part in stopped)
    assert len(start) < 100
    contexts = generator.read(stopped[-1].context, b" cd"), generator.start(start + b" cd")
    first, second = (b"".join(p.text for p in generator.generate(each, 50)) for each in contexts)
    assert first == second


def test_the_bits_are_those_of_scoring(model: ByteModel) -> None:
    generator = TextGenerator(model, Sampling(temperature=0.5, logit_bias=((65, 3.0),)))
    parts = list(generator.generate(generator.start(b"ab"), 90, seed=1))
    text = np.frombuffer(b"ab" + b"".join(part.text for part in parts), np.uint8)
    (scored,) = surprisals(model, text)
    assert np.abs(np.concatenate([part.bits for part in parts]) - scored.bits[2:]).max() < 1e-3


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -1.0), ("temperature", float("nan")), ("temperature", float("inf")), ("top_k", -1),
     ("top_k", 257), ("top_p", 0.0), ("top_p", 1.1), ("top_p", float("nan")), ("min_p", 1.5),
     ("repetition_penalty", 0.0), ("repetition_window", 0),
     ("logit_bias", ((256, 1.0),)), ("logit_bias", ((0, 1e9),))],
)  # fmt: skip
def test_a_value_out_of_range_raises(name: str, value: float) -> None:
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(UserError, match=name):
        Sampling(**arguments)


def test_a_negative_length_raises_before_generation(model: ByteModel) -> None:
    with pytest.raises(UserError, match="length"):
        generate(model, -1)


def test_a_prompt_that_is_not_utf8_raises(model: ByteModel) -> None:
    with pytest.raises(UserError, match=r"prompt.*byte 1 "):
        generate(model, 5, prompt=b"a\xff")
    assert len(b"".join(generate(model, 5, prompt=b"a\xff", only_utf8=False))) == 5

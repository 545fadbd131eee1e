"""Compression: round trips, the same bits on every instruction set, damage, and the size that score says."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from canton.errors import UserError
from canton.kernels import cpu
from canton.text import Architecture, ByteModel, compress, decompress, score
from canton.text.engine.exact import ExactStream
from canton.text.ngram.table import count_ngrams
from canton.text.types import START_BYTE

pytest.importorskip("constriction", reason="constriction is not installed (canton-torch[compress])")
pytestmark = pytest.mark.skipif(not cpu.available(), reason=f"no C++ library: {cpu.why_not()}")

SENTENCE = ("It's said, Hello wörld 42; Hello there. " * 30).encode()
OVERHEAD = 64
"""More than the bytes of the header, the checksums and the last word."""


def make_model(**settings: object) -> ByteModel:
    torch.manual_seed(0)
    a = Architecture(**{"hidden_size": 40, "embedding_size": 20, "history_size": 90, **settings})  # type: ignore[arg-type]
    model = ByteModel(a).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    if a.ngram_kinds:
        model.ngrams = count_ngrams(np.frombuffer(SENTENCE, np.uint8), a.ngram_kinds, 500)
    return model


@pytest.fixture(scope="module")
def model() -> ByteModel:
    return make_model()


def random_text(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(0, 120)) if seed else 0
    return rng.integers(0, 256, size, np.uint8).tobytes() if seed % 2 else (SENTENCE * 2)[seed : seed + size]


def check_round_trips(model: ByteModel, seeds: range) -> None:
    for seed in seeds:
        text = random_text(seed)
        assert decompress(model, compress(model, text)) == text, seed


def test_round_trips(model: ByteModel) -> None:
    check_round_trips(model, range(40))


@pytest.mark.slow
def test_a_thousand_round_trips(model: ByteModel) -> None:
    check_round_trips(model, range(1000))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_layers": 2, "head_size": 13},
        {"embedding_size": 0, "contexts": (), "skip": False, "ngram_orders": (), "ngram_words": ()},
    ],
)
def test_the_bits_do_not_depend_on_the_instruction_set(settings: dict[str, object]) -> None:
    """Nor on the parts that the text is read in, nor on the thread."""
    model, best, found = make_model(**settings), cpu.instruction_set(), []
    text = bytes([START_BYTE]) + SENTENCE + random_text(7)
    for name in cpu.INSTRUCTION_SETS[: cpu.INSTRUCTION_SETS.index(best) + 1]:
        cpu.use_instruction_set(name)
        try:
            found.append(ExactStream(model).predict(text))
        finally:
            cpu.use_instruction_set(best)
    stream = ExactStream(model)
    found.append(np.concatenate([stream.predict(text[k : k + 7]) for k in range(0, len(text), 7)]))
    other = threading.Thread(target=lambda: found.append(ExactStream(model).predict(text)))
    torch.set_flush_denormal(True)
    try:
        found.append(ExactStream(model).predict(text))
    finally:
        torch.set_flush_denormal(False)
    other.start()
    other.join()
    assert (found[0].sum(1) == 1 << 24).all()
    assert (found[0] >= 1).all()
    for other_bits in found[1:]:
        assert np.array_equal(other_bits, found[0])


def test_the_size_is_what_score_says(model: ByteModel) -> None:
    text = SENTENCE * 4
    expected = score(model, np.frombuffer(text, np.uint8)).bits_per_byte * len(text) / 8
    assert expected - 1 <= len(compress(model, text)) <= 1.005 * expected + OVERHEAD


def test_damage_and_other_models_raise(model: ByteModel) -> None:
    data = compress(model, SENTENCE)
    for place in range(0, len(data), 5):
        changed = bytearray(data)
        changed[place] ^= 0x10
        with pytest.raises(UserError):
            decompress(model, bytes(changed))
    for size in (0, 3, 40, len(data) - 1):
        with pytest.raises(UserError):
            decompress(model, data[:size])
    other = make_model()
    with torch.no_grad():
        other.logits.bias[3] += 1e-6
    with pytest.raises(UserError, match="another model"):
        decompress(other, data)


def test_a_model_that_the_engine_cannot_run_raises() -> None:
    with pytest.raises(UserError, match="cell"):
        compress(make_model(cell="lstm"), b"text")

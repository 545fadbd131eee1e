"""N-gram tables against dictionaries; the mixer against its equation."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from canton.errors import UserError
from canton.text import Adapter, Architecture, ByteModel, load_model, save_model, score, surprisals
from canton.text.corpus import NUM_FOLDS
from canton.text.ngram.keys import WORD_LOOKBACK, NgramKind
from canton.text.ngram.mixer import COUNT_EDGES, TOTAL_EDGES, NgramMixer, initial_count_scores
from canton.text.ngram.table import MAX_FOLLOWERS, NgramStats, NgramTables, count_ngrams
from tolerances import assert_close

KINDS = (
    NgramKind(1),
    NgramKind(3),
    NgramKind(7),
    NgramKind(0, words=True),
    NgramKind(1, words=True),
    NgramKind(3, words=True),
)
LOOKBACK = WORD_LOOKBACK
TEXT = np.frombuffer(
    ("A cat's tale: a Cat, a tale; ä tale. The cat \x00 told 2 tales! " * 9).encode(), np.uint8
)
TEXT = np.concatenate([TEXT, np.random.default_rng(0).choice(np.frombuffer(b"ab C", np.uint8), 700)])


def identity(text: bytes, end: int, kind: NgramKind) -> object:
    """Return what two positions with the same key have in common; zeros come before a text."""
    window = (bytes(LOOKBACK) + text[: end + 1])[-LOOKBACK - 1 :]
    if not kind.words:
        return window[-kind.n :]
    words = re.split(rb"[^a-z0-9'\x80-\xff]+", re.sub(rb"[A-Z]", lambda found: found[0].lower(), window))
    end_byte = b"" if words[-1] else window[-1:]
    before = [word for word in words[:-1] if word][::-1][: kind.n]
    return (words[-1], end_byte, tuple(before))


def dictionary(text: bytes, kind: NgramKind, positions: list[int]) -> dict[object, Counter[int]]:
    found: dict[object, Counter[int]] = defaultdict(Counter)
    for position in positions:
        found[identity(text, position - 1, kind)][text[position]] += 1
    return found


def window_of(text: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([np.zeros(LOOKBACK, np.uint8), text])).long()[:, None]


def check(stats: NgramStats, k: int, positions: list[Counter[int]]) -> None:
    for at, expected in enumerate(positions):
        assert stats.totals[at, k] == expected.total(), (k, at)
        pairs = zip(stats.followers[at, k].tolist(), stats.counts[at, k].tolist(), strict=True)
        got = {follower: times for follower, times in pairs if times}
        assert all(expected[follower] == times for follower, times in got.items()), (k, at)
        assert sorted(got.values()) == sorted(expected.values())[-MAX_FOLLOWERS:], (k, at)


def test_counts_equal_dictionaries() -> None:
    text = TEXT.tobytes()
    stats = count_ngrams(TEXT, KINDS, 10**6).look_up(window_of(TEXT), LOOKBACK)
    for k, kind in enumerate(KINDS):
        table = dictionary(text, kind, list(range(1, len(text))))
        check(stats, k, [table[identity(text, end, kind)] for end in range(len(text))])


def test_a_fold_gets_the_counts_of_the_others() -> None:
    text, size = TEXT.tobytes(), len(TEXT)
    folds = torch.arange(1, size + 1) * NUM_FOLDS // size
    counts = count_ngrams(TEXT, KINDS, 10**6)
    stats = counts.look_up(window_of(TEXT), LOOKBACK, folds[:, None])
    for k, kind in enumerate(KINDS):
        tables = [
            dictionary(text, kind, [p for p in range(1, size) if p * NUM_FOLDS // size != fold])
            for fold in range(NUM_FOLDS + 1)
        ]
        for end in range(size):
            expected = tables[int(folds[end])][identity(text, end, kind)]
            assert stats.totals[end, k] == expected.total()
            pairs = zip(stats.followers[end, k].tolist(), stats.counts[end, k].tolist(), strict=True)
            assert all(expected[follower] == times for follower, times in pairs if times)


def test_the_most_frequent_ngrams_are_kept() -> None:
    table = count_ngrams(TEXT, (NgramKind(3),), 10).tables[0]
    expected = dictionary(TEXT.tobytes(), NgramKind(3), list(range(1, len(TEXT))))
    assert sorted(table.totals.tolist()) == sorted(row.total() for row in expected.values())[-10:]


def test_an_update_equals_counting_both_texts() -> None:
    first, second = TEXT[:500], TEXT[500:800]
    together = TEXT[:800].tobytes()
    counts = count_ngrams(first, KINDS, 10**6)
    window = window_of(TEXT[:800])
    counts.update(window[499 : 499 + LOOKBACK + 300], LOOKBACK, torch.from_numpy(second.copy()))
    stats = counts.look_up(window, LOOKBACK)
    for k, kind in enumerate(KINDS):
        table = dictionary(together, kind, list(range(1, 800)))
        check(stats, k, [table[identity(together, end, kind)] for end in range(800)])


def test_a_weight_of_two_counts_everything_twice() -> None:
    first, window = TEXT[:500], window_of(TEXT[:700])
    part, targets = window[499 : 499 + LOOKBACK + 200], torch.from_numpy(TEXT[500:700].copy())
    heavy, twice = (count_ngrams(first, KINDS, 10**6) for _ in range(2))
    heavy.update(part, LOOKBACK, targets, weight=2)
    for _ in range(2):
        twice.update(part, LOOKBACK, targets)
    got, expected = heavy.look_up(window, LOOKBACK), twice.look_up(window, LOOKBACK)
    assert torch.equal(got.counts, expected.counts)
    assert torch.equal(got.totals, expected.totals)


def test_the_mixer_follows_its_equation() -> None:
    torch.manual_seed(0)
    mixer = NgramMixer(2, 5, initial_count_scores()).double()
    torch.nn.init.normal_(mixer.scores.weight)
    torch.nn.init.normal_(mixer.gate.weight)
    followers = torch.randint(0, 256, (3, 2, MAX_FOLLOWERS)).to(torch.uint8)
    followers[:, :, 1] = (followers[:, :, 0].int() + 1) % 256
    counts = torch.zeros(3, 2, MAX_FOLLOWERS, dtype=torch.int32)
    counts[0, 0, :2], counts[0, 1, :2] = torch.tensor([1, 200]), torch.tensor([7, 1])
    counts[1, 0, 0], counts[1, 1, 0] = 5, 1
    totals = torch.tensor([[2000, 8], [6, 1], [0, 0]], dtype=torch.int32)
    logits, seen = torch.randn(3, 1, 256).double(), torch.randn(3, 1, 5).double()
    got = mixer(logits, NgramStats(followers, counts, totals), seen)
    table = mixer.scores.weight.view(2, 3, len(TOTAL_EDGES) + 1, len(COUNT_EDGES) + 1)
    for position in range(3):
        expected = logits[position, 0].clone()
        found = int((totals[position] > 0).sum())
        for k in range(2):
            gate = 2 / (1 + math.exp(-(mixer.gate.weight[k] @ seen[position, 0] + mixer.gate.bias[k]).item()))
            for slot in range(MAX_FOLLOWERS):
                c, n = int(counts[position, k, slot]), int(totals[position, k])
                if c:
                    cell = sum(n >= edge for edge in TOTAL_EDGES), sum(c >= edge for edge in COUNT_EDGES)
                    expected[int(followers[position, k, slot])] += gate * table[k, found][cell]
        assert_close(got[position, 0], expected, f"position {position}")


def model_with_tables() -> ByteModel:
    torch.manual_seed(0)
    a = Architecture(
        hidden_size=8, embedding_size=4, contexts=(), ngram_orders=(1, 3), ngram_words=(1,), head_size=5
    )
    model = ByteModel(a).eval()
    model.ngrams = count_ngrams(TEXT, a.ngram_kinds, 1000)
    torch.nn.init.normal_(model.ngram_mixer.gate.weight)  # type: ignore[union-attr]
    return model


def test_tables_help_and_are_saved(tmp_path: Path) -> None:
    model = model_with_tables()
    model.ngrams.tables[0].counts[0, 0] = 300  # type: ignore[union-attr]
    save_model(tmp_path / "m", model, {})
    again = load_model(tmp_path / "m").model
    bits = score(model, TEXT).bits_per_byte
    assert score(again, TEXT).bits_per_byte == bits
    model.ngrams = None
    assert score(model, TEXT).bits_per_byte > bits + 1


@pytest.mark.parametrize("spoil", ["shape", "kind", "order", "missing"])
def test_tables_that_do_not_match_raise(tmp_path: Path, spoil: str) -> None:
    model = model_with_tables()
    assert isinstance(model.ngrams, NgramTables)
    table = model.ngrams.tables[1]
    if spoil == "missing":
        model.ngrams.tables.pop()
    else:
        model.ngrams.tables[1] = {
            "shape": table._replace(totals=table.totals[1:]),
            "kind": table._replace(keys=table.keys.int()),
            "order": table._replace(keys=table.keys.flip(0)),
        }[spoil]
    save_model(tmp_path / "m", model, {})
    with pytest.raises(UserError, match="n-gram table"):
        load_model(tmp_path / "m")


def test_an_adapter_updates_its_own_tables_only() -> None:
    model = model_with_tables()
    new = np.frombuffer(b"zebra quartz! " * 20, np.uint8)
    before = score(model, new).bits_per_byte

    def learned(weight: int) -> float:
        adapter = Adapter(model, learning_rate=0.0, decay=0.0, count_weight=weight, chunk_size=10)
        scored = surprisals(adapter.model, new, chunk_size=10, on_chunk=adapter)
        return float(np.concatenate([part.bits for part in scored]).mean())

    assert learned(0) == pytest.approx(before, abs=1e-6)
    assert learned(1) < before - 1
    assert abs(learned(2) - learned(1)) > 1e-3
    assert score(model, new).bits_per_byte == pytest.approx(before, abs=1e-6)

"""NgramTables against their definition, by dictionaries; votes against their equation."""

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

RUNS = (
    NgramKind(1),
    NgramKind(3),
    NgramKind(7),
    NgramKind(0, words=True),
    NgramKind(1, words=True),
    NgramKind(3, words=True),
)
REACH = WORD_LOOKBACK
TEXT = np.frombuffer(
    ("A cat's tale: a Cat, a tale; ä tale. The cat \x00 told 2 tales! " * 9).encode(), np.uint8
)
TEXT = np.concatenate([TEXT, np.random.default_rng(0).choice(np.frombuffer(b"ab C", np.uint8), 700)])


def identity(text: bytes, end: int, run: NgramKind) -> object:
    """What makes two places the same for `run`; nothing but zeros comes before a text."""
    window = (bytes(REACH) + text[: end + 1])[-REACH - 1 :]
    if not run.words:
        return window[-run.n :]
    words = re.split(rb"[^a-z0-9'\x80-\xff]+", re.sub(rb"[A-Z]", lambda found: found[0].lower(), window))
    end_byte = b"" if words[-1] else window[-1:]
    before = [word for word in words[:-1] if word][::-1][: run.n]
    return (words[-1], end_byte, tuple(before))


def dictionary(text: bytes, run: NgramKind, places: list[int]) -> dict[object, Counter[int]]:
    found: dict[object, Counter[int]] = defaultdict(Counter)
    for place in places:
        found[identity(text, place - 1, run)][text[place]] += 1
    return found


def window_of(text: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([np.zeros(REACH, np.uint8), text])).long()[:, None]


def check(evidence: NgramStats, k: int, places: list[Counter[int]]) -> None:
    for at, expected in enumerate(places):
        assert evidence.totals[at, k] == expected.total(), (k, at)
        pairs = zip(evidence.followers[at, k].tolist(), evidence.counts[at, k].tolist(), strict=True)
        got = {follower: times for follower, times in pairs if times}
        assert all(expected[follower] == times for follower, times in got.items()), (k, at)
        assert sorted(got.values()) == sorted(expected.values())[-MAX_FOLLOWERS:], (k, at)


def test_counts_are_what_dictionaries_count() -> None:
    text = TEXT.tobytes()
    evidence = count_ngrams(TEXT, RUNS, 10**6).look_up(window_of(TEXT), REACH)
    for k, run in enumerate(RUNS):
        table = dictionary(text, run, list(range(1, len(text))))
        check(evidence, k, [table[identity(text, end, run)] for end in range(len(text))])


def test_a_fold_sees_what_the_others_gave() -> None:
    text, size = TEXT.tobytes(), len(TEXT)
    folds = torch.arange(1, size + 1) * NUM_FOLDS // size
    counts = count_ngrams(TEXT, RUNS, 10**6)
    evidence = counts.look_up(window_of(TEXT), REACH, folds[:, None])
    for k, run in enumerate(RUNS):
        tables = [
            dictionary(text, run, [p for p in range(1, size) if p * NUM_FOLDS // size != fold])
            for fold in range(NUM_FOLDS + 1)
        ]
        for end in range(size):
            expected = tables[int(folds[end])][identity(text, end, run)]
            assert evidence.totals[end, k] == expected.total()
            pairs = zip(evidence.followers[end, k].tolist(), evidence.counts[end, k].tolist(), strict=True)
            assert all(expected[follower] == times for follower, times in pairs if times)


def test_the_most_frequent_runs_are_kept() -> None:
    table = count_ngrams(TEXT, (NgramKind(3),), 10).tables[0]
    expected = dictionary(TEXT.tobytes(), NgramKind(3), list(range(1, len(TEXT))))
    assert sorted(table.totals.tolist()) == sorted(row.total() for row in expected.values())[-10:]


def test_counting_on_is_counting_both() -> None:
    first, second = TEXT[:500], TEXT[500:800]
    together = TEXT[:800].tobytes()
    counts = count_ngrams(first, RUNS, 10**6)
    window = window_of(TEXT[:800])
    counts.update(window[499 : 499 + REACH + 300], REACH, torch.from_numpy(second.copy()))
    evidence = counts.look_up(window, REACH)
    for k, run in enumerate(RUNS):
        table = dictionary(together, run, list(range(1, 800)))
        check(evidence, k, [table[identity(together, end, run)] for end in range(800)])


def test_votes_are_what_their_equation_says() -> None:
    torch.manual_seed(0)
    votes = NgramMixer(2, 5, initial_count_scores()).double()
    torch.nn.init.normal_(votes.scores.weight)
    torch.nn.init.normal_(votes.gate.weight)
    followers = torch.randint(0, 256, (3, 2, MAX_FOLLOWERS)).to(torch.uint8)
    followers[:, :, 1] = (followers[:, :, 0].int() + 1) % 256
    counts = torch.zeros(3, 2, MAX_FOLLOWERS, dtype=torch.int32)
    counts[0, 0, :2], counts[0, 1, :2] = torch.tensor([1, 200]), torch.tensor([7, 1])
    counts[1, 0, 0], counts[1, 1, 0] = 5, 1
    totals = torch.tensor([[2000, 8], [6, 1], [0, 0]], dtype=torch.int32)
    logits, seen = torch.randn(3, 1, 256).double(), torch.randn(3, 1, 5).double()
    got = votes(logits, NgramStats(followers, counts, totals), seen)
    table = votes.scores.weight.view(2, 3, len(TOTAL_EDGES) + 1, len(COUNT_EDGES) + 1)
    for place in range(3):
        expected = logits[place, 0].clone()
        found = int((totals[place] > 0).sum())
        for k in range(2):
            gate = 2 / (1 + math.exp(-(votes.gate.weight[k] @ seen[place, 0] + votes.gate.bias[k]).item()))
            for slot in range(MAX_FOLLOWERS):
                c, n = int(counts[place, k, slot]), int(totals[place, k])
                if c:
                    cell = sum(n >= edge for edge in TOTAL_EDGES), sum(c >= edge for edge in COUNT_EDGES)
                    expected[int(followers[place, k, slot])] += gate * table[k, found][cell]
        assert_close(got[place, 0], expected, f"place {place}")


def model_with_counts() -> ByteModel:
    torch.manual_seed(0)
    a = Architecture(
        hidden_size=8, embedding_size=4, contexts=(), ngram_orders=(1, 3), ngram_words=(1,), head_size=5
    )
    model = ByteModel(a).eval()
    model.ngrams = count_ngrams(TEXT, a.ngram_kinds, 1000)
    torch.nn.init.normal_(model.ngram_mixer.gate.weight)  # type: ignore[union-attr]
    return model


def test_counts_help_and_survive_the_file(tmp_path: Path) -> None:
    model = model_with_counts()
    model.ngrams.tables[0].counts[0, 0] = 300  # type: ignore[union-attr]
    save_model(tmp_path / "m", model, {})
    again = load_model(tmp_path / "m").model
    bits = score(model, TEXT).bits_per_byte
    assert score(again, TEXT).bits_per_byte == bits
    model.ngrams = None
    assert score(model, TEXT).bits_per_byte > bits + 1


@pytest.mark.parametrize("spoil", ["shape", "kind", "order", "missing"])
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, spoil: str) -> None:
    model = model_with_counts()
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


def test_an_adapter_counts_on_and_the_model_does_not() -> None:
    model = model_with_counts()
    new = np.frombuffer(b"zebra quartz! " * 20, np.uint8)
    before = score(model, new).bits_per_byte

    def learned(weight: int) -> float:
        adapter = Adapter(model, learning_rate=0.0, decay=0.0, count_weight=weight, chunk_size=10)
        scored = surprisals(adapter.model, new, chunk_size=10, on_chunk=adapter)
        return float(np.concatenate([part.bits for part in scored]).mean())

    assert learned(0) == pytest.approx(before, abs=1e-6)
    assert learned(1) < before - 1
    assert score(model, new).bits_per_byte == pytest.approx(before, abs=1e-6)

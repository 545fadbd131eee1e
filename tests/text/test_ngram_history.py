"""The history against a search byte by byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from canton.text.config import Architecture
from canton.text.corpus import ContiguousBatches, Corpus
from canton.text.likelihood import surprisals
from canton.text.model import ByteModel
from canton.text.ngram.history import NgramHistory, PrefetchedHistory
from canton.text.ngram.keys import WORD_LOOKBACK, NgramKind, compute_keys
from canton.text.types import MAX_FOLLOWERS, NgramStats

KINDS = (NgramKind(1), NgramKind(3), NgramKind(0, words=True), NgramKind(1, words=True))
HISTORY = NgramHistory(KINDS, size=40, lookback=WORD_LOOKBACK)


def found_followers(stats: NgramStats, position: int, k: int) -> list[int]:
    """Return the followers of one n-gram, the latest first."""
    total = int(stats.totals[position, k])
    ranks = stats.counts[position, k].tolist()
    assert ranks == [rank if rank <= total else 0 for rank in range(1, MAX_FOLLOWERS + 1)]
    return stats.followers[position, k, :total].tolist()


def searched(window: torch.Tensor, k: int, end: int, history_size: int) -> list[int]:
    """Return the expected followers of the n-gram that ends at `end`, by a search byte by byte."""
    keys = compute_keys(window[:, None].long(), WORD_LOOKBACK, KINDS)[k][:, 0].tolist()
    positions = range(end - 1, max(end - history_size, WORD_LOOKBACK) - 1, -1)
    same = [p for p in positions if keys[p - WORD_LOOKBACK] == keys[end - WORD_LOOKBACK]]
    return [int(window[p + 1]) for p in same][:MAX_FOLLOWERS]


@pytest.mark.parametrize("steps", [1, 7, 60])
def test_the_latest_followers_are_found(steps: int) -> None:
    torch.manual_seed(steps)
    letters = torch.tensor(list(b"aab T'"), dtype=torch.uint8)
    window = letters[torch.randint(len(letters), (WORD_LOOKBACK + 40 + steps, 3))]
    stats = HISTORY.look_up(window)
    assert stats.followers.shape == (steps * 3, len(KINDS), MAX_FOLLOWERS)
    found = 0
    for lane in range(3):
        for t in range(steps):
            for k in range(len(KINDS)):
                expected = searched(window[:, lane], k, WORD_LOOKBACK + 40 + t, 40)
                assert found_followers(stats, t * 3 + lane, k) == expected
                found += len(expected)
    assert found


@pytest.mark.parametrize("block", [7, 40, 1000])
def test_prefetched_history_equals_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("canton.text.ngram.history.PREFETCH_BYTES", block)
    text = np.random.default_rng(0).choice(np.frombuffer(b"abc d", np.uint8), 600)
    (tmp_path / "text").write_bytes(text.tobytes())
    batches = ContiguousBatches(
        Corpus([tmp_path / "text"], train_fraction=0.5), batch_size=3, sequence_length=7
    )
    prefetched = PrefetchedHistory(batches, HISTORY)
    wanted = HISTORY.lookback + HISTORY.size
    for step in [*range(batches.steps_per_epoch), 1, 5]:  # backwards, as in a resumed run
        batch = prefetched(step)
        assert batch.history is not None
        for lane, start in enumerate(batches.positions(step)):
            before = text[max(0, start - wanted) : start]
            here = np.concatenate([np.zeros(wanted - len(before), np.uint8), before, text[start : start + 7]])
            alone = HISTORY.look_up(torch.from_numpy(here)[:, None])
            for t in range(7):
                for k in range(len(KINDS)):
                    assert found_followers(batch.history, t * 3 + lane, k) == found_followers(alone, t, k)


def test_a_stream_does_not_find_its_own_future(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(bytes(range(11, 255)))  # no byte comes twice
    batches = ContiguousBatches(
        Corpus([tmp_path / "text"], train_fraction=0.8), batch_size=1, sequence_length=10
    )
    prefetched = PrefetchedHistory(batches, NgramHistory((NgramKind(1),), size=5000, lookback=0))
    for step in range(4 * batches.steps_per_epoch):
        recent = prefetched(step).history
        assert recent is not None
        assert not recent.totals.any()


def test_chunks_equal_one_run() -> None:
    torch.manual_seed(0)
    model = ByteModel(
        Architecture(hidden_size=8, embedding_size=4, ngram_orders=(), ngram_words=(), history_size=30)
    ).eval()
    text = torch.tensor(list(b"the cat and the dog and the cat and the dog again" * 2))[:, None]
    whole, after = model(text)
    state, chunks = None, []
    for chunk in text.split([1, 1, 30, 5, len(text) - 37]):
        logits, state = model(chunk, state)
        chunks.append(logits)
    torch.testing.assert_close(torch.cat(chunks), whole)
    assert state is not None
    torch.testing.assert_close(state[0], after[0])


def test_one_search_for_many_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("canton.text.likelihood.SEARCHED", 80)
    torch.manual_seed(0)
    model = ByteModel(Architecture(hidden_size=8, embedding_size=4, history_size=60))
    text = np.random.default_rng(0).choice(np.frombuffer(b"abc d", np.uint8), 300)
    with torch.no_grad():
        logits, _ = model.eval()(torch.from_numpy(np.concatenate([[10], text[:-1]])).long()[:, None])
    nats = torch.nn.functional.cross_entropy(logits[:, 0], torch.from_numpy(text).long(), reduction="none")
    for chunk_size in (7, 50, 1024):
        bits = np.concatenate([part.bits for part in surprisals(model, text, chunk_size=chunk_size)])
        assert np.abs(bits - nats.numpy() / np.log(2)).max() < 1e-4


def test_a_repeated_text_costs_less_without_training() -> None:
    torch.manual_seed(0)
    model = ByteModel(Architecture(hidden_size=8, embedding_size=4, ngram_orders=(), ngram_words=()))
    text = np.random.default_rng(0).integers(0, 256, 300).astype(np.uint8)
    (scored,) = surprisals(model, np.concatenate([text, text]))
    assert scored.bits[300:].mean() < scored.bits[:300].mean() - 1

"""Corpora and contiguous batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from canton.errors import UserError
from canton.text.corpus import NUM_FOLDS, ContiguousBatches, Corpus, counted_text


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """1000 bytes in three files; the byte at position p is p modulo 251."""
    whole = (np.arange(1000) % 251).astype(np.uint8)
    files = []
    for k, (start, stop) in enumerate(((0, 7), (7, 600), (600, 1000))):
        files.append(tmp_path / f"part{k}")
        files[-1].write_bytes(whole[start:stop].tobytes())
    return Corpus(files)


def test_files_are_read_as_one(corpus: Corpus) -> None:
    whole = (np.arange(1000) % 251).astype(np.uint8)
    assert len(corpus) == 1000
    assert corpus.split == 900
    for start, stop in ((0, 1000), (5, 9), (599, 601), (3, 900), (600, 1000), (7, 7)):
        assert np.array_equal(corpus.read(start, stop), whole[start:stop])


def test_the_digest_covers_all_bytes(corpus: Corpus) -> None:
    import hashlib

    assert corpus.digest() == hashlib.sha256((np.arange(1000) % 251).astype(np.uint8).tobytes()).hexdigest()


def test_a_sparse_file_of_many_gigabytes_is_read(tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 36)
        file.seek(1 << 35)
        file.write(b"here")
    corpus = Corpus([huge])
    assert corpus.read(1 << 35, (1 << 35) + 4).tobytes() == b"here"
    batch = ContiguousBatches(corpus, batch_size=4, sequence_length=16)(123_456)
    assert tuple(batch.window.shape) == (17, 4)


def test_without_files_it_is_the_documentation_inside_python() -> None:
    corpus = Corpus()
    assert len(corpus) > 300_000
    assert b"assert" in corpus.read(0, len(corpus)).tobytes()


@pytest.mark.parametrize(("batch_size", "sequence_length"), [(1, 10), (4, 16), (7, 127), (9, 99)])
def test_batches_are_contiguous(corpus: Corpus, batch_size: int, sequence_length: int) -> None:
    batches = ContiguousBatches(corpus, batch_size=batch_size, sequence_length=sequence_length, seed=3)
    for step in range(3 * batches.steps_per_epoch):
        here, on = batches(step), batches(step + 1)
        assert tuple(here.window.shape) == (sequence_length + 1, batch_size)
        assert here.state_reset == (step % batches.steps_per_epoch == 0)
        if not on.state_reset:
            assert torch.equal(here.window[-1], on.window[0])


def test_an_epoch_reads_nearly_all_training_bytes_and_no_others(tmp_path: Path) -> None:
    file = tmp_path / "numbered"
    positions = np.arange(1000)
    file.write_bytes((positions // 4).astype(np.uint8).tobytes())  # four positions share a number
    batches = ContiguousBatches(Corpus([file]), batch_size=3, sequence_length=11, seed=5)
    for turn in range(4):
        steps = range(turn * batches.steps_per_epoch, (turn + 1) * batches.steps_per_epoch)
        seen = torch.cat([batches(step).window for step in steps]).unique()
        assert int(seen.max()) <= 899 // 4
        assert len(seen) >= 0.93 * 225


def test_later_epochs_start_at_other_offsets(corpus: Corpus) -> None:
    batches = ContiguousBatches(corpus, batch_size=4, sequence_length=16, seed=3)
    starts = {int(batches(turn * batches.steps_per_epoch).window[0, 0]) for turn in range(6)}
    assert len(starts) > 3
    others = [ContiguousBatches(corpus, batch_size=4, sequence_length=16, seed=seed) for seed in (0, 1, 3)]
    assert torch.equal(batches(0).window, others[0](0).window)
    shifts = [other.positions(other.steps_per_epoch)[0] for other in others]
    assert len(set(shifts)) == 3
    assert shifts[2] == batches.positions(batches.steps_per_epoch)[0]


@pytest.mark.parametrize("limit", [1 << 23, 800])  # all 900 bytes are counted, or 16 blocks of 50
def test_folds_of_the_targets(corpus: Corpus, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """A byte's fold is its eighth of the counted text; what is not counted has no fold."""
    monkeypatch.setattr("canton.text.corpus.MAX_COUNTED", limit)
    monkeypatch.setattr("canton.text.corpus.COUNTED_BLOCKS", 16)
    fold_of = np.arange(900) * 8 // 900
    counted = np.arange(900)
    if limit == 800:
        begins = [-(-k * 900 // 16) for k in range(16)]
        counted = np.concatenate([np.arange(begin, begin + 50) for begin in begins])
        fold_of = np.full(900, NUM_FOLDS)
        fold_of[counted] = np.arange(800) * 8 // 800
    assert np.array_equal(counted_text(corpus), corpus.read(0, 900)[counted])
    batches = ContiguousBatches(corpus, batch_size=4, sequence_length=16, seed=3)
    for step in range(2 * batches.steps_per_epoch):  # the second epoch wraps around at the end
        starts = np.array(batches.positions(step))
        targets = (starts + np.arange(1, 17)[:, None]) % 900
        assert torch.equal(batches(step).folds.clamp(max=NUM_FOLDS), torch.from_numpy(fold_of[targets]))


def test_every_shift_is_as_likely_as_another(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(bytes(range(11)))  # nine to train on
    batches = ContiguousBatches(Corpus([tmp_path / "short"]), batch_size=2, sequence_length=3)
    starts = [batches.positions(epoch * batches.steps_per_epoch) for epoch in range(1, 901)]
    assert all((second - first) % 9 == 4 for first, second in starts)
    counts = np.bincount([first for first, _ in starts])
    assert len(counts) == 9
    assert counts.min() > 70  # 100 of each; three standard deviations are 28
    assert counts.max() < 130


def test_processes_split_the_batch(corpus: Corpus) -> None:
    alone = ContiguousBatches(corpus, batch_size=6, sequence_length=16, seed=3)
    shares = [
        ContiguousBatches(corpus, batch_size=6, sequence_length=16, seed=3, rank=rank, world_size=3)
        for rank in range(3)
    ]
    for step in (0, 5, 30, 31):
        assert torch.equal(torch.cat([share(step).window for share in shares], dim=1), alone(step).window)


def test_invalid_files_and_sizes_raise(tmp_path: Path, corpus: Corpus) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for files, complaint in (
        ([empty], "empty"),
        ([tmp_path / "none"], "no such file"),
    ):
        with pytest.raises(UserError, match=complaint):
            Corpus(files)
    ten, eleven = tmp_path / "ten", tmp_path / "eleven"
    ten.write_bytes(b"0123456789")
    eleven.write_bytes(b"0123456789a")
    with pytest.raises(UserError, match="train_fraction"):  # a held-out part needs a byte and its target
        Corpus([ten])
    assert Corpus([eleven]).split == 9
    one = tmp_path / "one"
    one.write_bytes(b"x")
    with pytest.raises(UserError, match="train_fraction"):
        Corpus([one])
    with pytest.raises(UserError, match="sequence_length"):
        ContiguousBatches(corpus, batch_size=9, sequence_length=100)
    with pytest.raises(UserError, match="batch_size"):
        ContiguousBatches(corpus, batch_size=3, sequence_length=4, world_size=2)
    with pytest.raises(UserError, match="sequence_length"):
        ContiguousBatches(corpus, batch_size=3, sequence_length=0)

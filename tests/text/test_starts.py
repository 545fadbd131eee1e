"""Starts of texts within a sequence: nothing before them has an effect."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from canton.text.config import Architecture
from canton.text.corpus import ContiguousBatches, Corpus
from canton.text.held_out import score_held_out
from canton.text.model import ByteModel
from canton.text.ngram.history import PrefetchedHistory
from canton.text.ngram.table import count_ngrams
from canton.text.saturation import saturated_starts
from canton.text.types import START_BYTE
from tolerances import assert_close

TEXT = ("It's said, Hello wörld 42; Hello there. \n\nThe next one is said again. \n" * 12).encode()


def model_of(cell: str) -> ByteModel:
    architecture = Architecture(
        cell=cell,  # type: ignore[arg-type]
        hidden_size=12,
        num_layers=2,
        embedding_size=6,
        contexts=((2, 64), (4, 128)),
        history_size=100,
    )
    model = ByteModel(architecture).eval()
    for table in model.contexts:
        torch.nn.init.normal_(table.get_parameter("weight"))
    model.ngrams = count_ngrams(np.frombuffer(TEXT, np.uint8), architecture.ngram_kinds, 300)
    return model


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_start_equals_a_new_text(cell: str) -> None:
    model, text = model_of(cell), torch.tensor(list(TEXT[:240])).view(3, 80).T
    starts = torch.zeros(80, 3, dtype=torch.bool)
    starts[[30, 31], 0] = True
    starts[50, 2] = True
    whole, after = model(text, starts=starts)
    for row, first in ((0, 31), (1, 0), (2, 50)):
        alone = text[first:, row : row + 1].clone()
        if first:
            alone[0] = START_BYTE
        expected, state = model(alone)
        assert_close(whole[first:, row : row + 1], expected, f"row {row}")
        for a, b in zip(after, state, strict=True):
            assert_close(a[:, row : row + 1].float(), b.float(), "state")
    assert_close(whole[:30], model(text[:30])[0], "before the starts")


def test_batches_with_restarts_equal_a_model_that_searches_its_state(tmp_path: Path) -> None:
    """The prefetched history ends at restarts, as the state's does."""
    (tmp_path / "text").write_bytes(TEXT)
    corpus = Corpus([tmp_path / "text"], train_fraction=0.9)
    model = model_of("gru")
    assert model.history is not None
    batches = ContiguousBatches(corpus, batch_size=2, sequence_length=8, restart_bytes=70, seed=1)
    prefetched = PrefetchedHistory(batches, model.history)
    state, started, compared = None, torch.zeros(2, dtype=torch.bool), 0
    for step in range(batches.steps_per_epoch):
        batch = prefetched(step)
        text = batch.window[:-1]
        given, _ = model(text, state, batch.folds, batch.history, batch.starts)
        own, state = model(text, state, batch.folds, starts=batch.starts)
        if batch.starts is not None:
            where = batch.starts & (batch.window[:-1] == START_BYTE)
            assert torch.equal(where, batch.starts), "this text has a line everywhere to start at"
        if started.any():
            assert_close(given[:, started], own[:, started], f"step {step}")
            compared += int(started.sum())
        if batch.starts is not None:
            started |= batch.starts.any(0)
    assert started.all()
    assert compared > 40


def test_restarts_are_at_the_given_distance_and_repeat(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(bytes(range(11, 250)) * 200)  # no newline
    corpus = Corpus([tmp_path / "text"])

    def restarts(**where: int) -> np.ndarray:
        batches = ContiguousBatches(corpus, batch_size=4, sequence_length=10, restart_bytes=100, **where)
        found = [batches.starts(step, 0, 10) for step in range(batches.steps_per_epoch)]
        return np.concatenate([each for each in found if each is not None])

    whole = restarts()
    assert np.abs(whole.mean(0) * 100 - 1).max() < 0.05
    halves = [restarts(rank=rank, world_size=2) for rank in range(2)]
    assert np.array_equal(np.concatenate(halves, axis=1), whole)
    assert not np.array_equal(restarts(seed=1), whole)


def test_saturated_starts_are_counted(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(TEXT)
    corpus, model = Corpus([tmp_path / "text"]), model_of("gru")
    assert saturated_starts(model, corpus, length=20) == 0
    with torch.no_grad():
        for parameter in model.layers[1].parameters():
            parameter.mul_(1000)
    assert saturated_starts(model, corpus, length=20) > 0.9


@torch.no_grad()
def test_the_held_out_score_is_that_of_one_run(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(TEXT)
    corpus, model = Corpus([tmp_path / "text"], train_fraction=0.5), model_of("gru")
    text = torch.tensor(list(TEXT))[:, None]
    found = score_held_out(model, corpus)
    bits = cross_entropy(model(text[:-1])[0][:, 0], text[1:, 0], reduction="none") / math.log(2)
    assert found.warm == pytest.approx(float(bits[corpus.split - 1 :].mean()), abs=1e-4)
    cold = torch.cat([torch.tensor([[START_BYTE]]), text[corpus.split :]])
    bits = cross_entropy(model(cold[:-1])[0][:, 0], cold[1:, 0], reduction="none") / math.log(2)
    assert found.cold == pytest.approx(float(bits.mean()), abs=1e-4)
    assert found.bytes == len(TEXT) - corpus.split < 1024

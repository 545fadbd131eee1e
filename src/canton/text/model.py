"""The byte model: bytes -> embedding -> recurrent layers -> 256 logits, with n-gram statistics added."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from canton.cells.gru import GRU
from canton.cells.lstm import LSTM
from canton.cells.mgu import MGU
from canton.cells.rnn import RNN
from canton.core.recurrent import Recurrent
from canton.text.config import Architecture
from canton.text.ngram.history import NgramHistory
from canton.text.ngram.keys import NO_START, ages, hash_rows
from canton.text.ngram.mixer import NgramMixer, initial_count_scores, initial_rank_scores
from canton.text.ngram.table import NgramTables
from canton.text.types import START_BYTE, NgramStats

State = tuple[Tensor, ...]
"""The state of a byte model: the past bytes (P, B) it depends on, then each layer's state (1, B, H)."""

CELLS: dict[str, Callable[[int, int, bool], Recurrent]] = {
    "gru": lambda input_size, hidden_size, bias: GRU(input_size, hidden_size, bias=bias),
    "lstm": lambda input_size, hidden_size, bias: LSTM(input_size, hidden_size, bias=bias),
    "mgu": lambda input_size, hidden_size, bias: MGU(input_size, hidden_size, bias=bias),
    "rnn": lambda input_size, hidden_size, bias: RNN(input_size, hidden_size, bias=bias),
}


class ByteModel(nn.Module):
    """A model of the next byte. The caller carries the state; the module keeps none.

    Shapes: bytes (T, B) of any integer type; logits (T, B, 256); state: see `State`.

    Attributes:
        ngrams: tables of the training text; None before they are counted; they then have no effect.
        lookback: bytes before the current one that the embedding and the n-gram keys depend on.
        past_size: bytes that the state carries: `lookback` and the history.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.embedding = nn.Embedding(256, a.embedding_size) if a.embedding_size else None
        self.contexts = nn.ModuleList(nn.Embedding(rows, a.embedding_size) for _, rows in a.contexts)
        for table in self.contexts:
            nn.init.zeros_(table.weight)  # type: ignore[arg-type]
        self.norm = nn.LayerNorm(a.embedding_size) if a.skip else None
        above = a.hidden_size + (a.embedding_size if a.skip else 0)
        self.layers = nn.ModuleList(
            CELLS[a.cell](above if k else a.embedding_size or 256, a.hidden_size, a.bias)
            for k in range(a.num_layers)
        )
        features = a.num_layers * a.hidden_size + a.embedding_size if a.skip else a.hidden_size
        self.head = nn.Linear(features, a.head_size) if a.head_size else None
        self.logits = nn.Linear(a.head_size or features, 256)
        nn.init.zeros_(self.logits.bias)
        self.dropout = nn.Dropout(a.dropout)
        tables, searched = a.ngram_kinds, a.history_kinds
        kinds = tables + searched
        self.lookback = max([n - 1 for n, _ in a.contexts] + [kind.lookback for kind in kinds], default=0)
        self.past_size = self.lookback + (a.history_size if searched else 0)
        self.ngrams: NgramTables | None = None
        self.ngram_mixer = NgramMixer(len(tables), features, initial_count_scores()) if tables else None
        self.history = NgramHistory(searched, a.history_size, self.lookback) if searched else None
        self.history_mixer = NgramMixer(len(searched), features, initial_rank_scores()) if searched else None

    def initial_state(self, batch_size: int) -> State:
        """Return the state before the first byte."""
        weight, a = self.logits.weight, self.architecture
        past = torch.zeros(self.past_size, batch_size, dtype=torch.uint8, device=weight.device)
        states = a.num_layers * (2 if a.cell == "lstm" else 1)
        return (past, *([weight.new_zeros(1, batch_size, a.hidden_size)] * states))

    def forward(
        self,
        text: Tensor,
        state: State | None = None,
        folds: Tensor | None = None,
        history: NgramStats | None = None,
        starts: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Return the logits of the byte after each of `text` (T, B), and the state after the last.

        Args:
            text: bytes (T, B).
            state: the state before them; None: the initial state.
            folds: needed on the counted text, see `NgramTables.look_up`.
            history: statistics of the history. None: search the state.
            starts: booleans (T, B). Where true, `START_BYTE` replaces the byte and a new text starts: nothing
                before it has an effect.
        """
        past, *hidden = self.initial_state(text.shape[1]) if state is None else state
        text = text.to(past.dtype)
        age = None
        if starts is not None:
            text, age = text.masked_fill(starts, START_BYTE), ages(starts)
        window = torch.cat([past, text])
        near = window[self.past_size - self.lookback :].long()
        features, after = self._features(near, hidden, age, starts)
        logits = self.logits(features if self.head is None else nn.functional.elu(self.head(features)))
        if self.ngram_mixer is not None and self.ngrams is not None:
            logits = self.ngram_mixer(logits, self.ngrams.look_up(near, self.lookback, folds, age), features)
        if self.history_mixer is not None and self.history is not None:
            stats = self._search(window, age) if history is None else history
            logits = self.history_mixer(logits, stats, features)
        past = window[len(text) :]
        if age is not None:  # empty what is before each row's latest start
            distance = torch.arange(self.past_size - 1, -1, -1, device=text.device)[:, None]
            past = past.masked_fill(distance > age[-1], 0)
        return logits, (past, *after)

    def final_states(self, text: Tensor) -> list[Tensor]:
        """Return each layer's hidden state (1, B, hidden_size) after bytes (T, B) from the initial state."""
        past, *hidden = self.initial_state(text.shape[1])
        near = torch.cat([past[self.past_size - self.lookback :], text]).long()
        after = self._features(near, hidden, None, None)[1]
        return after[:: len(after) // len(self.layers)]

    def _features(
        self, near: Tensor, hidden: list[Tensor], age: Tensor | None, starts: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return what the output layer reads, (T, B, features), and the layers' states after the text.

        near: int64 (lookback + T, B).
        """
        skip = self.architecture.skip
        embedded, x = self._embed(near, age), None
        size = len(hidden) // len(self.layers)  # tensors of a layer's state
        after: list[Tensor] = []
        outputs: list[Tensor] = []
        for k, layer in enumerate(self.layers):
            before = tuple(hidden[k * size : (k + 1) * size])
            xs = embedded if x is None else torch.cat([x, embedded], -1) if skip else x
            ys, final = layer(xs, before[0] if size == 1 else before, reset=starts)
            after += [final] if size == 1 else list(final)
            x = self.dropout(ys)
            outputs.append(x)
        return torch.cat([*outputs, embedded], -1) if skip else outputs[-1], after

    def _search(self, window: Tensor, age: Tensor | None) -> NgramStats:
        assert self.history is not None
        if age is not None:
            age = torch.cat([age.new_full((self.history.size, age.shape[1]), NO_START), age])
        return self.history.look_up(window, age)

    def _embed(self, window: Tensor, age: Tensor | None = None) -> Tensor:
        """Return (T, B, embedding_size) for bytes (lookback + T, B), or the T bytes without an embedding."""
        text = window[self.lookback :]
        if self.embedding is None:
            return text
        xs = self.embedding(text)
        for (n, rows), table in zip(self.architecture.contexts, self.contexts, strict=True):
            xs = xs + table(hash_rows(window[self.lookback - n + 1 :], n, rows, age))
        if self.norm is not None:
            xs = self.norm(xs)
        embedded: Tensor = self.dropout(xs)
        return embedded

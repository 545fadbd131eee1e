"""The byte model: bytes -> embedding -> gated layers with normalisation and skips -> head -> 256 logits."""

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
from canton.text.ngram.history import Recall
from canton.text.ngram.keys import hash_rows
from canton.text.ngram.mixer import Votes, counted, latest
from canton.text.ngram.table import Counts
from canton.text.types import Evidence

State = tuple[Tensor, ...]
"""What a byte model carries: the bytes it still looks back at (n, B), then each layer's state (1, B, H)."""

CELLS: dict[str, Callable[[int, int, bool], Recurrent]] = {
    "gru": lambda c_in, hidden, bias: GRU(c_in, hidden, bias=bias),
    "lstm": lambda c_in, hidden, bias: LSTM(c_in, hidden, bias=bias),
    "mgu": lambda c_in, hidden, bias: MGU(c_in, hidden, bias=bias),
    "rnn": lambda c_in, hidden, bias: RNN(c_in, hidden, bias=bias),
}


class ByteModel(nn.Module):
    """Guesses the next byte. State goes in and comes out; nothing is kept in the module.

    counts: what the training part said, see `canton.text.ngram.table`; None before it was counted, and the
    network then guesses alone.

    Shapes: bytes (T, B) whole numbers of any integer type; logits (T, B, 256); state: see `State`.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        width = a.embedding or 256
        self.embedding = nn.Embedding(256, a.embedding) if a.embedding else None
        self.contexts = nn.ModuleList(nn.Embedding(rows, a.embedding) for _, rows in a.contexts)
        for table in self.contexts:
            nn.init.zeros_(table.weight)  # type: ignore[arg-type]
        self.norm = nn.LayerNorm(a.embedding) if a.skip else None
        below = a.hidden + (a.embedding if a.skip else 0)
        self.layers = nn.ModuleList(
            CELLS[a.cell](below if k else width, a.hidden, a.bias) for k in range(a.layers)
        )
        seen = a.layers * a.hidden + a.embedding if a.skip else a.hidden
        self.narrow = nn.Linear(seen, a.head) if a.head else None
        self.logits = nn.Linear(a.head or seen, 256)
        nn.init.zeros_(self.logits.bias)
        self.dropout = nn.Dropout(a.dropout)
        self.counts: Counts | None = None
        self.votes = Votes(len(a.runs), seen, counted()) if a.runs else None
        runs = a.runs + a.recent_runs
        self.reach = max([n - 1 for n, _ in a.contexts] + [run.reach for run in runs], default=0)
        self.recall = Recall(a.recent_runs, a.memory, self.reach) if a.recent_runs else None
        self.reminders = Votes(len(a.recent_runs), seen, latest()) if a.recent_runs else None
        self.carried = self.reach + (a.memory if a.recent_runs else 0)

    def start(self, batch: int) -> State:
        """The state before any byte was read."""
        like = self.logits.weight
        past = torch.zeros(self.carried, batch, dtype=torch.uint8, device=like.device)
        kept = 2 if self.architecture.cell == "lstm" else 1
        hidden = like.new_zeros(1, batch, self.architecture.hidden)
        return (past, *([hidden] * kept * self.architecture.layers))

    def forward(
        self,
        read: Tensor,
        state: State | None = None,
        folds: Tensor | None = None,
        recent: Evidence | None = None,
    ) -> tuple[Tensor, State]:
        """Logits for the byte after each of `read` (T, B), and the state after the last.

        folds: for reading the text that was counted, see `Counts.look_up`. recent: what followed earlier, if
        it is known; else it is looked up in the state.
        """
        past, *hidden = self.start(read.shape[1]) if state is None else state
        window = torch.cat([past, read.to(past.dtype)])
        near = window[self.carried - self.reach :].long()
        xs, x = self._embed(near), None
        kept = len(hidden) // len(self.layers)
        after: list[Tensor] = []
        heard: list[Tensor] = []
        for k, layer in enumerate(self.layers):
            given = tuple(hidden[k * kept : (k + 1) * kept])
            below = xs if x is None else torch.cat([x, xs], -1) if self.architecture.skip else x
            ys, final = layer(below, given[0] if kept == 1 else given)
            after += [final] if kept == 1 else list(final)
            x = self.dropout(ys)
            heard.append(x)
        seen = torch.cat([*heard, xs], -1) if self.architecture.skip else heard[-1]
        logits = self.logits(seen if self.narrow is None else nn.functional.elu(self.narrow(seen)))
        if self.votes is not None and self.counts is not None:
            logits = self.votes(logits, self.counts.look_up(near, self.reach, folds), seen)
        if self.reminders is not None and self.recall is not None:
            logits = self.reminders(logits, self.recall.look_up(window) if recent is None else recent, seen)
        return logits, (window[len(read) :], *after)

    def _embed(self, window: Tensor) -> Tensor:
        """(reach + T, B) bytes to (T, B, embedding), or to the T bytes themselves if there is no
        embedding.
        """
        read = window[self.reach :]
        if self.embedding is None:
            return read
        xs = self.embedding(read)
        for (n, rows), table in zip(self.architecture.contexts, self.contexts, strict=True):
            xs = xs + table(hash_rows(window[self.reach - n + 1 :], n, rows))
        if self.norm is not None:
            xs = self.norm(xs)
        out: Tensor = self.dropout(xs)
        return out

"""The byte model: bytes -> embedding -> gated layers with normalisation and skips -> head -> 256 logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from canton.cells.gru import GRU
from canton.cells.lstm import LSTM
from canton.cells.mgu import MGU
from canton.cells.rnn import RNN
from canton.core.recurrent import Recurrent
from canton.errors import UserError
from canton.text.ngram.history import Recall
from canton.text.ngram.keys import LONGEST, Run, hash_rows
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


@dataclass(frozen=True)
class Architecture:
    """What a byte model is built from; stored in its file.

    Args:
        cell: "gru" (reset before the map, the article's), "lstm", "mgu" or "rnn".
        hidden: channels of each layer's state.
        layers: how many, one on top of the other.
        embedding: channels each byte becomes; 0 gives the bytes to the first layer as they are (one of 256).
        contexts: pairs (n, rows): besides each byte, the n bytes that end there have a row of their own in a
        table of
            so many, found by hashing, and added to the embedding (Joulin et al. 2016, arXiv:1607.01759, do so
            for words). Needs an embedding.
        counts: for each n, it is counted in the training part which bytes followed the last n bytes; a place
            in a text is told what was counted for it (`canton.text.ngram.table`, `canton.text.ngram.mixer`).
        words: for each n, the same for the word under way with the n words before it.
        rows: no more than so many runs of each kind are kept, the most frequent.
        recent: for each n, the last n bytes are looked for in what was read just before, and what followed
        there is
            told as well (`canton.text.ngram.history`).
        recent_words: for each n, the same for the word under way with the n words before it.
        memory: in how many of the last bytes they are looked for; the state carries these.
        head: width of a hidden layer (elu) before the logits, 0 for none.
        skip: layers above the first also see the embedding, and the head sees all layers and the embedding;
        the
            embedding is normalised (LayerNorm).
        bias: the cells' maps have one.
        dropout: probability, in training, of dropping a channel of the embedding or of a layer's output.
    """

    cell: str = "gru"
    hidden: int = 256
    layers: int = 1
    embedding: int = 128
    contexts: tuple[tuple[int, int], ...] = ((2, 4096),)
    counts: tuple[int, ...] = (2, 3, 4, 5, 6)
    words: tuple[int, ...] = (0, 1, 2)
    rows: int = 1 << 18
    recent: tuple[int, ...] = (2, 3, 4, 6)
    recent_words: tuple[int, ...] = (0, 1)
    memory: int = 1 << 14
    head: int = 0
    skip: bool = True
    bias: bool = True
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise UserError(f"cell is {self.cell!r}: it is one of {', '.join(CELLS)}")
        for name, least in (("hidden", 1), ("layers", 1), ("embedding", 0), ("head", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}: it is a whole number of at least {least}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout is {self.dropout}: a probability lies in [0, 1)")
        for name, low, high in (
            ("counts", 1, LONGEST),
            ("words", 0, 3),
            ("recent", 1, LONGEST),
            ("recent_words", 0, 3),
        ):
            value = getattr(self, name)
            if any(not low <= n <= high for n in value) or len(set(value)) < len(value):
                raise UserError(f"{name} is {value}: different numbers from {low} to {high}")
        for name in ("rows", "memory"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it is a whole number of at least 1")
        if any(n < 2 or rows < 1 for n, rows in self.contexts):
            raise UserError(f"contexts is {self.contexts}: pairs of at least (2 bytes, 1 row)")
        if not self.embedding and (self.contexts or self.skip):
            raise UserError("embedding is 0: contexts and skip need one")

    @property
    def runs(self) -> tuple[Run, ...]:
        """What is counted."""
        return (*(Run(n) for n in self.counts), *(Run(n, words=True) for n in self.words))

    @property
    def recent_runs(self) -> tuple[Run, ...]:
        """What is looked for in what was just read."""
        return (*(Run(n) for n in self.recent), *(Run(n, words=True) for n in self.recent_words))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, table: Any) -> Architecture:
        """The architecture of a file's header.

        Raises: UserError if it is not one this version of Canton knows.
        """
        known = {field.name: field.type for field in fields(cls)}
        if not isinstance(table, dict) or set(table) != set(known):
            raise UserError("its architecture is not one that this version of Canton knows")
        kinds: dict[str, tuple[type, ...]] = {
            "str": (str,),
            "int": (int,),
            "bool": (bool,),
            "float": (int, float),
        }
        for name, kind in known.items():
            if str(kind) in kinds and not isinstance(table[name], kinds[str(kind)]):
                raise UserError(f"its architecture says {name} is {table[name]!r}, which cannot be")
        try:
            contexts = tuple((int(n), int(rows)) for n, rows in table["contexts"])
            runs = {
                name: tuple(int(n) for n in table[name])
                for name in ("counts", "words", "recent", "recent_words")
            }
        except (TypeError, ValueError) as error:
            raise UserError(f"its architecture says {table!r}, which cannot be") from error
        return cls(**{**table, **runs, "contexts": contexts})


ARTICLE = Architecture(
    hidden=256,
    layers=1,
    embedding=0,
    contexts=(),
    counts=(),
    words=(),
    recent=(),
    recent_words=(),
    head=64,
    skip=False,
    bias=False,
    dropout=0.0,
)
"""The 2017 article's model: GRU of 256 without bias on the bytes as they are, dense 64, elu, dense 256."""


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

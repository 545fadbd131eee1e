"""The settings of a byte model, of its training and of sampling."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, replace
from typing import Any, Literal

from canton.errors import UserError
from canton.text.ngram.keys import MAX_BYTES, MAX_WORDS, NgramKind
from canton.training.settings import check_settings, documented, from_json, setting, to_json


@documented
@dataclass(frozen=True)
class Architecture:
    """The architecture of a byte model; its file stores it.

    Raises:
        UserError: a field is out of range.
    """

    cell: Literal["gru", "lstm", "mgu", "rnn"] = setting(
        "gru", "Recurrent cell. The GRU resets before the map, as in the article."
    )
    hidden_size: int = setting(256, "Channels of each recurrent layer's state.", ge=1, le=1 << 16)
    num_layers: int = setting(1, "Number of recurrent layers.", ge=1, le=64)
    embedding_size: int = setting(
        128, "Channels of a byte's embedding. 0: the first layer reads one-hot bytes.", ge=0, le=1 << 16
    )
    contexts: tuple[tuple[int, int], ...] = setting(
        ((2, 4096),),
        "Pairs (n, rows): the last n bytes select a row of a hashed embedding table of `rows` rows, "
        "which is added to the byte's embedding (Joulin et al. 2016, arXiv:1607.01759).",
        option=False,
    )
    ngram_orders: tuple[int, ...] = setting(
        (2, 3, 4, 5, 6), "For each n, a table counts which bytes follow each n bytes.", option=False
    )
    ngram_words: tuple[int, ...] = setting(
        (0, 1, 2),
        "For each n, a table counts which bytes follow the current word and the n before.",
        option=False,
    )
    ngram_rows: int = setting(
        1 << 18, "Rows of each n-gram table. The most frequent n-grams are kept.", ge=1, le=1 << 30
    )
    history_orders: tuple[int, ...] = setting(
        (2, 3, 4, 6), "For each n, the history is searched for the last n bytes.", option=False
    )
    history_words: tuple[int, ...] = setting(
        (0, 1), "For each n, the history is searched for the current word and the n before.", option=False
    )
    history_size: int = setting(1 << 14, "Bytes of history, stored in the model's state.", ge=1, le=1 << 20)
    head_size: int = setting(
        0, "Channels of a hidden layer (ELU) before the logits. 0: none.", ge=0, le=1 << 16
    )
    skip: bool = setting(
        True, "Normalise the embedding (LayerNorm) and feed it to every layer and to the output."
    )
    bias: bool = setting(True, "Give the cells' maps a bias.")
    dropout: float = setting(
        0.2, "Probability of dropping a channel of the embedding or of a layer's output.", ge=0, lt=1
    )

    def __post_init__(self) -> None:
        check_settings(self)
        for name, low, high in (
            ("ngram_orders", 1, MAX_BYTES),
            ("ngram_words", 0, MAX_WORDS),
            ("history_orders", 1, MAX_BYTES),
            ("history_words", 0, MAX_WORDS),
        ):
            value = getattr(self, name)
            if any(not low <= n <= high for n in value) or len(set(value)) < len(value):
                raise UserError(f"{name} must be different integers from {low} to {high}, got {value}")
        if len(self.contexts) > 16 or any(
            not (2 <= n <= 64 and 1 <= rows <= 1 << 30) for n, rows in self.contexts
        ):
            raise UserError(
                f"contexts must be up to 16 pairs (n from 2 to 64, rows from 1 to 2**30), "
                f"got {reprlib.repr(self.contexts)}"
            )
        if not self.embedding_size and (self.contexts or self.skip):
            raise UserError("embedding_size must be >= 1 with contexts or skip, got 0")

    @property
    def ngram_kinds(self) -> tuple[NgramKind, ...]:
        """The kinds of n-gram that have a table."""
        return _kinds(self.ngram_orders, self.ngram_words)

    @property
    def history_kinds(self) -> tuple[NgramKind, ...]:
        """The kinds of n-gram that the history is searched for."""
        return _kinds(self.history_orders, self.history_words)

    def without_ngrams(self) -> Architecture:
        """Return this architecture without n-gram tables."""
        return replace(self, ngram_orders=(), ngram_words=())

    def without_history(self) -> Architecture:
        """Return this architecture without the history."""
        return replace(self, history_orders=(), history_words=())

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return to_json(self)

    @classmethod
    def from_json(cls, table: Any) -> Architecture:
        """Return the architecture of a file's header.

        Raises:
            UserError: its fields are not those of this version of Canton, or are out of range.
        """
        return from_json(cls, table)


@documented
@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training run; the model file stores them.

    Raises:
        UserError: a field is out of range.
    """

    model: Architecture = Architecture()
    minutes: float | None = setting(
        None, "Training time in minutes.", gt=0, default_help="2, if there is no --steps"
    )
    cpu_minutes: float | None = setting(
        None,
        "Training time in processor minutes, in place of a time. Those of all threads count.",
        gt=0,
        default_help="none",
    )
    steps: int | None = setting(
        None, "Training steps, in place of a time.", ge=1, default_help="no limit but the time"
    )
    batch_size: int = setting(32, "Streams of text read in parallel, over all processes.", ge=1, le=1 << 20)
    sequence_length: int = setting(32, "Bytes of each stream per step.", ge=1, le=1 << 20)
    restart_bytes: int = setting(
        0,
        "Mean bytes of each stream between restarts, which empty state and history as at the start of a "
        "text; 0: never.",
        ge=0,
    )
    accumulate: int = setting(
        1, "Batches, read one after the other, whose mean gradient makes one step.", ge=1, le=1 << 20
    )
    learning_rate: float = setting(5e-3, "Peak learning rate.", gt=0)
    weight_decay: float = setting(0.01, "Weight decay of AdamW.", ge=0, le=1)
    warmup: float = setting(0.03, "Fraction of the run in which the learning rate rises.", ge=0, le=1)
    grad_clip: float = setting(0.25, "Gradient clipping norm.", gt=0)
    ema_decay: float = setting(
        0.99, "Decay per step of the weights' moving average, which is evaluated and saved.", ge=0, lt=1
    )
    glob: str = setting("*", "Pattern of the file names to read in a folder.")
    field: str = setting("text", "Name of the text in a row of JSON Lines or Parquet.")
    train_fraction: float = setting(
        0.9, "Fraction of the bytes to train on. The rest is held out for scoring.", gt=0, lt=1
    )
    seed: int = setting(0, "Random seed.", ge=0, le=2**63 - 1)
    eval_count: int = setting(
        8, "Evaluations during the run: a sample and a held-out score each.", ge=0, resumable=True
    )
    device: str = setting("cpu", "Device: cpu, cuda, mps or auto.", resumable=True)
    processes: int = setting(1, "Number of processes, each with its own device.", ge=1, resumable=True)
    precision: str = setting(
        "32-true", "Precision: 32-true, bf16-mixed, 16-mixed or 64-true.", resumable=True
    )
    save_seconds: float = setting(60.0, "Seconds between saves.", ge=0, resumable=True)

    def __post_init__(self) -> None:
        check_settings(self)
        budgets = {"steps": self.steps, "cpu_minutes": self.cpu_minutes, "minutes": self.minutes}
        first, *rest = [name for name, value in budgets.items() if value is not None] or [""]
        if rest:
            raise UserError(f"{rest[0]} must be omitted if {first} is given, got {budgets[rest[0]]}")
        if self.batch_size % self.processes:
            raise UserError(
                f"batch_size must be a multiple of processes ({self.processes}), got {self.batch_size}"
            )

    @property
    def budget_minutes(self) -> float | None:
        """Minutes, or processor minutes, to train: 2 if there is no budget; None if it is `steps`."""
        minutes = self.minutes if self.cpu_minutes is None else self.cpu_minutes
        return 2.0 if minutes is None and self.steps is None else minutes

    def to_header(self) -> dict[str, Any]:
        """Return the entries of a model file's header: `architecture` and `training`."""
        training = to_json(self)
        return {"architecture": training.pop("model"), "training": training}

    @classmethod
    def from_header(cls, header: dict[str, Any]) -> TrainConfig:
        """Return the config that `to_header` wrote.

        Raises:
            UserError: the fields are not those of this version of Canton, or are out of range.
        """
        training = header.get("training")
        table = training | {"model": header.get("architecture")} if isinstance(training, dict) else None
        return from_json(cls, table)


@documented
@dataclass(frozen=True)
class Sampling:
    """How a byte is sampled from the logits.

    The settings apply in this order: logit bias, repetition penalty, temperature, top-k, top-p, min-p. It is
    the order of Hugging Face transformers; temperature 0 ignores the last three.

    Raises:
        UserError: a field is out of range.

    Source: repetition penalty, Keskar et al. 2019, arXiv:1909.05858, section 4.1, where negative logits are
    multiplied as in transformers and llama.cpp; top-p, Holtzman et al. 2019, arXiv:1904.09751; min-p, Nguyen
    et al. 2024, arXiv:2407.01082.
    """

    temperature: float = setting(1.0, "Divisor of the logits; 0: always take the likeliest byte.", ge=0)
    top_k: int = setting(0, "Sample from the k likeliest bytes; 0: from all.", ge=0, le=256)
    top_p: float = setting(
        1.0, "Sample from the fewest likeliest bytes with this total probability.", gt=0, le=1
    )
    min_p: float = setting(
        0.0,
        "Sample from the bytes with at least this fraction of the likeliest byte's probability.",
        ge=0,
        le=1,
    )
    repetition_penalty: float = setting(
        1.0,
        "Divide the positive logits of the bytes in the repetition window by this, and multiply the negative "
        "ones; 1: no penalty.",
        ge=0.01,
        le=100,
    )
    repetition_window: int = setting(
        64, "Last bytes of the text, prompt included, that the repetition penalty applies to.", ge=1
    )
    logit_bias: tuple[tuple[int, float], ...] = setting(
        (), "Pairs (byte, bias): the bias, -1000 to 1000, is added to the byte's logit.", option=False
    )

    def __post_init__(self) -> None:
        check_settings(self)
        for byte, bias in self.logit_bias:
            if not 0 <= byte <= 255 or not -1000 <= bias <= 1000:
                raise UserError(
                    "logit_bias must be pairs (byte from 0 to 255, bias from -1000 to 1000), "
                    f"got ({byte}, {bias})"
                )


def _kinds(orders: tuple[int, ...], words: tuple[int, ...]) -> tuple[NgramKind, ...]:
    return (*(NgramKind(n) for n in orders), *(NgramKind(n, words=True) for n in words))


ARTICLE = TrainConfig(
    model=Architecture(embedding_size=0, contexts=(), head_size=64, skip=False, bias=False, dropout=0.0)
    .without_ngrams()
    .without_history(),
    batch_size=256,
    sequence_length=16,
    learning_rate=1e-3,
    weight_decay=0.0,
)
"""The 2017 article's model and settings: a GRU of 256 on one-hot bytes, dense 64, ELU, dense 256."""

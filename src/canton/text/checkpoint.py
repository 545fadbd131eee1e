"""Model files of byte models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from canton.text.config import Architecture, TrainConfig
from canton.text.model import ByteModel
from canton.text.ngram.table import pack_tables, unpack_tables
from canton.training import model_file
from canton.training.checkpoint import Checkpoint

FORMAT = "canton-text-2"

ENTRIES = {
    "corpus": str,
    "corpus_files": tuple[str, ...],
    "held_out_bits_per_byte": float | None,
    "held_out_cold_bits_per_byte": float | None,
    "held_out_bytes": int | None,
}
"""The types of a header's entries, beside those of `canton.training.model_file`."""

ModelFile = model_file.ModelFile[ByteModel]
"""A byte model's file. Its header has:

- architecture, training: see `TrainConfig.to_header`;
- corpus, corpus_files: SHA-256 of the text and names of its files (paths while the run is unfinished);
- held_out_bits_per_byte, held_out_cold_bits_per_byte, held_out_bytes: the score on the held-out part, see
  `canton.text.held_out.HeldOut`; None before the run is finished;
- curve: see `canton.training.curve.Curve`, in bits per byte;
- steps_done, training_seconds, rollbacks: of a finished run;
- step, seconds: of an unfinished run;
- version: of Canton.
"""


def save_model(
    path: Path, model: ByteModel, header: dict[str, Any], checkpoint: Checkpoint | None = None
) -> None:
    """Write a byte model; see `canton.training.model_file.write_model`."""
    tables = {} if model.ngrams is None else pack_tables(model.ngrams)
    model_file.write_model(
        path, model, model.architecture.to_json(), header, checkpoint, format=FORMAT, extra=tables
    )


def load_model(path: Path) -> ModelFile:
    """Read a byte model; see `canton.training.model_file.read_model`."""
    return model_file.read_model(
        path,
        lambda table: ByteModel(Architecture.from_json(table)),
        format=FORMAT,
        attach=_attach,
        entries=ENTRIES,
    )


def load_config(path: Path) -> TrainConfig:
    """Return the training settings of a byte model's file.

    Raises:
        UserError: it is missing, or of another format or version; the message names it.
    """
    return model_file.read_config(path, TrainConfig.from_header, format=FORMAT)


def _attach(model: ByteModel, tables: dict[str, Tensor]) -> None:
    if tables:
        model.ngrams = unpack_tables(model.architecture.ngram_kinds, tables)


def check_replaceable(path: Path) -> None:
    """Check that a model may be written to `path`.

    Raises:
        UserError: the file there is not a byte model, or is an unfinished run.
    """
    model_file.check_replaceable(path, format=FORMAT, kind="text model")

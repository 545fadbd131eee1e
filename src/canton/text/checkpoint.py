"""A byte model as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from canton.text.config import Architecture
from canton.text.model import ByteModel
from canton.text.ngram.table import packed, unpacked
from canton.training import model_file
from canton.training.checkpoint import Checkpoint

FORMAT = "canton-text-1"

ModelFile = model_file.ModelFile[ByteModel]
"""header: architecture (as `Architecture`'s fields), training (the settings), corpus (SHA-256 of what it
learned from), held_out_bits_per_byte (None before the first scoring), held_out_bytes, curve
(`canton.training.curve.Curve`, in bits per byte), version (of Canton), and, for an unfinished
run, step and seconds."""


def save_model(
    path: Path, model: ByteModel, header: dict[str, Any], checkpoint: Checkpoint | None = None
) -> None:
    """Write a byte model; see `canton.training.model_file.write_model`."""
    beside = {} if model.counts is None else packed(model.counts)
    model_file.write_model(
        path, model, model.architecture.to_json(), header, checkpoint, format=FORMAT, extra=beside
    )


def load_model(path: Path) -> ModelFile:
    """Read a byte model; see `canton.training.model_file.read_model`."""
    return model_file.read_model(
        path, lambda table: ByteModel(Architecture.from_json(table)), format=FORMAT, attach=_attach
    )


def _attach(model: ByteModel, beside: dict[str, Tensor]) -> None:
    if beside:
        model.counts = unpacked(model.architecture.runs, beside)


def check_replaceable(path: Path) -> None:
    """Raises: UserError if the file at `path` is no byte model."""
    model_file.check_replaceable(path, format=FORMAT, kind="text model")

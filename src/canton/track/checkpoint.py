"""A tracking model as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from canton.track.model import Architecture, TrackModel
from canton.training import model_file
from canton.training.checkpoint import Checkpoint

FORMAT = "canton-track-1"

ModelFile = model_file.ModelFile[TrackModel]
"""header: architecture (as `Architecture`'s fields), training (the settings), threshold (of the heat, chosen
on the validation clips), held_out (the figures there), curve
(`canton.training.curve.Curve`, of the loss), version (of Canton), and, for an unfinished
run, step and seconds."""


def save_model(
    path: Path, model: TrackModel, header: dict[str, Any], checkpoint: Checkpoint | None = None
) -> None:
    """Write a tracking model; see `canton.training.model_file.write_model`."""
    model_file.write_model(path, model, model.architecture.to_json(), header, checkpoint, format=FORMAT)


def load_model(path: Path) -> ModelFile:
    """Read a tracking model; see `canton.training.model_file.read_model`."""
    return model_file.read_model(path, lambda table: TrackModel(Architecture.from_json(table)), format=FORMAT)


def check_replaceable(path: Path) -> None:
    """Raises: UserError if the file at `path` is no tracking model."""
    model_file.check_replaceable(path, format=FORMAT, kind="tracking model")

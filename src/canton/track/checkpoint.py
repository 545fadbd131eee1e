"""Model files of the tracker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from canton.track.model import Architecture, TrackModel
from canton.training import model_file
from canton.training.checkpoint import Checkpoint

FORMAT = "canton-track-1"

ModelFile = model_file.ModelFile[TrackModel]
"""The header has architecture, training (see `TrainConfig`), threshold (chosen on the held-out clips),
held_out (the scores there), curve (of the loss), version (of Canton) and, for an unfinished run, step and
seconds."""


def save_model(
    path: Path, model: TrackModel, header: dict[str, Any], checkpoint: Checkpoint | None = None
) -> None:
    """Write a model file; see `canton.training.model_file.write_model`."""
    model_file.write_model(path, model, model.architecture.to_json(), header, checkpoint, format=FORMAT)


def load_model(path: Path) -> ModelFile:
    """Read a model file; see `canton.training.model_file.read_model`."""
    return model_file.read_model(path, lambda table: TrackModel(Architecture.from_json(table)), format=FORMAT)


def check_replaceable(path: Path) -> None:
    """Check that `path` may be overwritten.

    Raises:
        UserError: the file is not a finished model of the tracker.
    """
    model_file.check_replaceable(path, format=FORMAT, kind="tracking model")

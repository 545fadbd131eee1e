"""Model files of the tracker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from canton.errors import UserError
from canton.track.model import Architecture, TrackModel
from canton.track.train_config import TrainConfig
from canton.training import model_file
from canton.training.checkpoint import Checkpoint
from canton.training.settings import check_fields

FORMAT = "canton-track-1"

ENTRIES = {"threshold": float, "held_out": dict | None}
"""The types of a header's entries, beside those of `canton.training.model_file`."""

STORED = ("fps", "width", "target_class", "scenes")
"""The training settings that a model's users read."""

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
    loaded = model_file.read_model(
        path, lambda table: TrackModel(Architecture.from_json(table)), format=FORMAT, entries=ENTRIES
    )
    try:
        check_fields(TrainConfig, {n: v for n, v in loaded.header.get("training", {}).items() if n in STORED})
        if not 0.01 <= loaded.header.get("threshold", 0.5) <= 1:
            raise UserError(f"threshold must be in [0.01, 1], got {loaded.header['threshold']}")
        for name, tensor in loaded.model.state_dict().items():
            if name.endswith(".running_var") and bool((tensor < 0).any()):
                raise UserError(f"weight {name} must be >= 0")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return loaded


def load_config(path: Path) -> TrainConfig:
    """Return the training settings of a model's file.

    Raises:
        UserError: it is missing, or of another format or version; the message names it.
    """
    return model_file.read_config(path, TrainConfig.from_header, format=FORMAT)


def training_setting(loaded: ModelFile, name: str) -> Any:
    """Return the setting `name` of `STORED` that the model was trained with.

    Raises:
        UserError: the file does not have it.
    """
    try:
        return loaded.header["training"][name]
    except KeyError as error:
        raise UserError(
            f"the model file does not store the training setting {name}: train a new model"
        ) from error


def check_replaceable(path: Path) -> None:
    """Check that `path` may be overwritten.

    Raises:
        UserError: the file is not a finished model of the tracker.
    """
    model_file.check_replaceable(path, format=FORMAT, kind="tracking model")

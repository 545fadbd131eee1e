"""A byte model as one file: weights, and a header that says what they are and where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from canton import __version__
from canton.errors import UserError
from canton.storage import read_header, read_tensors, write_tensors
from canton.text.model import Architecture, ByteModel
from canton.training import Checkpoint

FORMAT = "canton-text-1"


class ModelFile(NamedTuple):
    """What a file held.

    header: architecture (as `Architecture`'s fields), training (the settings), corpus (SHA-256 of what it
    learned from), held_out_bits_per_byte (None before the first scoring), held_out_bytes, version (of
    Canton), and, for an unfinished run, step and seconds. checkpoint: what `training.fit` needs to go on;
    None if the run is finished.
    """

    model: ByteModel
    header: dict[str, Any]
    checkpoint: Checkpoint | None


def save_model(
    path: Path, model: ByteModel, header: dict[str, Any], checkpoint: Checkpoint | None = None
) -> None:
    """Write a model file; an earlier one at `path` is replaced only once the new one is whole on disk.

    Raises: UserError if it cannot be written; MissingExtra without safetensors.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    table = {**header, "architecture": model.architecture.to_json(), "version": __version__}
    if checkpoint is not None:
        tensors |= {f"run.{name}": tensor for name, tensor in checkpoint.tensors.items()}
        table |= {"step": checkpoint.step, "seconds": checkpoint.seconds}
    write_tensors(path, tensors, table, format=FORMAT)


def load_model(path: Path) -> ModelFile:
    """Read a model file.

    Raises: UserError, one line, if it is missing, cut short, changed, of another kind, or its weights are not
    those of its architecture.
    """
    tensors, header = read_tensors(path, format=FORMAT)
    try:
        with torch.device("meta"):  # names, shapes and types are compared before any memory is taken
            model = ByteModel(Architecture.from_json(header.get("architecture")))
        weights = _part(tensors, "model.")
        _compare(model.state_dict(), weights)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    model.load_state_dict(weights, assign=True)
    model.requires_grad_(True)
    checkpoint = None
    if "step" in header:
        checkpoint = Checkpoint(_part(tensors, "run."), int(header["step"]), float(header["seconds"]))
    return ModelFile(model.eval(), header, checkpoint)


def check_replaceable(path: Path) -> None:
    """Raises: UserError if the file at `path` is no byte model, so that a slip costs no one a text."""
    try:
        replaceable = path.stat().st_size == 0 or read_header(path).get("format") == FORMAT
    except UserError:
        replaceable = False
    if not replaceable:
        raise UserError(f"{path} is there and is no byte model of Canton's: it is left alone")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _compare(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    for name in [*wanted, *found]:
        if name not in found:
            raise UserError(f"its architecture needs the weight {name}, which is not in it")
        if name not in wanted:
            raise UserError(f"the weight {name} in it is not of its architecture")
        want, have = wanted[name], found[name]
        if want.shape != have.shape or not have.is_floating_point():
            raise UserError(
                f"the weight {name} in it is {tuple(have.shape)} {have.dtype}, "
                f"its architecture needs {tuple(want.shape)} {want.dtype}"
            )

"""A model as one file: its weights, a header that says what it is and where it comes from, and, of a run
that is not finished, what `canton.training.fit` needs to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from canton import __version__
from canton.errors import UserError
from canton.io.atomic import is_special
from canton.io.tensor_file import read_header, read_tensors, write_tensors
from canton.training.checkpoint import Checkpoint

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class ModelFile(Generic[Model]):
    """What a file held: the model in evaluation mode, the header, and, of an unfinished run, its
    checkpoint.
    """

    model: Model
    header: dict[str, Any]
    checkpoint: Checkpoint | None


def write_model(
    path: Path,
    model: nn.Module,
    architecture: dict[str, Any],
    header: dict[str, Any],
    checkpoint: Checkpoint | None,
    *,
    format: str,
    beside: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model file; an earlier one at `path` is replaced only once the new one is whole on disk.

    beside: tensors that belong to the model and are not its weights.

    Raises: UserError if it cannot be written; MissingExtra without safetensors.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"beside.{name}": tensor for name, tensor in (beside or {}).items()}
    table = {**header, "architecture": architecture, "version": __version__}
    if checkpoint is not None:
        tensors |= {f"run.{name}": tensor for name, tensor in checkpoint.tensors.items()}
        table |= {"step": checkpoint.step, "seconds": checkpoint.seconds}
    write_tensors(path, tensors, table, format=format)


def read_model(
    path: Path,
    build: Callable[[Any], Model],
    *,
    format: str,
    attach: Callable[[Model, dict[str, Tensor]], None] | None = None,
) -> ModelFile[Model]:
    """Read a model file; `build` makes the model from the header's architecture; `attach`
    gives it what was written beside its weights.

    Raises: UserError, one line, if it is missing, cut short, changed, of another kind, or its weights are not
    those of its architecture.
    """
    tensors, header = read_tensors(path, format=format)
    try:
        with torch.device("meta"):  # names, shapes and types are compared before any memory is taken
            model = build(header.get("architecture"))
        weights = _part(tensors, "model.")
        _compare(model.state_dict(), weights)
        if attach is not None:
            attach(model, _part(tensors, "beside."))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    model.load_state_dict(weights, assign=True)
    model.requires_grad_(True)
    checkpoint = None
    if "step" in header:
        checkpoint = Checkpoint(_part(tensors, "run."), int(header["step"]), float(header["seconds"]))
    return ModelFile(model.eval(), header, checkpoint)


def check_replaceable(path: Path, *, format: str, kind: str) -> None:
    """Raises: UserError if the file at `path` is not of this format, or a run that is not finished, so that a
    slip costs no one their work.
    """
    if is_special(path):
        raise UserError(f"{path} is no file: a {kind} is written to one")
    try:
        header = {"format": format} if path.stat().st_size == 0 else read_header(path)
    except UserError:
        header = {}
    if header.get("format") != format:
        raise UserError(f"{path} is there and is no {kind} of Canton's: it is left alone")
    if "step" in header:
        raise UserError(
            f"{path} is a run stopped at step {header['step']}: go on with it (--resume), remove it, or "
            "choose another file"
        )


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _compare(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    for name in [*wanted, *found]:
        if name not in found:
            raise UserError(f"its architecture needs the weight {name}, which is not in it")
        if name not in wanted:
            raise UserError(f"the weight {name} in it is not of its architecture")
        want, have = wanted[name], found[name]
        if want.shape != have.shape or want.is_floating_point() != have.is_floating_point():
            raise UserError(
                f"the weight {name} in it is {tuple(have.shape)} {have.dtype}, "
                f"its architecture needs {tuple(want.shape)} {want.dtype}"
            )

"""Model files: weights, a header, and the checkpoint of an unfinished run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from canton import __version__
from canton.errors import UserError
from canton.io.atomic import is_special
from canton.io.tensor_file import read_header, read_tensors, write_tensors
from canton.training.checkpoint import Checkpoint
from canton.training.curve import Curve
from canton.training.settings import check_entries

Model = TypeVar("Model", bound=nn.Module)
Config = TypeVar("Config")

PREFIXES = ("model.", "beside.", "run.")
"""The first part of a tensor's name: weights, other tensors of the model, the checkpoint."""

ENTRIES = {
    "training": dict,
    "version": str,
    "step": int,
    "seconds": float,
    "rollbacks": int,
    "curve": dict | None,
    "steps_done": int,
    "training_seconds": float,
}
"""The types of the header's entries that every kind of model may have."""


@dataclass(frozen=True)
class ModelFile(Generic[Model]):
    """The content of a model file: the model in evaluation mode, the header, the checkpoint if unfinished."""

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
    extra: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model file; an earlier file is replaced once the new one is on disk.

    Args:
        architecture: what the reader builds the model from, as JSON values.
        header: other JSON values.
        checkpoint: of an unfinished run.
        format: names the kind of model.
        extra: tensors of the model that are not weights.

    Raises: UserError if it cannot be written; MissingExtra without safetensors.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"beside.{name}": tensor for name, tensor in (extra or {}).items()}
    table = {**header, "architecture": architecture, "version": __version__}
    if checkpoint is not None:
        tensors |= {f"run.{name}": tensor for name, tensor in checkpoint.tensors.items()}
        table |= {"step": checkpoint.step, "seconds": checkpoint.seconds, "rollbacks": checkpoint.rollbacks}
    write_tensors(path, tensors, table, format=format)


def read_model(
    path: Path,
    build: Callable[[Any], Model],
    *,
    format: str,
    attach: Callable[[Model, dict[str, Tensor]], None] | None = None,
    entries: Mapping[str, Any] | None = None,
) -> ModelFile[Model]:
    """Read a model file.

    Args:
        build: builds the model from the header's architecture.
        format: the kind of model that is expected.
        attach: gives the model its extra tensors.
        entries: the types of further entries of the header.

    Every tensor's name, shape, type and finiteness is checked before the model is built: the checksum tells
    accidents only.

    Raises: UserError, one line, if the file is missing, damaged, changed or of another format, or its weights
    do not fit its architecture.
    """
    tensors, header = read_tensors(path, format=format)
    try:
        _check_header(header, entries or {})
        _check_tensors(tensors, checkpoint="step" in header)
        # names, shapes and types are compared before memory is allocated
        with torch.device("meta"), _SkipInitialisers():
            model = build(header.get("architecture"))
        weights = _with_prefix(tensors, "model.")
        _check_weights(model.state_dict(), weights)
        extra = _with_prefix(tensors, "beside.")
        if extra and attach is None:
            raise UserError(f"tensor beside.{next(iter(extra))} is not part of the model")
        if attach is not None:
            attach(model, extra)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    model.load_state_dict(weights, assign=True)
    model.requires_grad_(True)
    checkpoint = None
    if "step" in header:
        checkpoint = Checkpoint(
            _with_prefix(tensors, "run."),
            int(header["step"]),
            float(header["seconds"]),
            int(header.get("rollbacks", 0)),
        )
    return ModelFile(model.eval(), header, checkpoint)


def read_config(path: Path, from_header: Callable[[dict[str, Any]], Config], *, format: str) -> Config:
    """Return the training settings of a model file, without its tensors.

    Args:
        from_header: makes them of the header.
        format: the kind of model that is expected.

    Raises: UserError, which names the file, if it is missing or of another format or version.
    """
    header = read_header(path)
    if header.get("format") != format:
        raise UserError(f"{path} is not a {format} file: its format is {header.get('format')}")
    try:
        return from_header(header)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def check_replaceable(path: Path, *, format: str, kind: str) -> None:
    """Check that `path` is a finished model of this format, or an empty file, which may be replaced.

    kind: what the message calls such a model, e.g. "text model".

    Raises: UserError if it is not.
    """
    if is_special(path):
        raise UserError(f"a {kind} must be written to a regular file, got {path}")
    try:
        header = {"format": format} if path.stat().st_size == 0 else read_header(path)
    except UserError:
        header = {}
    if header.get("format") != format:
        raise UserError(f"refusing to overwrite {path}: not a Canton {kind} of this version")
    if "step" in header:
        raise UserError(
            f"{path} is an unfinished run (step {header['step']}). "
            f"Continue it with: train --resume --out {path}"
        )


class _SkipInitialisers(TorchFunctionMode):
    """Skips the functions of torch.nn.init: `normal_` on the meta device imports torch._dynamo (seconds)."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_header(header: dict[str, Any], entries: Mapping[str, Any]) -> None:
    check_entries(header, {**ENTRIES, **entries})
    Curve.from_json(header.get("curve"))
    if "step" in header:
        if "seconds" not in header:
            raise UserError("seconds of the unfinished run is missing")
        for name in ("step", "seconds", "rollbacks"):
            if not 0 <= header.get(name, 0) < 1 << 62:
                raise UserError(f"{name} must be >= 0, got {header[name]}")


def _check_tensors(tensors: dict[str, Tensor], *, checkpoint: bool) -> None:
    for name, tensor in tensors.items():
        if not name.startswith(PREFIXES if checkpoint else PREFIXES[:2]):
            raise UserError(f"tensor {name} is not part of a model")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(f"tensor {name} must be finite, got NaN or infinity")


def _check_weights(expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    for name in [*expected, *found]:
        if name not in found:
            raise UserError(f"weight {name} is missing")
        if name not in expected:
            raise UserError(f"weight {name} is not part of the architecture")
        a, b = expected[name], found[name]
        dtype = b.dtype if a.is_floating_point() and b.dtype in (torch.float32, torch.float64) else a.dtype
        if a.shape != b.shape or b.dtype != dtype:
            raise UserError(
                f"weight {name} must be {tuple(a.shape)} {a.dtype}, got {tuple(b.shape)} {b.dtype}"
            )
    types = sorted({str(b.dtype) for b in found.values() if b.is_floating_point()})
    if len(types) > 1:
        raise UserError(f"weights must have one type, got {' and '.join(types)}")

"""The models that come with Canton, for commands whose MODEL is left out."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from canton.errors import UserError

if TYPE_CHECKING:
    from canton.training.model_file import ModelFile

Loaded = TypeVar("Loaded")
Opened = TypeVar("Opened", bound="ModelFile[Any]")

TEXT, VISIBLE, INFRARED = "text", "visible", "infrared"
LIGHTS = (VISIBLE, INFRARED)
"""The tracking models that ship, each for films taken in such light; a command's MODEL may be one of these
words.
"""
SHIPPED = {
    TEXT: "text/models/text.safetensors",
    VISIBLE: "track/models/visible.safetensors",
    INFRARED: "track/models/infrared.safetensors",
}


def load_shipped(name: str, load: Callable[[Path], Loaded]) -> Loaded:
    """What `load` makes of the model file that ships under this name.

    Raises: UserError if this copy of Canton has none.
    """
    place = files("canton").joinpath(SHIPPED[name])
    if not place.is_file():
        raise UserError("no model is shipped with this copy of Canton: name a model file")
    with as_file(place) as path:
        return load(path)


def track_model(model: Path | None) -> Path | None:
    """`model`, or the file of the one that ships where it is one of `LIGHTS`."""
    return load_shipped(str(model), lambda path: path) if str(model) in LIGHTS else model


def open_model(model: Path | None, name: str, load: Callable[[Path], Opened]) -> Opened:
    """What `load` makes of `model`; of the one that ships under `name` where it was left out. Says so on
    standard error if it is a run that is not finished.
    """
    path = track_model(model) if name in LIGHTS else model
    held = load_shipped(name, load) if path is None else load(path)
    if held.checkpoint is not None:
        typer.echo(
            f"canton: {model} is a run that is not finished, saved at step {held.checkpoint.step}, and taken "
            f"as it is; if it was stopped, train with --resume --out {model} ends it",
            err=True,
        )
    return held


def light(*, coloured: bool) -> str:
    """Which tracking model fits a film: a picture of heat has no colour."""
    return VISIBLE if coloured else INFRARED


def model_and(
    words: list[str], model: Path | None = None, *, plural: str, command: str
) -> tuple[Path | None, str]:
    """The model, where one is named, and what `command` is to work on: the words of a command that takes
    [MODEL] and one thing, which many of are `plural`.

    Raises: UserError if there are more words, or the model is named twice.
    """
    if len(words) == 1:
        return model, words[0]
    if len(words) == 2 and model is None:
        path = Path(words[0])
        if words[0] not in LIGHTS and path.is_file() and not _may_be_model(path):
            raise UserError(
                f"{path} is no model file (safetensors): {command} takes one of the {plural}, "
                "after the model if any"
            )
        return path, words[1]
    if len(words) == 2:
        raise UserError(f"the model is named twice: {words[0]} and --model {model}")
    raise UserError(
        f"{len(words)} {plural} named: {', '.join(words[:4])}; {command} takes one, after the model if any"
    )


def _may_be_model(path: Path) -> bool:
    """Whether the file begins as one of safetensors does, with the length of a JSON header and the header, or
    is too short to tell.
    """
    with path.open("rb") as file:
        return file.read(9)[8:] in (b"{", b"")


def describe_shipped(name: str) -> str:
    """The place of the model that ships under this name, and how good it was on what it never saw."""
    from canton.io.tensor_file import read_header  # which needs torch, as the commands' help does not

    try:
        path, header = load_shipped(name, lambda path: (path, read_header(path)))
    except UserError:
        return "none in this copy"
    if (held := header.get("held_out")) is not None:
        return f"{path}: F1 {held['f1']:.3f} on {held['frames']:,} held-out frames"
    bits, count = header["held_out_bits_per_byte"], header["held_out_bytes"]
    return f"{path}: {bits:.3f} bits per byte on {count:,} held-out bytes"

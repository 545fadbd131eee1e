"""Pretrained models, and the MODEL argument of the commands."""

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
TRACK_MODELS = (VISIBLE, INFRARED)
"""Pretrained tracking models, by the light of their footage; each is a valid MODEL."""
PRETRAINED = {
    TEXT: "text/models/text.safetensors",
    VISIBLE: "track/models/visible.safetensors",
    INFRARED: "track/models/infrared.safetensors",
}


def load_pretrained(name: str, load: Callable[[Path], Loaded]) -> Loaded:
    """Return what `load` returns for the file of a pretrained model.

    Raises: UserError if this installation has no such file.
    """
    place = files("canton").joinpath(PRETRAINED[name])
    if not place.is_file():
        raise UserError(f"this installation has no pretrained {name} model: give a model file")
    with as_file(place) as path:
        return load(path)


def track_model(model: Path | None) -> Path | None:
    """Return the path of a tracking model, which may be given by its pretrained name."""
    return load_pretrained(str(model), lambda path: path) if str(model) in TRACK_MODELS else model


def open_model(model: Path | None, name: str, load: Callable[[Path], Opened]) -> Opened:
    """Load `model`, or the pretrained model `name` if it is None; warn about an unfinished run."""
    path = track_model(model) if name in TRACK_MODELS else model
    held = load_pretrained(name, load) if path is None else load(path)
    if held.checkpoint is not None:
        typer.echo(
            f"canton: {model} is an unfinished run (step {held.checkpoint.step}). "
            f"Continue it with: train --resume --out {model}",
            err=True,
        )
    return held


def pretrained_for(*, has_colour: bool) -> str:
    """Return the name of the pretrained model for a video; infrared video has no colour."""
    return VISIBLE if has_colour else INFRARED


def model_and_input(
    words: list[str], model: Path | None = None, *, plural: str, command: str
) -> tuple[Path | None, str]:
    """Split the arguments of a command that takes [MODEL] and one input.

    Args:
        words: the arguments.
        model: the value of --model.
        plural: what the messages call several inputs.
        command: its name.

    Raises: UserError if there are more arguments, or the model is given twice.
    """
    if len(words) == 1:
        return model, words[0]
    if len(words) == 2 and model is None:
        path = Path(words[0])
        if words[0] not in TRACK_MODELS and path.is_file() and not may_be_model(path):
            raise UserError(
                f"{path} is not a model file (safetensors), and {command} takes one of the {plural}"
            )
        return path, words[1]
    if len(words) == 2:
        raise UserError(f"got two models: {words[0]} and --model {model}")
    raise UserError(f"{command} takes one input, got {len(words)} {plural}: {', '.join(words[:4])}")


def model_and_films(words: list[str], model: Path | None = None) -> tuple[Path | None, list[str]]:
    """Split the arguments of a command that takes [MODEL] and any number of films.

    The first word is a model if it is a pretrained name, or a file or a missing file that can be one.

    Raises: UserError if the model is given twice.
    """
    from canton.track.video.ffmpeg import VIDEO_SUFFIXES, is_stream_name
    from canton.track.video.pictures import is_pictures

    if not words:
        return model, words
    first, path = words[0], Path(words[0])
    film = (
        is_stream_name(first)
        or path.suffix.lower() in VIDEO_SUFFIXES
        or is_pictures(first)
        or (path.is_file() and not may_be_model(path))
        or (len(words) == 1 and path.suffix != ".safetensors")
    )
    if film and first not in TRACK_MODELS:
        return model, words
    if model is not None:
        raise UserError(f"got two models: {first} and --model {model}")
    return path, words[1:]


def may_be_model(path: Path) -> bool:
    """Return whether a file starts like safetensors (length, then JSON) or is too short to tell."""
    with path.open("rb") as file:
        return file.read(9)[8:] in (b"{", b"")


def describe_pretrained(name: str) -> str:
    """Return the path of a pretrained model and its held-out score."""
    from canton.io.tensor_file import read_header  # imports torch, which --help must not wait for

    try:
        path, header = load_pretrained(name, lambda path: (path, read_header(path)))
    except UserError:
        return "not installed"
    if (held := header.get("held_out")) is not None:
        return f"{path}: F1 {held['f1']:.3f} on {held['frames']:,} held-out frames"
    bits, count = header["held_out_bits_per_byte"], header["held_out_bytes"]
    return f"{path}: {bits:.3f} bits per byte on {count:,} held-out bytes"

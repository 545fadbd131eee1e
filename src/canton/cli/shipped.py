"""The models that come with Canton, for commands whose MODEL is left out."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import TypeVar

from canton.errors import UserError

Loaded = TypeVar("Loaded")

SHIPPED = {"canton.motion": "motion/models/track.safetensors", "canton.text": "text/models/text.safetensors"}
"""By package."""


def load_shipped(package: str, load: Callable[[Path], Loaded]) -> Loaded:
    """What `load` makes of the model file that `package` ships.

    Raises: UserError if this copy of Canton has none.
    """
    place = files("canton").joinpath(SHIPPED[package])
    if not place.is_file():
        raise UserError("no model is shipped with this copy of Canton: name a model file")
    with as_file(place) as path:
        return load(path)


def path_or_shipped(model: Path | None, package: str) -> Path | None:
    """`model`, or the file of the one that `package` ships where it is the word "shipped"."""
    return load_shipped(package, lambda path: path) if model == Path("shipped") else model


def open_model(model: Path | None, package: str, load: Callable[[Path], Loaded]) -> Loaded:
    """What `load` makes of `model`; of the one that `package` ships where it was left out."""
    return load_shipped(package, load) if model is None else load(model)


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
        return Path(words[0]), words[1]
    if len(words) == 2:
        raise UserError(f"the model is named twice: {words[0]} and --model {model}")
    raise UserError(
        f"{len(words)} {plural} named: {', '.join(words[:4])}; {command} takes one, after the model if any"
    )


def describe_shipped(package: str) -> str:
    """The place of the model that `package` ships, and how good it was on what it never saw."""
    from canton.storage import read_header  # which needs torch, as the commands' help does not

    try:
        path, header = load_shipped(package, lambda path: (path, read_header(path)))
    except UserError:
        return "none in this copy"
    if (held := header.get("held_out")) is not None:
        return f"{path}: F1 {held['f1']:.3f} on {held['frames']:,} held-out frames"
    bits, count = header["held_out_bits_per_byte"], header["held_out_bytes"]
    return f"{path}: {bits:.3f} bits per byte on {count:,} held-out bytes"

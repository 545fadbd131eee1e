"""The models that come with Canton, for commands whose MODEL is left out."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import TypeVar

from canton.errors import UserError

Loaded = TypeVar("Loaded")

SHIPPED = {"canton.motion": "models/track.safetensors", "canton.text": "models/text.safetensors"}
"""By package."""


def load_shipped(package: str, load: Callable[[Path], Loaded]) -> Loaded:
    """What `load` makes of the model file that `package` ships.

    Raises: UserError if this copy of Canton has none.
    """
    place = files(package).joinpath(SHIPPED[package])
    if not place.is_file():
        raise UserError("no model is shipped with this copy of Canton: name a model file")
    with as_file(place) as path:
        return load(path)

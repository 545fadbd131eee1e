"""What lies in Keras 3's files: settings and arrays of the recurrent layers, by the layers' names."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from canton.errors import UserError, require
from canton.io.atomic import os_error_reason

JSON = dict[str, Any]
CONVOLUTIONS = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
CLASSES = ("GRU", "LSTM", "SimpleRNN", *CONVOLUTIONS)


def opened(path: Path) -> tuple[dict[str, JSON] | None, dict[str, list[Any]]]:
    """The recurrent layers of a .keras or .weights.h5 file: settings (in the latter None) and arrays by name.

    Raises:
        UserError: it cannot be read, or is none of Keras's; or h5py is not installed.
    """
    h5py = require("h5py", extra="weights")
    configs, places, content = None, dict[str, str](), None
    try:
        if path.suffix == ".keras":
            config, content = _unzipped(path)
            configs = {c["config"]["name"]: c for c in _recurrent(config)}
            places = dict(_places(config))
        else:
            path.open("rb").close()  # the system's word on what cannot be opened, and not HDF5's
        with h5py.File(content or path, "r") as file:
            found = dict(_layers(file, places, _Contents(path, file, _room(path))))
    except OSError as error:  # HDF5's own errors as well, which come without a number
        why = (
            os_error_reason(error)
            if error.errno and error.strerror
            else "it is damaged, or no file of Keras 3"
        )
        raise UserError(f"cannot read {path}: {why}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, MemoryError) as error:
        raise UserError(f"{path} is damaged, or no file of Keras 3") from error
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged, or no file of Keras 3: {error}") from error
    if configs is not None and (strange := [name for name in found if name not in configs]):
        raise UserError(f"{path} has numbers of a layer {strange[0]!r}, of which its settings know nothing")
    return configs, found


def _unzipped(path: Path) -> tuple[JSON, BytesIO]:
    """A .keras file's config.json and model.weights.h5. Keras stores them as they are, or hardly smaller."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _room(path):
            raise UserError(f"{path} unpacks to {unpacked:,} bytes, which no file of Keras's does")
        return json.loads(archive.read("config.json")), BytesIO(archive.read("model.weights.h5"))


def _recurrent(node: Any) -> Iterator[JSON]:
    """Every recurrent layer's entry in a model's config, nested models included."""
    if isinstance(node, dict):
        if node.get("class_name") in (*CLASSES, "Bidirectional"):
            yield node
        else:
            for child in node.values():
                yield from _recurrent(child)
    elif isinstance(node, list):
        for child in node:
            yield from _recurrent(child)


def _places(node: JSON, place: str = "") -> Iterator[tuple[str, str]]:
    """Where Keras puts each layer's numbers, by class and count within a model, and the layer's name."""
    seen: Counter[str] = Counter()
    for entry in node["config"].get("layers", ()):
        kind = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", entry["class_name"])
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", kind).lower()
        group = f"{place}/layers/{kind}{f'_{seen[kind]}' if seen[kind] else ''}"
        seen[kind] += 1
        yield group, entry["config"]["name"]
        if "layers" in entry["config"]:
            yield from _places(entry, group)


def _room(path: Path) -> int:
    """How many bytes of numbers a file may unpack to: trained ones hardly shrink, some zeros do."""
    return 100 * path.stat().st_size + 2**20


class _Contents:
    """What lies in an HDF5 file that may have been made to harm: each thing once, and so many bytes in all.

    Keras's files have one hard link to each thing and each array in one piece. What HDF5 offers beyond can
    hang a reader, fill its memory, or hand it the bytes of another file.

    Raises: UserError, in one line, where the file does otherwise.
    """

    def __init__(self, path: Path, file: Any, room: int) -> None:
        self.h5py = require("h5py", extra="weights")
        self.path, self.room, self.left = path, room, room
        self.places = {self.h5py.h5o.get_info(file.id).addr: "/"}

    def child(self, group: Any, key: str) -> Any:
        """The group or the array that lies in `group` as `key`; None if there is nothing."""
        name = key.encode("utf-8", "surrogateescape")
        if not hasattr(group, "items") or not group.id.links.exists(name):
            return None
        place = f"{group.name.rstrip('/')}/{key}"
        if "/" in key or group.id.links.get_info(name).type != self.h5py.h5l.TYPE_HARD:
            raise self.refusal(place, "leads elsewhere")
        held = group[key]
        first = self.places.setdefault(self.h5py.h5o.get_info(held.id).addr, place)
        if place != first:
            raise self.refusal(place, f"is {first} again")
        return held

    def array(self, group: Any, k: int) -> Any:
        """The numbers that lie in `group` as `k`, out of the bytes that are left."""
        held, place = self.child(group, str(k)), f"{group.name}/{k}"
        if not isinstance(held, self.h5py.Dataset) or held.dtype.kind not in "fiu":
            raise self.refusal(place, "is no array of numbers")
        if held.is_virtual or held.external:  # before its size is asked for, which opens the other file
            raise self.refusal(place, "lies in another file")
        if held.chunks or held.id.get_create_plist().get_nfilters():  # a packed byte may stand for 10**5
            raise self.refusal(place, "is packed")
        self.left -= held.nbytes
        if self.left < 0:  # HDF5 stores no number of an array that was never filled
            said = f"promises {self.room - self.left:,} bytes, and the file is far smaller"
            raise self.refusal(place, said)
        return held[()]

    def name(self, variables: Any, known: str) -> str:
        """The name that a layer's `vars` have; `known` if they have none."""
        if variables is None or "name" not in variables.attrs:
            return known
        if variables.attrs.get_id("name").shape != ():
            raise self.refusal(variables.name, "has several names")
        return str(variables.attrs["name"])

    def refusal(self, place: str, said: str) -> UserError:
        """The error that says, in one line whatever `place` is called, that it is not as Keras has it."""
        return UserError(f"{self.path} is no file of Keras 3: {' '.join(f'{place} {said}'.split())}")


def _layers(group: Any, places: dict[str, str], contents: _Contents) -> Iterator[tuple[str, list[Any]]]:
    """Name and arrays of every recurrent layer below an HDF5 group."""
    for key in group:
        child = contents.child(group, key)
        if not hasattr(child, "items"):
            continue
        halves = [contents.child(child, f"{way}_layer") for way in ("forward", "backward")]
        cells = [contents.child(half, "cell") for half in halves]
        if cells[0] is None:
            cells = [contents.child(child, "cell")]
        ways = [contents.child(cell, "vars") for cell in cells]
        if hasattr(ways[0], "items"):
            arrays = [contents.array(way, k) for way in ways for k in range(len(way))]
            yield contents.name(contents.child(child, "vars"), places.get(child.name, key)), arrays
        else:
            yield from _layers(child, places, contents)

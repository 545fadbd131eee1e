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
from canton.storage import reason

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
            found = dict(_layers(file, places, _room(path)))
    except OSError as error:  # HDF5's own errors as well, which come without a number
        why = reason(error) if error.errno and error.strerror else "it is damaged, or no file of Keras 3"
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


def _array(variables: Any, k: int, room: int) -> Any:
    held = variables[str(k)]
    if held.nbytes > room:  # HDF5 stores no number of an array that was never filled
        raise UserError(f"{held.name} promises {held.nbytes:,} bytes, and the file is far smaller")
    return held[()]


def _layers(group: Any, places: dict[str, str], room: int) -> Iterator[tuple[str, list[Any]]]:
    """Name and arrays of every recurrent layer below an HDF5 group."""
    for key, child in group.items():
        if not hasattr(child, "items"):
            continue
        ways = (
            ("forward_layer/cell/vars", "backward_layer/cell/vars")
            if "forward_layer/cell" in child
            else ("cell/vars",)
        )
        if ways[0] in child:
            arrays = [_array(child[way], k, room) for way in ways for k in range(len(child[way]))]
            known = places.get(child.name, key)
            yield str(child["vars"].attrs.get("name", known)) if "vars" in child else known, arrays
        else:
            yield from _layers(child, places, room)

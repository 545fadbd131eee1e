"""Reader of Keras 3's files: settings and arrays of the recurrent layers, by the layers' names."""

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


def read_archive(path: Path) -> tuple[dict[str, JSON] | None, dict[str, list[Any]]]:
    """Return the recurrent layers of a .keras or .weights.h5 file.

    Returns:
        The layers' settings by name (None for .weights.h5), and their arrays by name.

    Raises:
        UserError: the file cannot be read or is not one of Keras 3; or h5py is not installed.
    """
    h5py = require("h5py", extra="weights")
    configs, names, content = None, dict[str, str](), None
    try:
        if path.suffix == ".keras":
            config, content = _unzip(path)
            configs = {c["config"]["name"]: c for c in _recurrent_entries(config)}
            names = dict(_layer_names(config))
        else:
            path.open("rb").close()  # for the operating system's error message instead of HDF5's
        with h5py.File(content or path, "r") as file:
            arrays = dict(_layers(file, names, _SafeReader(path, file, _max_bytes(path))))
    except OSError as error:  # HDF5's own errors have no errno
        known = error.errno and error.strerror
        why = os_error_reason(error) if known else "it is damaged or not a Keras 3 file"
        raise UserError(f"cannot read {path}: {why}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, MemoryError) as error:
        raise UserError(f"{path} is damaged or not a Keras 3 file") from error
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged or not a Keras 3 file: {error}") from error
    if configs is not None and (unknown := [name for name in arrays if name not in configs]):
        raise UserError(f"{path} has arrays of a layer {unknown[0]!r} without settings")
    return configs, arrays


def _unzip(path: Path) -> tuple[JSON, BytesIO]:
    """Return a .keras file's config.json and model.weights.h5. Keras stores them without compression."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > _max_bytes(path):
            raise UserError(f"{path} unpacks to {size:,} bytes, which no Keras file does")
        return json.loads(archive.read("config.json")), BytesIO(archive.read("model.weights.h5"))


def _recurrent_entries(node: Any) -> Iterator[JSON]:
    """Yield the entry of every recurrent layer in a model's config, nested models included."""
    if isinstance(node, dict):
        if node.get("class_name") in (*CLASSES, "Bidirectional"):
            yield node
        else:
            for child in node.values():
                yield from _recurrent_entries(child)
    elif isinstance(node, list):
        for child in node:
            yield from _recurrent_entries(child)


def _layer_names(node: JSON, parent: str = "") -> Iterator[tuple[str, str]]:
    """Yield each layer's HDF5 group and name. Keras numbers the layers of a class within a model."""
    count: Counter[str] = Counter()
    for entry in node["config"].get("layers", ()):
        kind = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", entry["class_name"])
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", kind).lower()
        group = f"{parent}/layers/{kind}{f'_{count[kind]}' if count[kind] else ''}"
        count[kind] += 1
        yield group, entry["config"]["name"]
        if "layers" in entry["config"]:
            yield from _layer_names(entry, group)


def _max_bytes(path: Path) -> int:
    """Return the number of bytes that a file may unpack to. Trained weights hardly compress."""
    return 100 * path.stat().st_size + 2**20


class _SafeReader:
    """A reader of possibly malicious HDF5 files: each object once, a limited number of bytes in all.

    Keras's files have one hard link to each object, and each array in one piece. Other features of HDF5 can
    loop, fill the memory, or read other files.

    Raises:
        UserError: the file uses them.
    """

    def __init__(self, path: Path, file: Any, max_bytes: int) -> None:
        self.h5py = require("h5py", extra="weights")
        self.path, self.max_bytes, self.bytes_left = path, max_bytes, max_bytes
        self.name_by_address = {self.h5py.h5o.get_info(file.id).addr: "/"}

    def child(self, group: Any, key: str) -> Any:
        """Return the group or array named `key` in `group`, or None."""
        link = key.encode("utf-8", "surrogateescape")
        if not hasattr(group, "items") or not group.id.links.exists(link):
            return None
        name = f"{group.name.rstrip('/')}/{key}"
        if "/" in key or group.id.links.get_info(link).type != self.h5py.h5l.TYPE_HARD:
            raise self.refusal(name, "is a link")
        child = group[key]
        first = self.name_by_address.setdefault(self.h5py.h5o.get_info(child.id).addr, name)
        if name != first:
            raise self.refusal(name, f"is {first} again")
        return child

    def array(self, group: Any, k: int) -> Any:
        """Return the numbers of array `k` in `group`."""
        dataset, name = self.child(group, str(k)), f"{group.name}/{k}"
        if not isinstance(dataset, self.h5py.Dataset) or dataset.dtype.kind not in "fiu":
            raise self.refusal(name, "is not an array of numbers")
        if dataset.is_virtual or dataset.external:  # before the size: asking for it opens the other file
            raise self.refusal(name, "is in another file")
        if dataset.chunks or dataset.id.get_create_plist().get_nfilters():  # a byte may unpack to 10**5
            raise self.refusal(name, "is compressed or chunked")
        self.bytes_left -= dataset.nbytes
        if self.bytes_left < 0:  # an array that was never filled takes no space in the file
            raise self.refusal(name, f"has {self.max_bytes - self.bytes_left:,} bytes, more than the file")
        return dataset[()]

    def layer_name(self, variables: Any, default: str) -> str:
        """Return the name stored in a layer's `vars`, or `default`."""
        if variables is None or "name" not in variables.attrs:
            return default
        if variables.attrs.get_id("name").shape != ():
            raise self.refusal(variables.name, "has several names")
        return str(variables.attrs["name"])

    def refusal(self, name: str, problem: str) -> UserError:
        """Return a one-line error for an object; whitespace in its name is collapsed."""
        return UserError(f"{self.path} is not a Keras 3 file: {' '.join(f'{name} {problem}'.split())}")


def _layers(group: Any, names: dict[str, str], reader: _SafeReader) -> Iterator[tuple[str, list[Any]]]:
    """Yield name and arrays of every recurrent layer below an HDF5 group."""
    for key in group:
        child = reader.child(group, key)
        if not hasattr(child, "items"):
            continue
        directions = [reader.child(child, f"{name}_layer") for name in ("forward", "backward")]
        cells = [reader.child(direction, "cell") for direction in directions]
        if cells[0] is None:
            cells = [reader.child(child, "cell")]
        variables = [reader.child(cell, "vars") for cell in cells]
        if hasattr(variables[0], "items"):
            arrays = [reader.array(each, k) for each in variables for k in range(len(each))]
            yield reader.layer_name(reader.child(child, "vars"), names.get(child.name, key)), arrays
        else:
            yield from _layers(child, names, reader)

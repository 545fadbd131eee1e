"""Reader of Keras's files: settings and arrays of the recurrent layers, by the layers' names."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from canton.errors import UserError, require
from canton.interop.hdf5 import SafeReader
from canton.io.atomic import os_error_reason

JSON = dict[str, Any]
CONVOLUTIONS = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
CLASSES = ("GRU", "LSTM", "SimpleRNN", *CONVOLUTIONS)
_KERAS_2_ARRAYS = ("kernel", "recurrent_kernel", "bias")
Directions = list[list[list[Any]]]
"""The arrays of one layer, by direction, then by cell: an RNN over StackedRNNCells has several."""


class Archive(NamedTuple):
    """The recurrent layers of a file.

    Attributes:
        configs: the layers' settings by name; None if the file has weights only.
        arrays: the layers' arrays by name.
        keras_2: whether the file is in the HDF5 format of Keras 2.
    """

    configs: dict[str, JSON] | None
    arrays: dict[str, Directions]
    keras_2: bool


def read_archive(path: Path) -> Archive:
    """Return the recurrent layers of a .keras, .weights.h5 or .h5 file.

    Raises:
        UserError: the file cannot be read or is not one of Keras; or h5py is not installed.
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
            reader = SafeReader(path, file, _max_bytes(path))
            if keras_2 := "layer_names" in file.attrs or "model_config" in file.attrs:
                if "model_config" in file.attrs:
                    config = json.loads(reader.text(file, "model_config"))
                    configs = {c["config"]["name"]: c for c in _recurrent_entries(config)}
                    weights = reader.child(file, "model_weights")
                else:
                    weights = file
                arrays = dict(_layers_of_keras_2(weights, configs or {}, reader))
            else:
                arrays = dict(_layers(file, names, reader))
    except OSError as error:  # HDF5's own errors have no errno
        known = error.errno and error.strerror
        why = os_error_reason(error) if known else "it is damaged or not a Keras 3 file"
        raise UserError(f"cannot read {path}: {why}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, MemoryError) as error:
        raise UserError(f"{path} is damaged or not a Keras 3 file") from error
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged or not a Keras 3 file: {error}") from error
    return Archive(configs, arrays, keras_2)


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
        if node.get("class_name") in (*CLASSES, "RNN", "Bidirectional"):
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


def _layers(group: Any, names: dict[str, str], reader: SafeReader) -> Iterator[tuple[str, Directions]]:
    """Yield name and arrays of every recurrent layer below an HDF5 group."""
    for key in group:
        child = reader.child(group, key)
        if not hasattr(child, "items"):
            continue
        directions = [reader.child(child, f"{name}_layer") for name in ("forward", "backward")]
        cells = [reader.child(direction, "cell") for direction in directions]
        if cells[0] is None:
            cells = [reader.child(child, "cell")]
        variables = [list(_variables(cell, reader)) for cell in cells]
        if variables[0]:
            arrays = [[_arrays(part, reader) for part in each] for each in variables]
            yield reader.layer_name(reader.child(child, "vars"), names.get(child.name, key)), arrays
        else:
            yield from _layers(child, names, reader)


def _variables(cell: Any, reader: SafeReader) -> Iterator[Any]:
    """Yield the group of arrays of a cell, or of each of StackedRNNCells in their order."""
    own = reader.child(cell, "vars")
    stacked = reader.child(cell, "cells")
    if not hasattr(stacked, "items"):
        if hasattr(own, "items"):
            yield own
        return
    numbers = {key: re.fullmatch(r"(.*?)(?:_(\d+))?", key, re.S) for key in stacked}
    kinds = {match[1] for match in numbers.values() if match}
    if len(kinds) > 1:
        raise reader.refusal(stacked.name, f"has cells of several classes: {', '.join(sorted(kinds))}")
    for key in sorted(stacked, key=lambda key: int((numbers[key] or "")[2] or 0)):
        variables = reader.child(reader.child(stacked, key), "vars")
        if not hasattr(variables, "items"):
            raise reader.refusal(f"{stacked.name}/{key}", "has no arrays")
        yield variables


def _arrays(variables: Any, reader: SafeReader) -> list[Any]:
    return [reader.array(variables, str(k)) for k in range(len(variables))]


def _layers_of_keras_2(
    group: Any, configs: dict[str, JSON], reader: SafeReader
) -> Iterator[tuple[str, Directions]]:
    """Yield name and arrays of every recurrent layer in the HDF5 format of Keras 2.

    Each layer is a group with the paths of its arrays, such as "gru/gru_cell/recurrent_kernel:0", in
    ``weight_names``. The group of a nested model has the arrays of all its layers.
    """
    for key in group:
        child = reader.child(group, key)
        if not hasattr(child, "items") or "weight_names" not in child.attrs:
            continue
        cells: dict[str, dict[str, str]] = {}  # by the path without the last part, in the order of Keras
        for path in reader.texts(child, "weight_names"):
            parent, _, leaf = path.rpartition("/")
            cells.setdefault(parent, {})[leaf.partition(":")[0]] = path
        cells = {parent: leaves for parent, leaves in cells.items() if "recurrent_kernel" in leaves}
        owners = {parent: parent.partition("/")[0] for parent in cells}
        if key in configs or len(set(owners.values())) == 1:
            owners = dict.fromkeys(cells, key)
        for name in dict.fromkeys(owners.values()):
            own = {parent: cells[parent] for parent in cells if owners[parent] == name}
            found = {
                parent: [reader.array(child, leaves[leaf]) for leaf in _KERAS_2_ARRAYS if leaf in leaves]
                for parent, leaves in own.items()
            }
            backward = [parent for parent in found if re.search("(^|/)backward_", parent)]
            forward = [parent for parent in found if parent not in backward]
            yield name, [[found[parent] for parent in each] for each in (forward, backward) if each]

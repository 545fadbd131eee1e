"""Keras's files: load a recurrent layer from .keras, .weights.h5 and Keras 2's .h5, save a stack of layers.

A .keras file is a zip of config.json, metadata.json and model.weights.h5. h5py is required, Keras is not. The
conversion is that of `canton.interop.keras`. Nothing in a file is executed.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from canton.cells.gru import GRUCell
from canton.cells.rnn import RNNCell
from canton.core.cell import Cell
from canton.core.recurrent import Recurrent
from canton.errors import UserError, require
from canton.interop import keras
from canton.interop.gate_matrices import gate_matrices, plain_cells
from canton.interop.keras_archive import CLASSES, CONVOLUTIONS, JSON, Directions, read_archive
from canton.io.atomic import atomic_write


def load_keras(
    path: str | Path, name: str | None = None, *, reset_after: bool | None = None
) -> Recurrent[Any]:
    """Return the recurrent layer `name` of a .keras, .weights.h5 or Keras 2 .h5 file.

    An RNN over a GRUCell, LSTMCell or SimpleRNNCell is read like the layer of that cell, and StackedRNNCells
    like a stack. A file of weights only has no settings, so Keras's defaults are assumed (tanh and sigmoid,
    no dilation, forward in time, ``merge_mode="concat"``), and ``padding="same"``. The settings in a .keras
    file and in a model's .h5 file are checked.

    Args:
        path: the file.
        name: the layer's name in Keras (default: the only recurrent layer). Files of Keras 3.0 number their
            layers: gru, gru_1 ... in a .weights.h5 file.
        reset_after: required for a GRU without bias in a file of weights only, which does not contain it.

    Returns:
        A `canton.GRU`, `LSTM`, `RNN` or ConvLSTM with ``batch_first=True``, or a plain `Recurrent` if the
        cells or the two layers of a Bidirectional have different settings.

    Raises:
        ValueError: there is no such layer, or Canton has none that computes the same: another activation,
            go_backwards, strides, padding="valid", a merge_mode other than "concat".
        UserError: the file cannot be read or is not one of Keras; or h5py is not installed.
    """
    path = Path(path)
    configs, arrays, keras_2 = read_archive(path)
    if name is None and len(arrays) == 1:
        (name,) = arrays
    if name not in arrays:
        names = ", ".join(sorted(arrays)) or "(none)"
        raise ValueError(f"name must be a recurrent layer of {path}, one of {names}, got {name!r}")
    if configs is not None and name not in configs:
        raise UserError(f"{path} has arrays of a layer {name!r} without settings")
    directions = arrays[name]
    for cell in (cell for cells in directions for cell in cells):
        if len(cell) < 2 or cell[1].ndim < 2 or not cell[1].size:
            raise UserError(f"{path} is damaged or not a Keras 3 file: {name} has no recurrent kernel")
    if configs is None:
        if keras_2 and directions[0][0][1].ndim > 2:
            raise ValueError(
                f"{name} must be in a file with settings: Keras 2's ConvLSTM uses hard_sigmoid by default"
            )
        layers = [[keras.from_keras(cell, reset_after=reset_after) for cell in cells] for cells in directions]
        return _join(layers, name)
    try:
        return _layer(configs[name], directions)
    except (KeyError, TypeError, AttributeError) as error:  # a setting that every Keras 3 file has
        raise UserError(f"{path} is damaged or not a Keras 3 file: no setting {error}") from error


def save_keras(layer: Recurrent, path: str | Path, *, image_size: tuple[int, ...] | None = None) -> None:
    """Save `layer` as a Keras file: a Sequential model with one Keras layer for each layer of the stack.

    Load a .keras file with ``keras.models.load_model(path)``, a .weights.h5 file with ``load_weights(path)``
    of a Sequential model of the same layers.

    Args:
        layer: the layer, in float32.
        path: the file; it ends in .keras or .weights.h5.
        image_size: size of the spatial axes, for a convolutional layer in a .keras file.

    Raises:
        ValueError: Keras has no such layer, or `image_size` is missing or of another length.
        UserError: the file cannot be written; an existing file is unchanged.
    """
    h5py = require("h5py", extra="weights")
    path = Path(path)
    if not path.name.endswith((".keras", ".weights.h5")):
        raise ValueError(f"path must end in .keras or .weights.h5, got {str(path)!r}")
    cells = plain_cells(layer, keras.TARGET)
    directions = layer.directions
    singles = [
        Recurrent(cells[k : k + directions], bidirectional=directions == 2, batch_first=True)
        for k in range(0, len(cells), directions)
    ]
    weights = [keras.to_keras(single) for single in singles]
    kinds = [_class_name(single, arrays[0].ndim - 2) for single, arrays in zip(singles, weights, strict=True)]
    model = _model(singles, kinds, weights, image_size) if path.suffix == ".keras" else None
    content = BytesIO()
    with h5py.File(content, "w") as file:
        file.create_group("vars").attrs["name"] = "canton"
        for k, (kind, arrays) in enumerate(zip(kinds, weights, strict=True)):
            _write_layer(file, kind, k, directions, arrays)
    with atomic_write(path) as out:
        if model is None:
            out.write(content.getvalue())
        else:
            _zip(out, model, content.getvalue())


def _zip(out: Any, model: JSON, weights: bytes) -> None:
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0", "date_saved": ""}))
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("model.weights.h5", weights)


def _layer(entry: JSON, directions: Directions) -> Recurrent[Any]:
    """Return the layer with these settings and arrays."""
    name, entries = entry["config"]["name"], [entry]
    if entry["class_name"] == "Bidirectional":
        config = entry["config"]
        _check_setting(config, "merge_mode", "concat")
        forward = config["layer"]
        backward = config.get("backward_layer")
        if backward is None:  # Keras makes it of the forward layer
            backward = {**forward, "config": {**forward["config"], "go_backwards": True}}
        if forward["class_name"] != backward["class_name"]:
            raise ValueError(f"{name} must have one layer class for both directions")
        _check_setting(backward["config"], "go_backwards", True)
        entries = [forward, {**backward, "config": {**backward["config"], "go_backwards": False}}]
    if len(directions) != len(entries):
        raise ValueError(f"{name} must have weights of {len(entries)} directions, got {len(directions)}")
    return _join([_cells(*pair) for pair in zip(entries, directions, strict=True)], name)


def _cells(entry: JSON, arrays: list[list[Any]]) -> list[Recurrent[Any]]:
    """Return a layer for each cell of one direction."""
    entries, config = [entry], entry["config"]
    _check_setting(config, "go_backwards", False)
    if entry["class_name"] == "RNN":
        cell = config["cell"]
        entries = cell["config"]["cells"] if cell["class_name"] == "StackedRNNCells" else [cell]
        entries = [{**each, "class_name": each["class_name"].removesuffix("Cell")} for each in entries]
    if len(entries) != len(arrays):
        raise ValueError(f"{config['name']} must have weights of {len(entries)} cells, got {len(arrays)}")
    return [_one_cell(*pair) for pair in zip(entries, arrays, strict=True)]


def _one_cell(entry: JSON, arrays: list[Any]) -> Recurrent[Any]:
    """Return the layer of one cell."""
    kind, config = _check_settings(entry)
    layer: Recurrent[Any]
    if kind == "GRU":
        layer = keras.from_keras(arrays, reset_after=config["reset_after"])
    elif kind == "SimpleRNN":
        layer = keras.from_keras(arrays, activation=config["activation"])
    elif kind == "LSTM":
        layer = keras.from_keras(arrays)
    else:
        rate = config["dilation_rate"]
        layer = keras.from_keras(arrays, dilation_rate=rate if isinstance(rate, int) else tuple(rate))
    if _class_name(layer, arrays[0].ndim - 2) != kind:
        raise ValueError(f"{config['name']} is a {kind}, got the weights of another layer")
    return layer


def _join(directions: Sequence[Sequence[Recurrent[Any]]], name: str) -> Recurrent[Any]:
    """Return the layer of one or two directions, each a layer for each cell."""
    if len(directions) == 1:
        return keras.join_layers(*directions[0])
    if any(len(cells) != 1 for cells in directions):  # each of Keras's directions runs its cells by itself
        raise ValueError(f"{name} must not be a Bidirectional over StackedRNNCells")
    return keras.join_layers(*(cells[0] for cells in directions), bidirectional=True)


def _check_settings(entry: JSON) -> tuple[str, JSON]:
    """Check a layer's settings, and return its class name and settings."""
    kind, config = entry["class_name"], entry["config"]
    if kind not in CLASSES:
        raise ValueError(
            f"{config['name']} must be one of {', '.join(CLASSES)} or of their cells, got {kind}"
        )
    _check_setting(config, "activation", *(("tanh", "relu") if kind == "SimpleRNN" else ("tanh",)))
    if kind != "SimpleRNN":
        _check_setting(config, "recurrent_activation", "sigmoid")
    if kind in CONVOLUTIONS:
        strides = config["strides"]
        if set([strides] if isinstance(strides, int) else strides) != {1}:
            raise ValueError(f"{config['name']}: strides must be 1, got strides={strides}")
        _check_setting(config, "padding", "same")
    return kind, config


def _check_setting(config: JSON, key: str, *allowed: Any) -> None:
    if config[key] not in allowed:
        values = " or ".join(map(repr, allowed))
        raise ValueError(f"{config['name']}: {key} must be {values}, got {key}={config[key]!r}")


def _class_name(layer: Recurrent, spatial_dims: int) -> str:
    """Return the name of the Keras class."""
    cell = layer.cells[0]
    if isinstance(cell, GRUCell):
        return "GRU"
    if isinstance(cell, RNNCell):
        return "SimpleRNN"
    return f"ConvLSTM{spatial_dims}D" if spatial_dims else "LSTM"


def _write_layer(file: Any, kind: str, k: int, directions: int, weights: list[Any]) -> None:
    snake_case = {"SimpleRNN": "simple_rnn"}.get(kind, kind.lower().replace("convlstm", "conv_lstm"))
    # Keras numbers the layers of a class; here all layers are of one class.
    group_name = "bidirectional" if directions == 2 else snake_case
    group = file.create_group(f"layers/{group_name}{f'_{k}' if k else ''}")
    group.create_group("vars").attrs["name"] = f"layer_{k}"
    prefixes = ("forward_layer/", "backward_layer/") if directions == 2 else ("",)
    count = len(weights) // directions
    for d, prefix in enumerate(prefixes):
        variables = group.create_group(f"{prefix}cell/vars")
        for n, array in enumerate(weights[d * count : (d + 1) * count]):
            variables[str(n)] = array


def _model(
    layers: list[Recurrent], kinds: list[str], weights: list[list[Any]], image_size: tuple[int, ...] | None
) -> JSON:
    """Return the config of a Sequential model."""
    spatial_dims = weights[0][0].ndim - 2
    size = () if image_size is None else tuple(image_size)
    if len(size) != spatial_dims:
        raise ValueError(f"image_size must be {spatial_dims} sizes, got {image_size}")
    shape = [None, None, *size, layers[0].input_size]
    entries = [{"class_name": "InputLayer", "config": {"batch_shape": shape, "name": "input"}}]
    for k, (layer, kind, arrays) in enumerate(zip(layers, kinds, weights, strict=True)):
        shape = [None, None, *size, layer.input_size]
        config = _config(kind, f"layer_{k}", layer, arrays)
        entry = {"class_name": kind, "config": config}
        if layer.directions == 2:
            inner = {"module": "keras.layers", "registered_name": None}
            backward = {**config, "name": f"backward_layer_{k}", "go_backwards": True}
            pair = {
                "layer": {**inner, "class_name": kind, "config": {**config, "name": f"forward_layer_{k}"}},
                "backward_layer": {**inner, "class_name": kind, "config": backward},
            }
            entry = {
                "class_name": "Bidirectional",
                "config": {"name": f"layer_{k}", "merge_mode": "concat", **pair},
            }
        entries.append({**entry, "build_config": {"input_shape": shape}})
    layered = [{"module": "keras.layers", "registered_name": None, **entry} for entry in entries]
    config = {"name": "canton", "trainable": True, "layers": layered}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}


def _config(kind: str, name: str, layer: Recurrent, weights: list[Any]) -> JSON:
    """Return the config of one layer."""
    config: JSON = {"name": name, "return_sequences": True, "go_backwards": False}
    config["use_bias"] = len(weights) // layer.directions == 3
    cell = layer.cells[0]
    assert isinstance(cell, Cell)
    config["activation"] = cell.nonlinearity if isinstance(cell, RNNCell) else "tanh"
    units = weights[1].shape[-2]
    if kind != "SimpleRNN":
        config["recurrent_activation"] = "sigmoid"
    if kind not in CONVOLUTIONS:
        config["units"] = units
        if isinstance(cell, GRUCell):
            config["reset_after"] = cell.reset == "after"
        return config
    dilation = gate_matrices(cell, keras.TARGET).input_dilation
    rate = list(dilation) if isinstance(dilation, tuple) else dilation
    kernel = list(weights[0].shape[:-2])
    strides = [1] * len(kernel)
    config.update(filters=units, kernel_size=kernel, strides=strides, dilation_rate=rate, padding="same")
    return config

"""Keras 3's files, .keras and .weights.h5: a recurrent layer out of one, a stack of layers into one.

A .keras file is a zip of config.json, metadata.json and model.weights.h5; Keras itself is not needed, h5py
is. The layers and their algebra are those of `canton.interop.keras`. Nothing in the file is executed.
"""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

from canton.cells.gru import GRUCell
from canton.cells.rnn import RNNCell
from canton.core.recurrent import Recurrent
from canton.errors import UserError, require
from canton.interop import keras
from canton.interop.gate_matrices import cells_of, take_apart
from canton.interop.keras_archive import CONVOLUTIONS, JSON, opened
from canton.io.atomic import atomic_write


def read(path: str | Path, name: str | None = None, *, reset_after: bool | None = None) -> Recurrent:
    """The recurrent layer `name` of a .keras or .weights.h5 file.

    A .weights.h5 file holds numbers alone: of what they leave open, Keras's defaults are taken (tanh and
    sigmoid, no dilation, padding="same", forward in time). A .keras file says all of it, and what Canton does
    not have is refused.

    Args:
        path: the file.
        name: the layer's name in Keras; may be left out if there is one recurrent layer only. Files of
            Keras's first releases (3.0) only count their layers: in a .weights.h5 they are gru, gru_1 ...
        reset_after: of a GRU without bias in a .weights.h5 file, which does not tell.

    Raises:
        ValueError: no such layer, or one that computes what no Canton layer does: another activation (Keras
            2's ConvLSTM had hard_sigmoid), go_backwards, strides, padding="valid", a merge mode other than
            "concat".
        UserError: the file cannot be read, or is none of Keras's; or h5py is not installed.
    """
    path = Path(path)
    configs, found = opened(path)
    if name is None and len(found) == 1:
        (name,) = found
    if name not in found:
        asked = "several recurrent layers" if name is None else f"no recurrent layer {name!r}"
        raise ValueError(f"{path} has {asked}: name is one of {', '.join(sorted(found)) or '(it has none)'}")
    if configs is None:
        if len(found[name]) < 2 or found[name][1].ndim < 2 or not found[name][1].size:
            raise UserError(f"{path} is damaged, or no file of Keras 3: {name} has no recurrent kernel")
        return _by_shape(found[name], reset_after)
    try:
        return _by_config(configs[name], found[name])
    except (KeyError, TypeError, AttributeError) as error:  # a setting that every file of Keras 3 has
        raise UserError(f"{path} is damaged, or no file of Keras 3: it says no {error}") from error


def write(path: str | Path, layer: Recurrent, *, image_size: tuple[int, ...] | None = None) -> None:
    """Write `layer` as a Keras file: a Sequential model of one Keras layer for each of its own.

    A .keras file is loaded with ``keras.models.load_model(path)``; a .weights.h5 file with
    ``load_weights(path)`` of a Sequential model of the same layers.

    Args:
        path: ends in .keras or .weights.h5.
        layer: its dtype should be float32, Keras's own.
        image_size: for a convolutional layer in a .keras file: Keras's ConvLSTM wants to know the size.

    Raises:
        ValueError: Keras has no such layer, or `image_size` is missing or of a wrong length.
        UserError: the file cannot be written; an earlier one is then untouched.
    """
    h5py = require("h5py", extra="weights")
    path = Path(path)
    if not path.name.endswith((".keras", ".weights.h5")):
        raise ValueError(f"path is {str(path)!r}: it ends in .keras or .weights.h5")
    cells = cells_of(layer, keras.SYSTEM)
    each = layer.directions
    singles = [
        Recurrent(cells[k : k + each], bidirectional=each == 2, batch_first=True)
        for k in range(0, len(cells), each)
    ]
    arrays = [keras.to_arrays(single) for single in singles]
    kinds = [_class_of(single, weights[0].ndim - 2) for single, weights in zip(singles, arrays, strict=True)]
    if path.suffix == ".keras":
        model = _model(singles, kinds, arrays, image_size)
    content = BytesIO()
    with h5py.File(content, "w") as file:
        file.create_group("vars").attrs["name"] = "canton"
        for k, (kind, weights) in enumerate(zip(kinds, arrays, strict=True)):
            _write_layer(file, kind, k, each, weights)
    with atomic_write(path) as out:
        if path.suffix != ".keras":
            out.write(content.getvalue())
            return
        _zip(out, model, content.getvalue())


def _zip(out: Any, model: JSON, weights: bytes) -> None:
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0", "date_saved": ""}))
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("model.weights.h5", weights)


def _by_shape(arrays: list[Any], reset_after: bool | None) -> Recurrent:
    recurrent = arrays[1]
    gates = recurrent.shape[-1] // recurrent.shape[-2]
    if recurrent.ndim > 2:
        return keras.conv_lstm(arrays)
    if gates == 3:
        return keras.gru(arrays, reset_after=reset_after)
    return keras.lstm(arrays) if gates == 4 else keras.simple_rnn(arrays)


def _by_config(entry: JSON, arrays: list[Any]) -> Recurrent:
    if entry["class_name"] == "Bidirectional":
        config = entry["config"]
        _demand(config, "merge_mode", "concat")
        forward, backward = config["layer"], config.get("backward_layer") or config["layer"]
        if forward["class_name"] != backward["class_name"]:
            raise ValueError(f"{config['name']} runs different layers in its two directions")
        backward = {**backward, "config": {**backward["config"], "go_backwards": False}}
        _check(backward)
        entry = forward
    kind, config = _check(entry)
    if kind == "GRU":
        return keras.gru(arrays, reset_after=config["reset_after"])
    if kind == "LSTM":
        return keras.lstm(arrays)
    if kind == "SimpleRNN":
        return keras.simple_rnn(arrays, activation=config["activation"])
    rate = config["dilation_rate"]
    return keras.conv_lstm(arrays, dilation_rate=rate if isinstance(rate, int) else tuple(rate))


def _check(entry: JSON) -> tuple[str, JSON]:
    kind, config = entry["class_name"], entry["config"]
    _demand(config, "go_backwards", False)
    _demand(config, "activation", *(("tanh", "relu") if kind == "SimpleRNN" else ("tanh",)))
    if kind != "SimpleRNN":
        _demand(config, "recurrent_activation", "sigmoid")
    if kind in CONVOLUTIONS:
        strides = config["strides"]
        if set([strides] if isinstance(strides, int) else strides) != {1}:
            raise ValueError(f"{config['name']} has strides={strides}: a Canton map keeps the size: 1")
        _demand(config, "padding", "same")
    return kind, config


def _demand(config: JSON, key: str, *allowed: Any) -> None:
    if config[key] not in allowed:
        ways = " or ".join(map(repr, allowed))
        raise ValueError(f"{config['name']} has {key}={config[key]!r}: Canton can express {ways} only")


def _class_of(layer: Recurrent, axes: int) -> str:
    cell = layer.cells[0]
    if axes:
        return f"ConvLSTM{axes}D"
    return "GRU" if isinstance(cell, GRUCell) else "SimpleRNN" if isinstance(cell, RNNCell) else "LSTM"


def _write_layer(file: Any, kind: str, k: int, directions: int, weights: list[Any]) -> None:
    plain = {"SimpleRNN": "simple_rnn"}.get(kind, kind.lower().replace("convlstm", "conv_lstm"))
    # Keras names a group after the layer's class and counts within a class; here all layers are of one class
    group = file.create_group(f"layers/{'bidirectional' if directions == 2 else plain}{f'_{k}' if k else ''}")
    group.create_group("vars").attrs["name"] = f"layer_{k}"
    ways = ("forward_layer/", "backward_layer/") if directions == 2 else ("",)
    each = len(weights) // directions
    for d, way in enumerate(ways):
        variables = group.create_group(f"{way}cell/vars")
        for n, array in enumerate(weights[d * each : (d + 1) * each]):
            variables[str(n)] = array


def _model(
    layers: list[Recurrent], kinds: list[str], arrays: list[Any], image_size: tuple[int, ...] | None
) -> JSON:
    axes = arrays[0][0].ndim - 2
    size = () if image_size is None else tuple(image_size)
    if len(size) != axes:
        raise ValueError(f"image_size is {image_size}: the layer's images have {axes} axes")
    shape = [None, None, *size, layers[0].input_size]
    entries = [{"class_name": "InputLayer", "config": {"batch_shape": shape, "name": "input"}}]
    for k, (layer, kind, weights) in enumerate(zip(layers, kinds, arrays, strict=True)):
        shape = [None, None, *size, layer.input_size]
        config = _config(kind, f"layer_{k}", layer, weights)
        entry = {"class_name": kind, "config": config}
        if layer.directions == 2:
            inner = {"module": "keras.layers", "registered_name": None}
            back = {**config, "name": f"backward_layer_{k}", "go_backwards": True}
            pair = {
                "layer": {**inner, "class_name": kind, "config": {**config, "name": f"forward_layer_{k}"}},
                "backward_layer": {**inner, "class_name": kind, "config": back},
            }
            wrapped = {"name": f"layer_{k}", "merge_mode": "concat", **pair}
            entry = {"class_name": "Bidirectional", "config": wrapped}
        entries.append({**entry, "build_config": {"input_shape": shape}})
    layered = [{"module": "keras.layers", "registered_name": None, **entry} for entry in entries]
    config = {"name": "canton", "trainable": True, "layers": layered}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}


def _config(kind: str, name: str, layer: Recurrent, weights: list[Any]) -> JSON:
    config: JSON = {"name": name, "return_sequences": True, "go_backwards": False}
    config["use_bias"] = len(weights) // layer.directions == 3
    cell = layer.cells[0]
    config["activation"] = cell.nonlinearity if isinstance(cell, RNNCell) else "tanh"
    hidden = weights[1].shape[-2]
    if kind != "SimpleRNN":
        config["recurrent_activation"] = "sigmoid"
    if kind not in CONVOLUTIONS:
        config["units"] = hidden
        if isinstance(cell, GRUCell):
            config["reset_after"] = cell.reset == "after"
        return config
    dilation = take_apart(cell, keras.SYSTEM).dilation  # type: ignore[arg-type]  # cells_of has seen it
    rate = list(dilation) if isinstance(dilation, tuple) else dilation
    kernel = list(weights[0].shape[:-2])
    strides = [1] * len(kernel)
    config.update(filters=hidden, kernel_size=kernel, strides=strides, dilation_rate=rate, padding="same")
    return config

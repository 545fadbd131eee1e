"""Keras files: load, save, and refuse layers that Canton cannot compute."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peers import RECORDED

import canton
from canton.errors import UserError
from canton.interop import keras_files
from tolerances import assert_close

h5py = pytest.importorskip("h5py", reason="h5py is not installed (canton-torch[weights])")


def recorded(name: str, system: str = "keras") -> tuple[torch.Tensor, torch.Tensor]:
    with np.load(RECORDED / f"{system}.npz") as table:
        return torch.from_numpy(table[f"{name}/x"]), torch.from_numpy(table[f"{name}/y"])


def edited(tmp_path: Path, source: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """Return a copy of a recorded .keras file; `change` edits its recurrent layers' settings."""

    def walk(node: Any) -> None:
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(child)
        if isinstance(node, dict) and node.get("class_name") in (
            "GRU",
            "LSTM",
            "SimpleRNN",
            "ConvLSTM2D",
            "Bidirectional",
        ):
            change(node["config"])

    path = tmp_path / source
    with zipfile.ZipFile(RECORDED / source) as old, zipfile.ZipFile(path, "w") as new:
        config = json.loads(old.read("config.json"))
        walk(config)
        new.writestr("config.json", json.dumps(config))
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
    return path


@pytest.mark.parametrize(("file", "system"), [("text.keras", "keras"), ("text_30.keras", "keras_30")])
def test_a_text_model_layer_by_layer(file: str, system: str) -> None:
    x, expected = recorded("text_file", system)
    for name in ("first", "second", "third"):
        x, _ = keras_files.load_keras(RECORDED / file, name)(x)
    assert_close(x, expected)


def test_a_weights_file_of_keras_3_0_numbers_its_layers(tmp_path: Path) -> None:
    path = tmp_path / "text.weights.h5"
    with zipfile.ZipFile(RECORDED / "text_30.keras") as archive:
        path.write_bytes(archive.read("model.weights.h5"))
    with pytest.raises(ValueError, match=r"name must .* bidirectional, gru, gru_1"):
        keras_files.load_keras(path)
    assert keras_files.load_keras(path, "gru_1").cells[0].reset == "before"


def test_a_video_model_needs_no_name() -> None:
    x, expected = recorded("video_file")
    y, _ = keras_files.load_keras(RECORDED / "video.keras")(x.movedim(-1, 2))
    assert_close(y.movedim(2, -1), expected)


def test_a_weights_file_gives_the_same_layer() -> None:
    alone = keras_files.load_keras(RECORDED / "first.weights.h5")
    for name, value in keras_files.load_keras(RECORDED / "text.keras", "first").state_dict().items():
        assert torch.equal(alone.state_dict()[name], value)


def test_the_name_is_checked() -> None:
    with pytest.raises(ValueError, match=r"name must .* first, second, third"):
        keras_files.load_keras(RECORDED / "text.keras")
    with pytest.raises(ValueError, match=r"name must .* 'fourth'"):
        keras_files.load_keras(RECORDED / "text.keras", "fourth")


BRANCHES = ["tanh_relu", "after_before", "cell", "stack"]


@pytest.mark.parametrize("name", BRANCHES)
@pytest.mark.parametrize(("file", "system"), [("mixed.keras", "keras_mixed"), ("keras_2.h5", "keras_2")])
def test_every_cell_has_its_own_settings(file: str, system: str, name: str) -> None:
    """The two layers of a Bidirectional differ, and so do the two of a stack; Keras 3 and 2."""
    with np.load(RECORDED / f"{system}.npz") as table:
        x, expected = (torch.from_numpy(table[f"mixed_file/{key}"]) for key in ("x", name))
    y, _ = keras_files.load_keras(RECORDED / file, name)(x)
    assert_close(y, expected)


def test_weights_alone_of_keras_2(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(RECORDED / "keras_2.h5") as model, h5py.File(path, "w") as weights:
        for key in model["model_weights"]:
            model["model_weights"].copy(key, weights)
        weights.attrs["layer_names"] = model["model_weights"].attrs["layer_names"]
    alone = keras_files.load_keras(path, "cell")
    for key, value in keras_files.load_keras(RECORDED / "keras_2.h5", "cell").state_dict().items():
        assert torch.equal(alone.state_dict()[key], value)
    with pytest.raises(ValueError, match="reset_after"):  # the two layers of after_before have no bias
        keras_files.load_keras(path, "after_before")


@pytest.mark.parametrize("filters", [{}, {"compression": "gzip", "shuffle": True, "fletcher32": True}])
def test_arrays_in_chunks(filters: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "layer.weights.h5"
    layer = canton.LSTM(3, 4)
    keras_files.save_keras(layer, path)
    with h5py.File(path, "a") as file:
        variables = file["layers/lstm/cell/vars"]
        for key in list(variables):
            numbers = variables[key][()]
            del variables[key]
            variables.create_dataset(key, data=numbers, chunks=(3, 5)[-numbers.ndim :], **filters)
    again = keras_files.load_keras(path)
    for key, value in layer.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


REFUSED = {
    "hard_sigmoid": ("video.keras", {"recurrent_activation": "hard_sigmoid"}, "'hard_sigmoid'"),
    "relu": ("video.keras", {"activation": "relu"}, "activation='relu'"),
    "valid": ("video.keras", {"padding": "valid"}, "padding='valid'"),
    "strides": ("video.keras", {"strides": [2, 2]}, r"strides=\[2, 2\]"),
    "backwards": ("video.keras", {"go_backwards": True}, "go_backwards=True"),
    "backwards twice": ("mixed.keras", {"go_backwards": False}, "go_backwards=False"),
    "merge_mode": ("text.keras", {"merge_mode": "sum"}, "merge_mode='sum'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_canton_does_not_have_is_refused(case: str, tmp_path: Path) -> None:
    source, setting, reason = REFUSED[case]
    key = next(iter(setting))
    path = edited(tmp_path, source, lambda config: config.update(setting if key in config else {}))
    with pytest.raises(ValueError, match=reason) as caught:
        keras_files.load_keras(path, {"text.keras": "third", "mixed.keras": "tanh_relu"}.get(source))
    assert "\n" not in str(caught.value)


def test_a_gru_without_bias_needs_reset_after(tmp_path: Path) -> None:
    path, layer = tmp_path / "gru.weights.h5", canton.GRU(3, 4, bias=False)
    keras_files.save_keras(layer, path)
    with pytest.raises(ValueError, match="reset_after"):
        keras_files.load_keras(path)
    xs = torch.randn(2, 5, 3)
    again = keras_files.load_keras(path, reset_after=False)
    assert_close(again(xs)[0], layer(xs.transpose(0, 1))[0].transpose(0, 1))


def pack(path: Path, config: str, weights: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", weights)


def strip(path: Path) -> None:
    """Write a valid file without the layers' settings."""
    with zipfile.ZipFile(RECORDED / "video.keras") as archive:
        pack(path, json.dumps({"config": {}}), archive.read("model.weights.h5"))


DAMAGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda path: None, "no such file"),
    "a folder": (Path.mkdir, "is a directory"),
    "no zip": (lambda path: path.write_bytes(b"PK is not enough"), "Keras 3"),
    "cut short": (lambda path: path.write_bytes((RECORDED / "text.keras").read_bytes()[:9000]), "damaged"),
    "no config": (lambda path: zipfile.ZipFile(path, "w").close(), "Keras 3"),
    "config of no JSON": (lambda path: pack(path, "{", b""), "Keras 3"),
    "brackets": (lambda path: pack(path, "[" * 10**5, b""), "damaged"),
    "config of a list": (lambda path: pack(path, "[]", b""), "Keras 3"),
    "no numbers": (lambda path: pack(path, '{"config": {}}', b"none"), "Keras 3"),
    "bomb": (lambda path: pack(path, '{"config": {}}', b"0" * 10**7), "unpacks to 10,000,014 bytes"),
    "settings gone": (strip, "'watch'"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    make, match = DAMAGED[case]
    path = tmp_path / "model.keras"
    make(path)
    with pytest.raises(UserError, match=match) as caught:
        keras_files.load_keras(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_weights_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    for content in (b"", b"no HDF5", (RECORDED / "first.weights.h5").read_bytes()[:3000]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="Keras 3"):
            keras_files.load_keras(path)


def test_a_large_shape_and_a_cycle_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/gru/cell/vars/0", shape=(10**6, 10**6), dtype="f4")  # not a byte of it
    with pytest.raises(UserError, match="4,000,000,000,000 bytes"):
        keras_files.load_keras(path)
    with h5py.File(path, "w") as file:
        group = file.create_group("layers")
        group["again"] = group
    with pytest.raises(UserError, match="Keras 3"):
        keras_files.load_keras(path)


@pytest.mark.parametrize("seed", range(60))
def test_changed_bytes_are_refused_or_harmless(seed: int, tmp_path: Path) -> None:
    generator, path = np.random.default_rng(seed), tmp_path / "model.weights.h5"
    content = bytearray((RECORDED / "first.weights.h5").read_bytes())
    for position in generator.integers(len(content), size=8):
        content[position] = generator.integers(256)
    path.write_bytes(content)
    message = ""
    try:
        keras_files.load_keras(path)
    except ValueError as error:  # UserError among them
        message = str(error)
    assert "\n" not in message


def test_a_missing_setting_is_refused(tmp_path: Path) -> None:
    path = edited(tmp_path, "video.keras", lambda config: config.pop("padding"))
    with pytest.raises(UserError, match="'padding'"):
        keras_files.load_keras(path)


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "gru.keras"
    keras_files.save_keras(canton.GRU(3, 4), path)
    before = path.read_bytes()
    with pytest.raises(UserError, match="no such file"):
        keras_files.save_keras(canton.GRU(3, 4), tmp_path / "none" / "gru.keras")
    with pytest.raises(ValueError, match="MGUCell"):
        keras_files.save_keras(canton.MGU(3, 4), path)
    assert path.read_bytes() == before


def test_reset_after_must_fit_the_bias(tmp_path: Path) -> None:
    path = edited(tmp_path, "text.keras", lambda c: c.update({"reset_after": False} if "units" in c else {}))
    with pytest.raises(ValueError, match="reset_after"):
        keras_files.load_keras(path, "first")


LAYERS = {
    "gru": (lambda: canton.GRU(3, 4, 2, bidirectional=True), None),
    "gru after": (lambda: canton.GRU(3, 4, reset="after"), None),
    "gru without bias": (lambda: canton.GRU(3, 4, bias=False, reset="after"), None),
    "lstm": (lambda: canton.LSTM(3, 4, 2), None),
    "rnn": (lambda: canton.RNN(3, 4, nonlinearity="relu"), None),
    "line": (lambda: canton.ConvLSTM1d(3, 4, 3, bidirectional=True), (7,)),
    "video": (lambda: canton.ConvLSTM2d(3, 4, (3, 2), 2), (5, 6)),
    "volume": (lambda: canton.ConvLSTM3d(3, 4, 3, bias=False), (3, 4, 5)),
}


@pytest.mark.parametrize("case", LAYERS)
def test_a_saved_layer_loads_again(case: str, tmp_path: Path) -> None:
    make, size = LAYERS[case]
    layer = make()
    path = tmp_path / "layer.keras"
    keras_files.save_keras(layer, path, image_size=size)
    keras_files.save_keras(layer, tmp_path / "layer.weights.h5")
    each = layer.directions
    for k in range(len(layer.cells) // each):
        stage = layer.cells[k * each : (k + 1) * each]
        for name, value in keras_files.load_keras(path, f"layer_{k}").cells.state_dict().items():
            assert torch.equal(value, stage.state_dict()[name])
    if case not in ("rnn", "gru without bias"):  # a weights file does not contain activation and reset
        read = keras_files.load_keras(tmp_path / "layer.weights.h5", "layer_0")
        assert torch.equal(read.cells[0].hidden_map.weight, layer.cells[0].hidden_map.weight)


def names_of(file: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    file.visititems(lambda name, item: found.update({name: getattr(item, "shape", None)}))
    return found


def test_saved_files_have_the_structure_of_keras_files(tmp_path: Path) -> None:
    """The groups and shapes are those of a file that Keras saved. (Keras 3.15.1 loads ours.)"""
    path = tmp_path / "first.weights.h5"
    keras_files.save_keras(keras_files.load_keras(RECORDED / "first.weights.h5"), path)
    with h5py.File(path) as ours, h5py.File(RECORDED / "first.weights.h5") as theirs:
        assert names_of(ours) == names_of(theirs)
    with zipfile.ZipFile(RECORDED / "text.keras") as archive:
        content = BytesIO(archive.read("model.weights.h5"))
    third = keras_files.load_keras(RECORDED / "text.keras", "third")
    keras_files.save_keras(third, tmp_path / "third.weights.h5")
    with h5py.File(tmp_path / "third.weights.h5") as ours, h5py.File(content) as theirs:
        expected = {
            k: v for k, v in names_of(theirs["layers/bidirectional"]).items() if "_layer/vars" not in k
        }
        assert names_of(ours["layers/bidirectional"]) == expected


def test_saving_refuses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="path must"):
        keras_files.save_keras(canton.GRU(3, 4), tmp_path / "layer.h5")
    with pytest.raises(ValueError, match="image_size"):
        keras_files.save_keras(canton.ConvLSTM2d(3, 4, 3), tmp_path / "layer.keras")
    with pytest.raises(ValueError, match="MGUCell"):
        keras_files.save_keras(canton.MGU(3, 4), tmp_path / "layer.keras")
    assert not list(tmp_path.iterdir())

"""Load files written by Canton with Keras 3 and the 2017 library.

Run `write` here, `load` in an environment with these libraries, `compare` here:

    python benchmarks/written_files.py write FOLDER
    python -m venv peers && peers/bin/pip install tensorflow-cpu canton==0.1.22
    peers/bin/python benchmarks/written_files.py load FOLDER
    python benchmarks/written_files.py compare FOLDER [--write benchmarks/results/written_files.json]

The 2017 library needs tensorflow.compat.v1, and np.load with allow_pickle=True, the default of its time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def keras_layers() -> dict[str, tuple[Any, tuple[int, ...] | None]]:
    """Return layers by name, with their image size."""
    import canton

    return {
        "gru_both_ways_two_layers": (canton.GRU(3, 4, 2, bidirectional=True), None),
        "gru_after": (canton.GRU(3, 4, reset="after"), None),
        "gru_before_no_bias": (canton.GRU(3, 4, bias=False), None),
        "lstm_two_layers": (canton.LSTM(3, 4, 2), None),
        "rnn_relu": (canton.RNN(3, 4, nonlinearity="relu"), None),
        "conv_lstm1d_both_ways": (canton.ConvLSTM1d(3, 4, 3, bidirectional=True), (7,)),
        "conv_lstm2d_two_layers": (canton.ConvLSTM2d(3, 4, (3, 2), 2), (5, 6)),
        "conv_lstm3d_no_bias": (canton.ConvLSTM3d(3, 4, 3, bias=False), (3, 4, 5)),
    }


def chain(cans: Any, *parts: Any) -> Any:
    can = cans.Can()
    can.incan(parts)
    can.chain()
    return can


OLD: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "dense": (lambda c: chain(c, c.Dense(5, 7), c.Act("tanh"), c.LayerNormDense(7, 3)), (4, 5)),
    "gru": (lambda c: c.GRU(5, 7), (2, 6, 5)),
    "gru_conv": (lambda c: c.GRUConv2D(3, 4, k=3), (1, 3, 5, 6, 3)),
    "pictures": (
        lambda c: chain(c, c.Conv2D(2, 4, 3, std=2), c.BatchNorm(4), c.Act("lrelu"), c.ResConv(4, 4)),
        (2, 6, 8, 2),
    ),
}
"""Models that `canton.classic` and the 2017 library build with the same code, and their input shape."""


def write(folder: Path) -> None:
    """Write files for both libraries, with an input and Canton's output for each."""
    import torch

    from canton import classic
    from canton.interop import keras_files

    torch.manual_seed(0)
    for name, (layer, size) in keras_layers().items():
        with torch.no_grad():
            for p in layer.parameters():
                p.normal_(std=0.4)
            x = torch.randn(2, 5, 3, *(size or ()))
            y, _ = layer(x.transpose(0, 1))
        keras_files.save_keras(layer, folder / f"{name}.keras", image_size=size)
        keras_files.save_keras(layer, folder / f"{name}.weights.h5")
        y = y.transpose(0, 1)
        np.savez(folder / f"keras_{name}.npz", x=x.movedim(2, -1).numpy(), y=y.movedim(2, -1).numpy())
    for name, (make, shape) in OLD.items():
        can = make(classic)
        with torch.no_grad():
            for tensor in [*can.get_weights(), *can.traverse("variables")]:
                tensor.uniform_(0.1, 0.9) if tensor.ndim < 2 else tensor.normal_(std=0.4)
        x = torch.randn(shape)
        can.save_weights(folder / f"{name}.npz", format="canton-0.1")
        np.savez(folder / f"canton_{name}.npz", x=x.numpy(), y=can.infer(x.numpy()))


def load(folder: Path) -> None:
    """Load every file in the other environment, and store the outputs."""
    found = {"loaded by": {name: version(name) for name in ("keras", "tensorflow-cpu", "canton", "numpy")}}
    results = load_keras(folder) | load_old(folder)
    np.savez(folder / "loaded.npz", **results)
    (folder / "loaded.json").write_text(json.dumps(found), "utf-8")


def load_keras(folder: Path) -> dict[str, np.ndarray]:
    import keras

    results = {}
    for path in sorted(folder.glob("keras_*.npz")):
        name = path.stem.removeprefix("keras_")
        x = np.load(path)["x"]
        model = keras.models.load_model(folder / f"{name}.keras")
        results[f"keras {name}.keras"] = np.asarray(model(x))
        model.set_weights([np.zeros_like(w) for w in model.get_weights()])
        model.load_weights(folder / f"{name}.weights.h5")
        results[f"keras {name}.weights.h5"] = np.asarray(model(x))
    return results


def load_old(folder: Path) -> dict[str, np.ndarray]:
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    sys.modules["tensorflow"] = tf
    really = np.load
    np.load = lambda file, **options: really(file, **{"allow_pickle": True, **options})
    import canton

    assert isinstance(canton, types.ModuleType)
    results = {}
    for name, (make, _) in OLD.items():
        can = make(canton)
        canton.get_session().run(canton.gvi())
        assert can.load_weights(str(folder / f"{name}.npz"))
        results[f"canton {name}"] = can.infer(np.load(folder / f"canton_{name}.npz")["x"])
    return results


def compare(folder: Path) -> dict[str, Any]:
    """Return the largest difference of each file, relative to the largest value of Canton's output."""
    figures = json.loads((folder / "loaded.json").read_text("utf-8"))
    with np.load(folder / "loaded.npz") as results:
        for key in results.files:
            system, _, file = key.partition(" ")
            with np.load(folder / f"{system}_{file.partition('.')[0]}.npz") as ours:
                y = ours["y"]
            error = float(np.abs(results[key] - y).max() / np.abs(y).max())
            figures.setdefault(system, {})[file] = error
    import canton

    return {
        "what": "files written by Canton, loaded by Keras and the 2017 library; the largest difference from "
        "Canton's output, relative to its largest value",
        "written by": {"canton": canton.__version__, "python": platform.python_version()},
        "machine": f"{platform.machine()} {platform.system()}",
        **figures,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Load Canton's files with Keras and the 2017 library.")
    parser.add_argument("step", choices=("write", "load", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", type=Path, help="JSON file for the results")
    arguments = parser.parse_args(argv)
    if arguments.step != "compare":
        {"write": write, "load": load}[arguments.step](arguments.folder)
        return
    text = json.dumps(compare(arguments.folder), indent=2) + "\n"
    print(text, end="")
    if arguments.write is not None:
        arguments.write.write_text(text, "utf-8")


if __name__ == "__main__":
    main()

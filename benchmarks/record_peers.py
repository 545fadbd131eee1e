"""Record outputs and gradients of the recurrent layers of other libraries, on small fixed inputs.

Run it in an environment for each library:

    python -m venv peers && peers/bin/pip install tensorflow-cpu flax
    peers/bin/python benchmarks/record_peers.py keras
    peers/bin/python benchmarks/record_peers.py flax
    python -m venv old && old/bin/pip install keras==3.0.5 jax==0.4.26 'numpy<2' 'scipy<1.13' packaging
    KERAS_BACKEND=jax old/bin/python benchmarks/record_peers.py keras_30
    peers/bin/python benchmarks/record_peers.py keras_mixed
    peers/bin/pip install tf-keras && peers/bin/python benchmarks/record_peers.py keras_2
    peers/bin/pip install tf2onnx && TF_USE_LEGACY_KERAS=1 peers/bin/python benchmarks/record_peers.py tf2onnx
    python benchmarks/record_peers.py raft --source RAFT                  (a checkout of princeton-vl/RAFT)
    python benchmarks/record_peers.py rvm --source RobustVideoMatting     (of PeterL1n/RobustVideoMatting)
    python -m venv xlstm && xlstm/bin/pip install torch numpy && xlstm/bin/pip install --no-deps xlstm==2.0.6
    xlstm/bin/python benchmarks/record_peers.py xlstm --out tests/cells/recorded

It writes NAME.npz and updates versions.json. Arrays are named case/array: x the input, s0, s1, ... the first
state, w0, w1, ... or w_PATH the weights, y the outputs, t0, t1, ... the last state, g_NAME the gradient of
sum(y * probe) + sum(t) by NAME. Axes are in the library's order.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
Arrays = dict[str, np.ndarray]
RECORDED = Path(__file__).resolve().parents[1] / "tests" / "interop" / "recorded"


class Case:
    """Fixed random numbers of one case, and the table of its arrays."""

    def __init__(self, table: Arrays, name: str) -> None:
        self.table, self.name = table, name
        self.random = np.random.default_rng(sum(map(ord, name)))

    def normal(self, shape: tuple[int, ...], scale: float = 1.0) -> np.ndarray:
        return (scale * self.random.standard_normal(shape)).astype(np.float32)

    def add(self, **arrays: Any) -> None:
        self.table.update({f"{self.name}/{key}": np.asarray(value) for key, value in arrays.items()})


def keras(folder: Path, source: Path | None) -> dict[str, str]:
    import tensorflow as tf  # noqa: I001  # after its settings
    import keras

    layers, table = keras.layers, {}
    conv = {"return_sequences": True, "return_state": True}

    def record(name: str, layer: Any, shape: tuple[int, ...], state: list[tuple[int, ...]]) -> None:
        case = Case(table, name)
        layer.build((2, *shape))
        layer.set_weights([case.normal(w.shape, 0.5) for w in layer.weights])
        x = tf.Variable(case.normal((2, *shape)))
        start = [tf.Variable(case.normal((2, *s), 0.5)) for s in state]
        with tf.GradientTape() as tape:
            y, *after = layer(x, initial_state=start)
            probe = case.normal(tuple(y.shape))
            loss = tf.reduce_sum(y * probe) + sum(tf.reduce_sum(a) for a in after)
        wanted = [x, *start, *[w.value for w in layer.trainable_weights]]
        grads = [g.numpy() for g in tape.gradient(loss, wanted)]
        names = ["x", *[f"s{k}" for k in range(len(start))], *[f"w{k}" for k in range(len(layer.weights))]]
        case.add(**{n: v.numpy() for n, v in zip(names, wanted, strict=True)})
        case.add(**{f"g_{n}": g for n, g in zip(names, grads, strict=True)})
        case.add(y=y, probe=probe, **{f"t{k}": a for k, a in enumerate(after)})

    for after in (True, False):
        for bias in (True, False):
            name = f"gru_{'after' if after else 'before'}{'' if bias else '_nobias'}"
            record(name, layers.GRU(4, reset_after=after, use_bias=bias, **conv), (3, 3), [(4,)])
    record("lstm", layers.LSTM(4, **conv), (3, 3), [(4,), (4,)])
    record("simple_rnn", layers.SimpleRNN(4, **conv), (3, 3), [(4,)])
    record("simple_rnn_relu", layers.SimpleRNN(4, activation="relu", **conv), (3, 3), [(4,)])
    record("bidirectional", layers.Bidirectional(layers.LSTM(4, **conv)), (3, 3), [(4,)] * 4)
    one, two, three = layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D
    record("conv_lstm1d", one(3, 3, padding="same", **conv), (3, 6, 2), [(6, 3)] * 2)
    record("conv_lstm2d", two(3, (3, 2), padding="same", **conv), (3, 5, 6, 2), [(5, 6, 3)] * 2)
    wide = two(3, 3, padding="same", dilation_rate=2, use_bias=False, **conv)
    record("conv_lstm2d_dilated", wide, (3, 5, 6, 2), [(5, 6, 3)] * 2)
    record("conv_lstm3d", three(2, 3, padding="same", **conv), (2, 3, 4, 3, 2), [(3, 4, 3, 2)] * 2)

    text = _text_model(keras, table, folder / "text.keras")
    keras.Sequential([keras.Input((None, 3)), text.layers[0]]).save_weights(folder / "first.weights.h5")
    case = Case(table, "video_file")
    frames = keras.Input((None, 4, 5, 2))
    video = keras.Model(frames, two(3, 3, padding="same", return_sequences=True, name="watch")(frames))
    video.set_weights([case.normal(w.shape, 0.5) for w in video.weights])
    x = case.normal((1, 3, 4, 5, 2))
    case.add(x=x, y=video(x))
    video.save(folder / "video.keras")
    np.savez_compressed(folder / "keras.npz", **table)
    return {"keras": version("keras"), "tensorflow": tf.__version__}


def _text_model(keras: Any, table: Arrays, path: Path) -> Any:
    """Save a model of three recurrent layers, and record its output."""
    layers, case = keras.layers, Case(table, "text_file")
    text = keras.Sequential(
        [
            keras.Input((None, 3)),
            layers.GRU(4, return_sequences=True, name="first"),
            layers.GRU(2, return_sequences=True, reset_after=False, name="second"),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="third"),
        ]
    )
    text.set_weights([case.normal(w.shape, 0.5) for w in text.weights])
    x = case.normal((2, 4, 3))
    case.add(x=x, y=text(x))
    text.save(path)
    return text


def keras_30(folder: Path, source: Path | None) -> dict[str, str]:
    """Record a file of Keras 3.0, which stores no layer names."""
    import keras

    table: Arrays = {}
    _text_model(keras, table, folder / "text_30.keras")
    np.savez_compressed(folder / "keras_30.npz", **table)
    return {"keras": version("keras"), "jax": version("jax")}


def keras_mixed(folder: Path, source: Path | None) -> dict[str, str]:
    """Record a file with Bidirectional layers whose two layers differ, and layers of single cells."""
    import keras

    table: Arrays = {}
    _branches(keras, table, "mixed_file", folder / "mixed.keras")
    np.savez_compressed(folder / "keras_mixed.npz", **table)
    return {"keras": version("keras"), "tensorflow": version("tensorflow")}


def _branches(keras: Any, table: Arrays, name: str, path: Path) -> None:
    """Save a model of several recurrent layers side by side, and record the output of each."""
    layers, case = keras.layers, Case(table, name)
    every = {"return_sequences": True}
    gru = {"use_bias": False, **every}
    tanh, relu = (
        layers.SimpleRNN(3, activation=a, go_backwards=a == "relu", **every) for a in ("tanh", "relu")
    )
    after, before = (layers.GRU(3, reset_after=a, go_backwards=not a, **gru) for a in (True, False))
    stack = [layers.GRUCell(4), layers.GRUCell(4, reset_after=False, use_bias=False)]
    x = keras.Input((None, 3))
    branches = [
        layers.Bidirectional(tanh, backward_layer=relu, name="tanh_relu"),
        layers.Bidirectional(after, backward_layer=before, name="after_before"),
        layers.RNN(layers.LSTMCell(4), name="cell", **every),
        layers.RNN(layers.StackedRNNCells(stack), name="stack", **every),
        layers.RNN([layers.LSTMCell(4), layers.LSTMCell(2)], name="narrowing", **every),
    ]
    model = keras.Model(x, [branch(x) for branch in branches])
    model.set_weights([case.normal(w.shape, 0.5) for w in model.weights])
    numbers = case.normal((2, 5, 3))
    outputs = model(numbers)
    case.add(x=numbers, **{branch.name: y for branch, y in zip(branches, outputs, strict=True)})
    model.save(path)


def keras_2(folder: Path, source: Path | None) -> dict[str, str]:
    """Record an HDF5 file of Keras 2."""
    import tf_keras

    table: Arrays = {}
    _branches(tf_keras, table, "mixed_file", folder / "keras_2.h5")
    np.savez_compressed(folder / "keras_2.npz", **table)
    return {"tf_keras": version("tf_keras"), "tensorflow": version("tensorflow")}


def tf2onnx(folder: Path, source: Path | None) -> dict[str, str]:
    """Record an ONNX file that tf2onnx made of a model of Keras 2."""
    import tensorflow as tf
    import tf2onnx as converter
    import tf_keras

    table: Arrays = {}
    layers, case, every = tf_keras.layers, Case(table, "mixed_file"), {"return_sequences": True}
    branches = [
        layers.Bidirectional(layers.LSTM(4, **every), name="lstm"),
        layers.GRU(4, name="after", **every),
        layers.GRU(4, reset_after=False, name="before", **every),
    ]
    x = tf_keras.Input((None, 3))
    model = tf_keras.Model(x, [branch(x) for branch in branches])
    model.set_weights([case.normal(w.shape, 0.5) for w in model.weights])
    signature = [tf.TensorSpec((None, None, 3), tf.float32, name="x")]
    path = folder / "tf2onnx.onnx"
    converter.convert.from_keras(model, input_signature=signature, opset=17, output_path=str(path))
    numbers = case.normal((2, 5, 3))
    outputs = model(numbers)
    case.add(x=numbers, **{branch.name: y for branch, y in zip(branches, outputs, strict=True)})
    np.savez_compressed(folder / "tf2onnx.npz", **table)
    return {name: version(name) for name in ("tf2onnx", "tf_keras", "tensorflow")}


def flax(folder: Path, source: Path | None) -> dict[str, str]:
    import jax
    from flax import linen

    table: Arrays = {}

    def record(name: str, cell: Any, x_shape: tuple[int, ...], state: tuple[int, ...], states: int) -> None:
        case = Case(table, name)
        x = case.normal((2, *x_shape))
        start = tuple(case.normal((2, *state), 0.5) for _ in range(states))
        start = start if states > 1 else start[0]
        layer = linen.RNN(cell, return_carry=True)
        shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), x, initial_carry=start))["params"]
        params = jax.tree.map(lambda leaf: case.normal(leaf.shape, 0.5), shapes)
        probe = case.normal(jax.eval_shape(lambda: layer.apply({"params": params}, x))[1].shape)

        def loss(params: Any, x: Any, start: Any) -> Any:
            after, y = layer.apply({"params": params}, x, initial_carry=start)
            return (y * probe).sum() + sum(a.sum() for a in jax.tree.leaves(after)), (after, y)

        grads, (after, y) = jax.grad(loss, (0, 1, 2), has_aux=True)(params, x, start)
        for prefix, tree in (("w_", params), ("g_w_", grads[0])):
            leaves = jax.tree_util.tree_leaves_with_path(tree)
            case.add(**{prefix + ".".join(key.key for key in path): leaf for path, leaf in leaves})
        case.add(x=x, y=y, probe=probe, g_x=grads[1])
        for k, (s, t, g) in enumerate(zip(*map(jax.tree.leaves, (start, after, grads[2])), strict=True)):
            case.add(**{f"s{k}": s, f"t{k}": t, f"g_s{k}": g})

    record("gru", linen.GRUCell(4), (3, 3), (4,), 1)
    record("lstm", linen.LSTMCell(4), (3, 3), (4,), 2)
    record("optimized_lstm", linen.OptimizedLSTMCell(4), (3, 3), (4,), 2)
    record("conv_lstm", linen.ConvLSTMCell(3, (3, 2)), (3, 5, 6, 2), (5, 6, 3), 2)
    record("conv_lstm_nobias", linen.ConvLSTMCell(3, (3,), use_bias=False), (3, 6, 2), (6, 3), 2)
    np.savez_compressed(folder / "flax.npz", **table)
    return {"flax": version("flax"), "jax": version("jax")}


def _torch_cell(table: Arrays, name: str, cell: Any, run: Callable[..., Any], c_in: int, hidden: int) -> None:
    import torch

    case = Case(table, name)
    with torch.no_grad():
        for p in cell.parameters():
            p.copy_(torch.from_numpy(case.normal(tuple(p.shape), 0.3)))
    x = torch.from_numpy(case.normal((2, 3, c_in, 5, 6))).requires_grad_()
    start = torch.from_numpy(case.normal((2, hidden, 5, 6))).requires_grad_()
    ys = []
    h = start
    for x_t in x.unbind(1):
        h = run(cell, x_t, h)
        ys.append(h)
    y = torch.stack(ys, 1)
    probe = torch.from_numpy(case.normal(tuple(y.shape)))
    ((y * probe).sum() + h.sum()).backward()
    case.add(**{f"w_{key}": p.detach() for key, p in cell.named_parameters()})
    case.add(**{f"g_w_{key}": p.grad for key, p in cell.named_parameters()})
    case.add(x=x.detach(), s0=start.detach(), g_x=x.grad, g_s0=start.grad)
    case.add(y=y.detach(), t0=h.detach(), probe=probe)


def _checkout(source: Path | None, module: str) -> Any:
    if source is None:
        raise SystemExit("--source must be the folder of a checkout")
    sys.path.insert(0, str(source))
    return import_module(module)


def raft(folder: Path, source: Path | None) -> dict[str, str]:
    update = _checkout(source, "core.update")
    table: Arrays = {}
    for name, cell in (("conv_gru", update.ConvGRU(3, 2)), ("sep_conv_gru", update.SepConvGRU(3, 2))):
        _torch_cell(table, name, cell, lambda cell, x, h: cell(h, x), 2, 3)
    np.savez_compressed(folder / "raft.npz", **table)
    return {"RAFT": "core/update.py at e7f94cbf18c9bb7402968fa2583ec90cf3a58fb0"}


def rvm(folder: Path, source: Path | None) -> dict[str, str]:
    decoder = _checkout(source, "model.decoder")
    table: Arrays = {}
    _torch_cell(table, "conv_gru", decoder.ConvGRU(3), lambda cell, x, h: cell(x, h)[1], 3, 3)
    np.savez_compressed(folder / "rvm.npz", **table)
    return {"RobustVideoMatting": "model/decoder.py at 0feebf4af3a6d53e57871ffca74d0062587da227"}


def xlstm(folder: Path, source: Path | None) -> dict[str, str]:
    """Record the vanilla sLSTM of the package `xlstm`: one head, from a zero and from a random state."""
    import torch

    # load the file alone: the package has more dependencies
    root = source or Path(str(find_spec("xlstm").submodule_search_locations[0]))  # type: ignore[union-attr,index]
    spec = spec_from_file_location(
        "vanilla",
        root / "blocks" / "slstm" / "src" / "vanilla" / "__init__.py",
        submodule_search_locations=[str(root / "blocks" / "slstm" / "src" / "vanilla")],
    )
    vanilla = sys.modules["vanilla"] = module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(vanilla)  # type: ignore[union-attr]
    table: Arrays = {}
    for name in ("zero", "other"):
        case = Case(table, name)
        shapes = {"x": (7, 3, 4), "w": (20, 4), "r": (1, 20, 5), "b": (20,)}
        leaves = {key: torch.tensor(case.normal(shape)).requires_grad_() for key, shape in shapes.items()}
        start = torch.zeros(4, 3, 5) if name == "zero" else torch.tensor(np.abs(case.normal((4, 3, 5))) + 0.1)
        states, _, _ = vanilla.slstm_forward(
            leaves["x"] @ leaves["w"].t(),
            start,
            leaves["r"],
            leaves["b"],
            vanilla.slstm_pointwise_function_registry["slstm"],
        )
        probe = torch.tensor(case.normal(tuple(states[0, 1:].shape)))
        ((states[0, 1:] * probe).sum() + states[:, -1].sum()).backward()
        case.keep(start=start, states=states.detach(), probe=probe)
        case.keep(**{key: leaf.detach() for key, leaf in leaves.items()})
        case.keep(**{f"g_{key}": leaf.grad for key, leaf in leaves.items()})
    np.savez_compressed(folder / "xlstm.npz", **table)
    return {"xlstm": version("xlstm"), "torch": torch.__version__}


SYSTEMS = {
    "keras": keras,
    "keras_30": keras_30,
    "keras_mixed": keras_mixed,
    "keras_2": keras_2,
    "tf2onnx": tf2onnx,
    "flax": flax,
    "raft": raft,
    "rvm": rvm,
    "xlstm": xlstm,
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Record what another system computes.")
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--source", type=Path, help="a checkout, for raft and rvm")
    parser.add_argument("--out", type=Path, default=RECORDED)
    arguments = parser.parse_args(argv)
    found = SYSTEMS[arguments.system](arguments.out, arguments.source)
    path = arguments.out / "versions.json"
    versions = json.loads(path.read_text("utf-8")) if path.exists() else {}
    versions[arguments.system] = {**found, "python": platform.python_version()}
    path.write_text(json.dumps(versions, indent=2, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()

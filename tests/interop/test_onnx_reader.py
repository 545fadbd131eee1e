"""Recurrent operators read from ONNX files: the standard's node tests, exporters, quantised files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peers import RECORDED
from torch import Tensor, nn

import canton
from canton.errors import UserError
from canton.interop.onnx import LoadedGraph, load
from tolerances import assert_close

onnx = pytest.importorskip("onnx", reason="onnx is not installed (canton-torch[onnx])")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402  # after the check that it is there
from onnx.backend.test.case import node as cases  # noqa: E402
from onnx.backend.test.case.node import gru, lstm, rnn  # noqa: E402, F401  # importing them makes their cases

Arrays = dict[str, np.ndarray]
OPERATORS = ("GRU", "LSTM", "RNN")
WEIGHTS = ("W", "R", "B", "P")


def run(loaded: LoadedGraph, arrays: Arrays) -> list[Tensor]:
    """Return Y, Y_h (and Y_c), in ONNX's axes, of the only layer of a graph."""
    ((name, layer),) = loaded.layers.items()
    inputs = loaded.inputs[name]

    def value(source: str | Tensor) -> Tensor:
        return torch.from_numpy(arrays[source]) if isinstance(source, str) else source

    hx = tuple(value(source) for source in inputs.hx)
    if layer.batch_first:
        hx = tuple(state.transpose(0, 1) for state in hx)
    lengths = None if inputs.lengths is None else value(inputs.lengths)
    ys, state = layer(value(inputs.x), (hx[0] if len(hx) == 1 else hx) if hx else None, lengths=lengths)
    states = [state] if isinstance(state, Tensor) else list(state)
    ys = ys.unflatten(-1, (layer.directions, -1))
    if layer.batch_first:
        return [ys, *(state.transpose(0, 1) for state in states)]
    return [ys.transpose(1, 2), *states]


NODE_TESTS = {
    case.name: case for case in cases._NodeTestCases if case.model.graph.node[0].op_type in OPERATORS
}


def test_the_node_tests_are_there() -> None:
    kinds = [case.model.graph.node[0].op_type for case in NODE_TESTS.values()]
    assert all(kinds.count(operator) >= 4 for operator in OPERATORS)


@pytest.mark.parametrize("name", NODE_TESTS)
def test_the_node_tests_of_the_standard(name: str, tmp_path: Path) -> None:
    model, ((inputs, expected), *_) = NODE_TESTS[name].model, NODE_TESTS[name].data_sets
    arrays = dict(zip([each.name for each in model.graph.input], inputs, strict=True))
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path))
    loaded = load(path, values={key: value for key, value in arrays.items() if key in WEIGHTS})
    assert not loaded.unmapped
    found = dict(zip(["Y", "Y_h", "Y_c"], run(loaded, arrays), strict=False))
    outputs = [
        key for key, output in zip(["Y", "Y_h", "Y_c"], model.graph.node[0].output, strict=False) if output
    ]
    assert outputs
    for key, array in zip(outputs, expected, strict=True):
        assert_close(found[key], torch.from_numpy(array), f"{name} {key}")


def save(path: Path, nodes: list[Any], inputs: list[str], outputs: list[str], constants: Arrays) -> Path:
    """Save a graph of float32 inputs, and return its path."""
    values = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in each]
        for each in (inputs, outputs)
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "test", *values, initializer=initializers)
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    return path


def weights_of(kind: str, directions: int, seed: int = 0) -> Arrays:
    """Return random W, R, B (and P) of an operator with 3 inputs and 4 units."""
    generator, gates = np.random.default_rng(seed), {"GRU": 3, "LSTM": 4, "RNN": 1}[kind]
    shapes = {"W": (4 * gates, 3), "R": (4 * gates, 4), "B": (8 * gates,)} | (
        {"P": (12,)} if kind == "LSTM" else {}
    )
    return {
        key: generator.normal(scale=0.5, size=(directions, *shape)).astype("f4")
        for key, shape in shapes.items()
    }


def node_of(kind: str, **attributes: Any) -> Any:
    inputs = ["x", "W", "R", "B", "lengths", "h"] + (["c", "P"] if kind == "LSTM" else [])
    outputs = ["Y", "Y_h"] + (["Y_c"] if kind == "LSTM" else [])
    return helper.make_node(kind, inputs, outputs, name="layer", hidden_size=4, **attributes)


SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gru before": ("GRU", {"linear_before_reset": 0}),
    "gru after": ("GRU", {"linear_before_reset": 1}),
    "lstm": ("LSTM", {}),
    "rnn": ("RNN", {}),
    "rnn relu": ("RNN", {"activations": ["Relu"]}),
}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("case", SETTINGS)
def test_every_input_in_onnxruntime(case: str, direction: str, tmp_path: Path) -> None:
    """Biases, peepholes, lengths and first states, in every direction."""
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (canton-torch[dev])")
    kind, attributes = SETTINGS[case]
    directions = 2 if direction == "bidirectional" else 1
    if "activations" in attributes:
        attributes = {"activations": attributes["activations"] + ["Tanh"] * (directions - 1)}
    layer_node = node_of(kind, direction=direction, **attributes)
    path = save(tmp_path / "m.onnx", [layer_node], [], list(layer_node.output), weights_of(kind, directions))
    model = onnx.load(str(path))
    arrays = {"x": np.random.default_rng(1).normal(size=(5, 3, 3)).astype("f4")}
    arrays["lengths"] = np.array([5, 1, 3], "i4")
    for seed, name in enumerate(("h", "c")[: len(layer_node.output) - 1]):
        arrays[name] = np.random.default_rng(seed).normal(size=(directions, 3, 4)).astype("f4")
    model.graph.input.extend(
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in arrays.items()
    )
    onnx.save(model, str(path))
    expected = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, arrays)
    for found, array in zip(run(load(path), arrays), expected, strict=True):
        assert_close(found, torch.from_numpy(array), case)


def test_two_activations_become_a_plain_recurrent_layer(tmp_path: Path) -> None:
    two = helper.make_node(
        "RNN", ["x", "W", "R"], ["Y"], direction="bidirectional", activations=["Tanh", "Relu"]
    )
    path = save(tmp_path / "m.onnx", [two], ["x"], ["Y"], weights_of("RNN", 2))
    (layer,) = load(path).layers.values()
    assert type(layer) is canton.Recurrent
    assert [cell.nonlinearity for cell in layer.cells] == ["tanh", "relu"]


class Torch(nn.Module):
    """Two layers in both directions, with a head."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn = kind(3, 4, num_layers=2, bidirectional=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


@pytest.mark.parametrize("folding", [True, False])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.filterwarnings("ignore")
def test_a_stack_of_the_torchscript_exporter(kind: type[nn.RNNBase], folding: bool, tmp_path: Path) -> None:
    """Without folding the weights are computed by slices and concatenations."""
    torch.manual_seed(0)
    model, x, path = Torch(kind).eval(), torch.randn(6, 2, 3), tmp_path / "m.onnx"
    axes = {"x": {0: "T", 1: "B"}}
    torch.onnx.export(
        model,
        (x,),
        str(path),
        dynamo=False,
        input_names=["x"],
        dynamic_axes=axes,
        do_constant_folding=folding,
    )
    loaded = load(path)
    assert len(loaded.layers) == 2
    assert all(inputs.hx == () for inputs in loaded.inputs.values())  # its zeros of the batch's size
    assert any("MatMul" in reason for reason in loaded.unmapped.values())
    ys = x
    for layer in loaded.layers.values():
        ys, _ = layer(ys)
    assert_close(model.head(ys), model(x), "the stack")


def test_a_file_of_tf2onnx() -> None:
    """Its GRU with reset_after=True and its Bidirectional LSTM; benchmarks/record_peers.py made it."""
    loaded = load(RECORDED / "tf2onnx.onnx")
    with np.load(RECORDED / "tf2onnx.npz") as table:
        arrays = {key.partition("/")[2]: torch.from_numpy(table[key]) for key in table}
    assert [type(layer) for layer in loaded.layers.values()] == [canton.LSTM, canton.GRU]
    assert all(inputs.hx == () for inputs in loaded.inputs.values())
    assert any("Loop" in reason for reason in loaded.unmapped.values())  # reset_after=False
    for layer, name in zip(loaded.layers.values(), ("lstm", "after"), strict=True):
        ys, _ = layer(arrays["x"].transpose(0, 1))
        assert_close(ys.transpose(0, 1), arrays[name], name)


def test_onnxruntimes_quantised_lstm(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization", reason="onnxruntime is not installed")
    lstm_node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="layer", hidden_size=4)
    weights = weights_of("LSTM", 1)
    path = save(tmp_path / "m.onnx", [lstm_node], ["x"], ["Y"], weights)
    for per_channel in (False, True):
        quantised = tmp_path / "quantised.onnx"
        quantization.quantize_dynamic(str(path), str(quantised), per_channel=per_channel)
        kinds = {node.op_type for node in onnx.load(str(quantised)).graph.node}
        assert kinds == {"DynamicQuantizeLSTM"}
        (layer,), (whole,) = load(quantised).layers.values(), load(path).layers.values()
        for ours, exact in zip(layer.parameters(), whole.parameters(), strict=True):
            step = (exact.max() - exact.min()) / 255  # of the quantisation
            assert (ours - exact).abs().max() <= step


def test_constants_that_other_nodes_compute(tmp_path: Path) -> None:
    weights, quantised = weights_of("RNN", 1), np.arange(-6, 6, dtype="i1").reshape(4, 3)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "zero"], ["W"]),
        helper.make_node("RNN", ["x", "W", "R"], ["Y"], name="inside"),
    ]
    constants = {
        "q": quantised,
        "scale": np.array(0.5, "f4"),
        "zero": np.array([0], "i8"),
        "R": weights["R"],
        "go": np.array(True),
    }
    body = helper.make_graph(nodes, "body", [], [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)])
    both = helper.make_node("If", ["go"], ["Y_if"], name="branch", then_branch=body, else_branch=body)
    loaded = load(save(tmp_path / "m.onnx", [both], ["x"], ["Y_if"], constants))
    assert set(loaded.layers) == {"inside", "inside_1"}
    assert torch.equal(loaded.layers["inside"].cells[0].input_map.weight, torch.from_numpy(quantised) * 0.5)
    assert loaded.unmapped == {"branch": "If is not a recurrent operator"}


def test_first_states_in_the_file(tmp_path: Path) -> None:
    """The same state for all rows is learned; another one is returned; layout=1 has the batch first."""
    generator = np.random.default_rng(0)
    for batch, layout in ((1, 0), (1, 1), (3, 0)):
        start = generator.normal(size=(batch, 1, 4) if layout else (1, batch, 4)).astype("f4")
        node = helper.make_node("GRU", ["x", "W", "R", "B", "", "h"], ["Y"], layout=layout)
        path = save(tmp_path / "m.onnx", [node], ["x"], ["Y"], {**weights_of("GRU", 1), "h": start})
        loaded = load(path)
        (layer,), (inputs,) = loaded.layers.values(), loaded.inputs.values()
        expected = torch.from_numpy(start).reshape(1, batch, 4)
        if batch == 1:
            assert inputs.hx == ()
            assert torch.equal(layer.initial[0], expected[0, 0])
        else:
            assert not len(layer.initial)
            assert torch.equal(inputs.hx[0], expected)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "activations": ({"activations": ["Sigmoid", "Relu"]}, "activations"),
    "clip": ({"clip": 1.0}, "clip"),
    "hidden_size": ({"hidden_size": 5}, "hidden_size"),
    "directions": ({"direction": "bidirectional"}, "directions"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_node_that_cannot_be_mapped_is_named(case: str, tmp_path: Path) -> None:
    attributes, argument = REFUSED[case]
    node = helper.make_node("GRU", ["x", "W", "R"], ["Y"], name="bad", **attributes)
    loaded = load(save(tmp_path / "m.onnx", [node], ["x"], ["Y"], weights_of("GRU", 1)))
    assert not loaded.layers
    assert argument in loaded.unmapped["bad"]


def test_weights_that_are_inputs_are_named(tmp_path: Path) -> None:
    node = helper.make_node("GRU", ["x", "W", "R"], ["Y"])
    path = save(tmp_path / "m.onnx", [node], ["x", "W", "R"], ["Y"], {})
    assert "values" in load(path).unmapped["GRU_0"]
    weights = weights_of("GRU", 1)
    assert "GRU_0" in load(path, values={"W": weights["W"], "R": weights["R"]}).layers


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(UserError, match="no such file"):
        load(path)
    for content in (b"", b"no model at all", b"ORTM" * 10):
        path.write_bytes(content)
        with pytest.raises(UserError, match="ONNX"):
            load(path)


def test_a_backward_layer_resets_and_does_not_step(tmp_path: Path) -> None:
    node = helper.make_node("GRU", ["x", "W", "R", "B"], ["Y"], direction="reverse", linear_before_reset=1)
    weights = weights_of("GRU", 1)
    (layer,) = load(save(tmp_path / "m.onnx", [node], ["x"], ["Y"], weights)).layers.values()
    both = {key: np.concatenate([value, value]) for key, value in weights.items()}
    node = helper.make_node(
        "GRU", ["x", "W", "R", "B"], ["Y"], direction="bidirectional", linear_before_reset=1
    )
    (pair,) = load(save(tmp_path / "m.onnx", [node], ["x"], ["Y"], both)).layers.values()
    torch.manual_seed(0)
    x, reset = torch.randn(6, 3, 3), torch.rand(6, 3) < 0.4
    options = {"lengths": [6, 2, 4], "reset": reset}
    ys, state = layer(x, **options)
    expected, states = pair(x, **options)
    assert_close(ys, expected[..., 4:], "outputs")
    assert_close(state, states[1:], "state")
    mask = torch.rand(6, 3) < 0.6
    ys, state = layer(x, reset=reset, mask=mask)
    expected, states = pair(x, reset=reset, mask=mask)
    assert_close(ys, expected[..., 4:], "outputs with a mask")
    assert_close(state, states[1:], "state with a mask")
    with pytest.raises(ValueError, match="step"):
        layer.step(x[0])
    with pytest.raises(ValueError, match="return_all"):
        layer(x, return_all=True)

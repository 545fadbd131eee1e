"""ONNX files: onnxruntime computes what Canton computes, for every layer and at any size."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import canton
from canton.core.recurrent import Recurrent
from canton.interop.onnx.export import export, export_step
from canton.interop.raft import SepConvGRUCell
from canton.maps import conv1d, separable2d
from tolerances import assert_close

onnx = pytest.importorskip("onnx", reason="onnx is not installed (canton-torch[onnx])")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (canton-torch[dev])")

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "gru": (lambda: canton.GRU(3, 4), ()),
    "gru bidirectional": (lambda: canton.GRU(3, 4, 2, bidirectional=True), ()),
    "gru after": (lambda: canton.GRU(3, 4, 2, reset="after", batch_first=True), ()),
    "gru after, no bias": (lambda: canton.GRU(3, 4, bias=False, reset="after"), ()),
    "gru layer norm": (lambda: canton.GRU(3, 4, 2, layer_norm=True, reset="after"), ()),
    "gru zoneout": (lambda: canton.GRU(3, 4, zoneout=0.2, learn_initial_state=True), ()),
    "lstm": (lambda: canton.LSTM(3, 4, 2, bidirectional=True), ()),
    "lstm peephole": (lambda: canton.LSTM(3, 4, peephole=True, learn_initial_state=True), ()),
    "lstm projected": (lambda: canton.LSTM(3, 4, proj_size=2, bidirectional=True), ()),
    "lstm layer norm": (lambda: canton.LSTM(3, 4, layer_norm=True), ()),
    "rnn": (lambda: canton.RNN(3, 4, bidirectional=True), ()),
    "rnn relu": (lambda: canton.RNN(3, 4, 2, "relu"), ()),
    "mgu": (lambda: canton.MGU(3, 4, 2), ()),
    "gru2 of 2017": (lambda: canton.MGU(3, 4, gate_input=False, reset=False), ()),
    "mingru": (lambda: canton.MinGRU(3, 4, bidirectional=True), ()),
    "own bias": (lambda: canton.GRU(3, 4, map=lambda i, o, bias: nn.Linear(i, o)), ()),
    "conv gru": (lambda: canton.ConvGRU2d(3, 4, 3, 2), (5, 7)),
    "conv gru grouped": (
        lambda: canton.ConvGRU2d(4, 6, 3, bidirectional=True, groups=2, padding_mode="circular"),
        (5, 7),
    ),
    "conv gru dilated": (lambda: canton.ConvGRU2d(3, 4, 3, reset="after", dilation=2), (6, 5)),
    "conv gru layer norm": (lambda: canton.ConvGRU1d(3, 4, 3, layer_norm=True), (6,)),
    "conv lstm even": (lambda: canton.ConvLSTM1d(3, 4, (4,), peephole=True, batch_first=True), (6,)),
    "conv lstm projected": (lambda: canton.ConvLSTM2d(3, 4, (1, 3), proj_size=2), (4, 5)),
    "conv rnn": (lambda: canton.ConvRNN3d(3, 4, (3, 2, 1)), (3, 4, 5)),
    "conv mgu": (lambda: canton.MGU(3, 4, map=conv1d(3)), (6,)),
    "conv mingru": (lambda: canton.MinGRU(3, 4, map=conv1d(3)), (6,)),
    "separable": (lambda: canton.MGU(3, 4, map=separable2d(3)), (5, 6)),
    "sep conv gru": (lambda: canton.Recurrent(SepConvGRUCell(3, 4)), (5, 6)),
}
STANDARD = {
    "gru",
    "gru bidirectional",
    "gru after",
    "gru after, no bias",
    "lstm",
    "lstm peephole",
    "rnn",
    "rnn relu",
}


def make(case: str) -> Recurrent:
    layer = LAYERS[case][0]().eval()
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(std=0.5)
    return layer


def runner(model: Any) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def states_of(layer: Recurrent, batch: int, space: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.randn(len(layer.cells), batch, size, *space) for size in layer.state_sizes)


def feed(x: Tensor, state: tuple[Tensor, ...]) -> dict[str, np.ndarray]:
    return {"x": x.numpy()} | {f"{n}_0": s.numpy() for n, s in zip("hc", state, strict=False)}


def one_or_all(state: tuple[Tensor, ...]) -> Any:
    return state if len(state) > 1 else state[0]


def compare(found: list[np.ndarray], y: Tensor, after: Any) -> None:
    expected = [y, after] if isinstance(after, Tensor) else [y, *after]
    for name, one, other in zip(("y", "h_n", "c_n"), found, expected, strict=False):
        assert_close(torch.from_numpy(one), other.detach(), name)
    assert len(found) == len(expected)


@pytest.mark.parametrize("case", LAYERS)
def test_a_sequence_of_any_size(case: str) -> None:
    layer = make(case)
    session = runner(export(layer))
    assert [i.name for i in session.get_inputs()] == ["x", "h_0", "c_0"][: 1 + len(layer.state_sizes)]
    for steps, batch, more in ((5, 2, 0), (1, 3, 2)):
        space = tuple(size + more for size in LAYERS[case][1])
        x = torch.randn(*((batch, steps) if layer.batch_first else (steps, batch)), layer.input_size, *space)
        state = states_of(layer, batch, space)
        with torch.no_grad():
            y, after = layer(x, one_or_all(state))
        compare(session.run(None, feed(x, state)), y, after)


@pytest.mark.parametrize("case", LAYERS)
def test_without_state_inputs(case: str) -> None:
    layer = make(case)
    session = runner(export(layer, state_inputs=False))
    x = torch.randn(3, 2, layer.input_size, *LAYERS[case][1])
    with torch.no_grad():
        compare(session.run(None, {"x": x.numpy()}), *layer(x))


@pytest.mark.parametrize("options", [("lengths",), ("reset",), ("lengths", "reset")], ids=" and ".join)
@pytest.mark.parametrize("case", LAYERS)
def test_lengths_and_resets(case: str, options: tuple[str, ...]) -> None:
    layer, space = make(case), LAYERS[case][1]
    model = export(layer, **dict.fromkeys(options, True))
    session = runner(model)
    for steps, batch in ((5, 4), (1, 3)):
        lead = (batch, steps) if layer.batch_first else (steps, batch)
        x, state = torch.randn(*lead, layer.input_size, *space), states_of(layer, batch, space)
        more = {"lengths": torch.tensor([steps, 0, 1, steps - 1][:batch]), "reset": torch.rand(lead) < 0.4}
        more = {name: more[name] for name in options}
        if "lengths" in options:  # steps after a row's length are not read
            times = torch.arange(steps)[:, None] >= more["lengths"]
            x[times.t() if layer.batch_first else times] = torch.nan
        with torch.no_grad():
            y, after = layer(x, one_or_all(state), **more)
        values = {**feed(x, state), **{name: value.numpy() for name, value in more.items()}}
        compare(session.run(None, values), y, after)
    standard = {"GRU", "LSTM", "RNN"} & {node.op_type for node in model.graph.node}
    assert bool(standard) == (case in STANDARD and "reset" not in options)


@pytest.mark.parametrize("case", LAYERS)
def test_a_step(case: str) -> None:
    layer = make(case)
    if layer.directions == 2:
        with pytest.raises(ValueError, match="bidirectional"):
            export_step(layer)
        return
    session = runner(export_step(layer))
    for batch, more in ((2, 0), (1, 3)):
        space = tuple(size + more for size in LAYERS[case][1])
        x, state = torch.randn(batch, layer.input_size, *space), states_of(layer, batch, space)
        with torch.no_grad():
            y, after = layer.step(x, one_or_all(state))
        compare(session.run(None, feed(x, state)), y, after)


@pytest.mark.parametrize("case", LAYERS)
def test_dense_layers_are_the_standard_operators(case: str) -> None:
    layer = make(case)
    kinds = {node.op_type for node in export(layer).graph.node} & {"GRU", "LSTM", "RNN", "Scan"}
    cell = type(layer.cells[0]).__name__.removesuffix("Cell")
    assert kinds == ({cell} if case in STANDARD else {"Scan"})


@pytest.mark.parametrize(("reset", "expected"), [("before", 0), ("after", 1)])
def test_linear_before_reset(reset: str, expected: int) -> None:
    (node,) = [n for n in export(canton.GRU(3, 4, reset=reset)).graph.node if n.op_type == "GRU"]
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert settings["linear_before_reset"] == expected


@pytest.mark.parametrize("kind", [canton.GRU, canton.LSTM, canton.MGU])
def test_integers(kind: Any) -> None:
    layer = kind(11, 4, 2)
    xs = torch.randint(11, (5, 2))
    state = states_of(layer, 2, ())
    with torch.no_grad():
        y, after = layer(xs, one_or_all(state))
        one, then = layer.step(xs[0], one_or_all(state))
    compare(runner(export(layer, integers=True)).run(None, feed(xs, state)), y, after)
    compare(runner(export_step(layer, integers=True)).run(None, feed(xs[0], state)), one, then)


def test_integers_need_a_dense_map() -> None:
    with pytest.raises(ValueError, match="integers"):
        export(canton.ConvGRU1d(3, 4, 3), integers=True)


class Own(canton.RNNCell):
    """A subclass, which may compute something else."""


@pytest.mark.parametrize("write", [export, export_step])
def test_custom_cells_and_maps_are_refused(write: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    with pytest.raises(ValueError, match="Own"):
        write(canton.Recurrent(Own(3, 4)), path)
    with pytest.raises(ValueError, match="Bilinear"):
        write(canton.RNN(3, 4, map=lambda i, o, bias: nn.Bilinear(i, i, o)), path)
    assert not path.exists()


def test_the_file_is_saved(tmp_path: Path) -> None:
    model = export(canton.GRU(3, 4), tmp_path / "gru.onnx")
    assert onnx.load(tmp_path / "gru.onnx") == model
    export_step(canton.GRU(3, 4), tmp_path / "step.onnx")
    assert {i.name for i in onnx.load(tmp_path / "step.onnx").graph.input} == {"x", "h_0"}


def test_torchs_exporter_and_ours() -> None:
    """torch.nn.GRU needs linear_before_reset=1. Some versions of torch's exporter write 0; 2.13 writes 1.

    The file of the installed torch computes what its attribute says; Canton's must be right.
    """
    theirs = nn.GRU(3, 4).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_()
    x, h = torch.randn(5, 2, 3), torch.zeros(1, 2, 4)
    expected = theirs(x)[0].detach()
    content = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx warns that it is deprecated
        torch.onnx.export(theirs, (x,), content, dynamo=False)
    model = onnx.load_from_string(content.getvalue())
    (node,) = [n for n in model.graph.node if n.op_type == "GRU"]
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    session = runner(model)
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    right = bool(np.abs(found - expected.numpy()).max() < 1e-5)
    assert right == (settings.get("linear_before_reset", 0) == 1)
    if torch.__version__.startswith("2.13."):
        assert right
    from canton.interop.torch_nn import from_torch

    ours = runner(export(from_torch(theirs))).run(None, feed(x, (h,)))[0]
    assert_close(torch.from_numpy(ours), expected)

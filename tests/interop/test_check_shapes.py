"""Weights of wrong shapes, and layers that another system does not have, raise a ValueError."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from canton import GRUCell, LSTMCell, Recurrent, RNNCell
from canton.interop import custom_convgru, flax, keras, keras_files, raft, torch_nn
from canton.interop.gate_matrices import GateMatrices, gru_cell, lstm_cell, rnn_cell


def arrays(*shapes: tuple[int, ...]) -> list[Any]:
    return [np.ones(shape, "f4") for shape in shapes]


def tree(inputs: dict[str, tuple[int, ...]], *, biased: str) -> dict[str, Any]:
    return {
        name: {"kernel": np.ones(shape, "f4")}
        | ({"bias": np.ones(5, "f4")} if name in biased.split() else {})
        for name, shape in inputs.items()
    }


LSTM_TREE = {f"i{gate}": (4, 5) for gate in "ifgo"} | {f"h{gate}": (3, 5) for gate in "ifgo"}
GRU_TREE = {"ir": (4, 5), "iz": (3, 5), "in": (4, 5), "hr": (5, 5), "hz": (5, 5), "hn": (5, 5)}
RAFT = {
    f"conv{gate}{way}.{part}": torch.ones((8, 8 + (gate == "r"), *((1, 5) if way == "1" else (5, 1))))
    if part == "weight"
    else torch.ones(8)
    for gate in "zrq"
    for way in "12"
    for part in ("weight", "bias")
}


@pytest.mark.parametrize(
    "read",
    [
        lambda: keras.from_keras(arrays((4, 20), (3, 20), (20,))),  # the recurrent kernel has 3 of 5 units
        lambda: keras.from_keras(arrays((4, 20), (7, 20), (20,))),
        lambda: keras.from_keras(arrays((4, 15), (7, 15)), reset_after=False),
        lambda: keras.from_keras(arrays((4, 5), (3, 5), (5,))),
        lambda: keras.from_keras(arrays((3, 3, 4, 20), (3, 3, 4, 20), (20,))),
        lambda: flax.from_flax(tree(LSTM_TREE, biased="hi hf hg ho")),
        lambda: flax.from_flax(tree(GRU_TREE, biased="ir iz in hn")),
        lambda: raft.from_raft(RAFT),
        lambda: custom_convgru.from_convolutions(
            nn.Conv2d(7, 8, 5, padding=2), nn.Conv2d(7, 4, 3, padding=1)
        ),
        lambda: custom_convgru.from_convgru(
            {"conv_gates.weight": torch.ones(8, 7, 5, 5), "conv_can.weight": torch.ones(4, 7, 3, 3)}
        ),
    ],
)
def test_wrong_shapes_are_refused(read: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="weights must"):
        read()


@pytest.mark.parametrize(("gates", "make"), [(3, "gru"), (4, "lstm"), (4, "projected"), (1, "rnn")])
def test_each_wrong_axis_is_refused(gates: int, make: str) -> None:
    """Weights of 4 inputs and 5 units, with one size changed at a time."""
    state = 2 if make == "projected" else 5
    right = {"input": (gates * 5, 4), "hidden": (gates * 5, state), "bias": (gates * 5,)}
    makers: dict[str, Callable[[GateMatrices], object]] = {
        "gru": lambda m: gru_cell(m, reset="before"),
        "lstm": lstm_cell,
        "projected": lambda m: lstm_cell(m, torch.ones(2, 5)),
        "rnn": lambda m: rnn_cell(m, "tanh"),
    }

    def read(shapes: dict[str, tuple[int, ...]]) -> object:
        return makers[make](GateMatrices(**{name: torch.ones(shape) for name, shape in shapes.items()}))

    read(right)
    wrong = [("input", (gates * 6, 4)), ("input", (gates * 5, 4, 3)), ("hidden", (gates * 6, state))]
    wrong += [("hidden", (gates * 5, state + 1)), ("hidden", (gates * 5, state, 3)), ("bias", (gates * 6,))]
    wrong += [("bias", (1, gates * 5))]
    for name, shape in wrong:
        with pytest.raises(ValueError, match="weights must"):
            read({**right, name: shape})
    if gates > 1:
        with pytest.raises(ValueError, match="weights must"):  # no whole number of gates
            read({"input": (gates * 5 + 1, 4), "hidden": (gates * 5 + 1, state), "bias": (gates * 5 + 1,)})
    if make == "projected":
        with pytest.raises(ValueError, match="projection must"):
            lstm_cell(GateMatrices(*(torch.ones(shape) for shape in right.values())), torch.ones(2, 6))


def test_gates_may_be_a_list() -> None:
    first, second, candidate = (nn.Conv2d(7, 4, 3, padding=1) for _ in range(3))
    layer = custom_convgru.from_convolutions([first, second], candidate)  # type: ignore[arg-type]
    assert layer.input_size == 3


MIXED: dict[str, Callable[[], Recurrent]] = {
    "reset": lambda: Recurrent([GRUCell(4, 5, reset="after"), GRUCell(5, 5)]),
    "nonlinearity": lambda: Recurrent([RNNCell(4, 5), RNNCell(5, 5, nonlinearity="relu")]),
    "bias": lambda: Recurrent([GRUCell(4, 5, reset="after"), GRUCell(5, 5, bias=False, reset="after")]),
    "kind": lambda: Recurrent([GRUCell(4, 5, reset="after"), RNNCell(5, 5)]),
}
BOTH_WAYS: dict[str, Callable[[], Recurrent]] = {
    "reset": lambda: Recurrent([GRUCell(4, 5, reset="after"), GRUCell(4, 5)], bidirectional=True),
    "nonlinearity": lambda: Recurrent(
        [RNNCell(4, 5), RNNCell(4, 5, nonlinearity="relu")], bidirectional=True
    ),
    "bias": lambda: Recurrent([GRUCell(4, 5, bias=False), GRUCell(4, 5)], bidirectional=True),
    "peephole": lambda: Recurrent([LSTMCell(4, 5), LSTMCell(4, 5, peephole=True)], bidirectional=True),
}


@pytest.mark.parametrize("name", MIXED)
def test_torch_refuses_mixed_stacks(name: str) -> None:
    with pytest.raises(ValueError, match=r"cells\[1\]"):
        torch_nn.to_torch(MIXED[name]())


@pytest.mark.parametrize("name", [name for name in BOTH_WAYS if name != "peephole"])
def test_keras_refuses_mixed_directions(name: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed (canton-torch[weights])")
    with pytest.raises(ValueError, match=r"cells\[1\]"):
        keras_files.save_keras(BOTH_WAYS[name](), tmp_path / "m.keras")
    assert not (tmp_path / "m.keras").exists()


@pytest.mark.parametrize("layers", [MIXED, BOTH_WAYS])
def test_onnx_exports_them_all(layers: dict[str, Callable[[], Recurrent]]) -> None:
    """Layers that one ONNX operator cannot compute become a Scan."""
    pytest.importorskip("onnx", reason="onnx is not installed (canton-torch[onnx])")
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (canton-torch[dev])")
    from canton.interop.onnx import export

    for make in layers.values():
        layer = make().eval()
        with torch.no_grad():
            for p in layer.parameters():
                p.normal_(std=0.5)
        xs = torch.randn(6, 2, 4)
        states = tuple(torch.randn(2, 2, size) for size in layer.state_sizes)
        session = ort.InferenceSession(
            export.export(layer, None).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        named = {"x": xs.numpy()} | {f"{n}_0": s.numpy() for n, s in zip("hc", states, strict=False)}
        ys, *_ = session.run(None, named)
        expected, _ = layer(xs, states[0] if len(states) == 1 else states)
        np.testing.assert_allclose(ys, expected.detach().numpy(), atol=2e-6)

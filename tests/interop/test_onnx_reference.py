"""The ONNX reference evaluator's RNN, GRU and LSTM, as an independent reference.

Facts read in its source (onnx 1.23): GRU computes both values of `linear_before_reset`, LSTM its peepholes,
as in the specification's equations. RNN has only the activations tanh and Affine; all three ignore
sequence_lens and clip. Before the release with onnx/onnx#7935 `direction` was ignored too ("reverse" ran
forward, "bidirectional" was refused), so the tests of two directions skip where the evaluator refuses.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import canton
from canton import Recurrent
from cases import shake_
from tolerances import assert_close

onnx = pytest.importorskip("onnx", reason="onnx is not installed (canton-torch[dev])")
from onnx.reference import ReferenceEvaluator  # noqa: E402  # after the check that it is there

C_IN, HIDDEN, STEPS, BATCH = 3, 4, 5, 2
Arrays = dict[str, np.ndarray]


def evaluate(op: str, arrays: Arrays, outputs: int, attributes: dict[str, int | str]) -> list[Tensor]:
    """Run one node in the reference evaluator; `arrays` has its inputs by the specification's names."""
    order = {
        "RNN": ["X", "W", "R", "B", "", "initial_h"],
        "GRU": ["X", "W", "R", "B", "", "initial_h"],
        "LSTM": ["X", "W", "R", "B", "", "initial_h", "initial_c", "P"],
    }[op]
    names = [name if name in arrays else "" for name in order]
    results = ["Y", "Y_h", "Y_c"][:outputs]
    node = onnx.helper.make_node(op, names, results, hidden_size=HIDDEN, **attributes)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        op,
        [value(name, onnx.TensorProto.DOUBLE, a.shape) for name, a in arrays.items()],
        [value(name, onnx.TensorProto.DOUBLE, None) for name in results],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)])
    return [torch.from_numpy(a.copy()) for a in ReferenceEvaluator(model).run(None, arrays)]


def reorder(weight: Tensor, order: str, ours: str) -> Tensor:
    """Reorder stacked gates from Canton's order `ours` to ONNX's `order`."""
    by_name = dict(zip(ours, weight.chunk(len(ours)), strict=True))
    return torch.cat([by_name[gate] for gate in order])


def rnn_arrays(rnn: Recurrent, k: int) -> dict[str, Tensor]:
    p = {name: rnn.get_parameter(f"cells.{k}.{name}") for name in ("input_map.weight", "hidden_map.weight")}
    bias = rnn.get_parameter(f"cells.{k}.input_map.bias")
    return {
        "W": p["input_map.weight"],
        "R": p["hidden_map.weight"],
        "B": torch.cat([bias, torch.zeros_like(bias)]),
    }


def gru_arrays(rnn: Recurrent, k: int) -> dict[str, Tensor]:
    """Return ONNX's arrays: gates z, r, h; its z weights the old value, so Canton's is negated."""
    own = {n.removeprefix(f"cells.{k}."): p for n, p in rnn.named_parameters() if n.startswith(f"cells.{k}.")}
    sign = torch.ones(3 * HIDDEN, dtype=torch.float64)
    sign[:HIDDEN] = -1
    recurrent = torch.zeros(3 * HIDDEN, dtype=torch.float64)
    if "candidate_map.bias" in own:
        recurrent[2 * HIDDEN :] = own["candidate_map.bias"]
    stacked = torch.cat([own["hidden_map.weight"], own["candidate_map.weight"]])
    return {
        "W": sign[:, None] * own["input_map.weight"],
        "R": sign[:, None] * stacked,
        "B": torch.cat([sign * own["input_map.bias"], recurrent]),
    }


def lstm_arrays(rnn: Recurrent, k: int) -> dict[str, Tensor]:
    """Return ONNX's arrays: gates i, o, f, c; peepholes i, o, f."""
    cell = rnn.get_submodule(f"cells.{k}")
    bias = reorder(cell.get_parameter("input_map.bias"), "iofg", "ifgo")
    found = {
        "W": reorder(cell.get_parameter("input_map.weight"), "iofg", "ifgo"),
        "R": reorder(cell.get_parameter("hidden_map.weight"), "iofg", "ifgo"),
        "B": torch.cat([bias, torch.zeros_like(bias)]),
    }
    if isinstance(cell, canton.LSTMCell) and cell.peephole is not None:
        i, f, o = cell.peephole
        found["P"] = torch.cat([i, o, f])
    return found


def compare(op: str, rnn: Recurrent, attributes: dict[str, int | str]) -> None:
    rnn = rnn.double()
    shake_(rnn)
    xs = torch.randn(STEPS, BATCH, C_IN, dtype=torch.float64)
    state = tuple(torch.randn(len(rnn.cells), BATCH, HIDDEN, dtype=torch.float64) for _ in rnn.state_sizes)
    arrays_of = {"RNN": rnn_arrays, "GRU": gru_arrays, "LSTM": lstm_arrays}[op]
    per_direction = [arrays_of(rnn, k) for k in range(len(rnn.cells))]
    arrays = {n: torch.stack([a[n] for a in per_direction]).detach().numpy() for n in per_direction[0]}
    arrays |= {"X": xs.numpy(), "initial_h": state[0].numpy()}
    if len(state) == 2:
        arrays["initial_c"] = state[1].numpy()
    try:
        y, *ends = evaluate(op, arrays, 1 + len(state), attributes)
    except NotImplementedError:
        pytest.skip(f"the evaluator of onnx {onnx.__version__} does not run both directions")
    ys, end = rnn(xs, state[0] if len(state) == 1 else state)
    assert_close(ys, y.transpose(1, 2).flatten(2), "outputs")  # ONNX: (T, directions, B, H)
    for ours, theirs in zip((end,) if isinstance(end, Tensor) else end, ends, strict=True):
        assert_close(ours, theirs, "final state")


DIRECTIONS = pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])


def direction(bidirectional: bool) -> dict[str, int | str]:
    return {"direction": "bidirectional"} if bidirectional else {}


@DIRECTIONS
def test_rnn(bidirectional: bool) -> None:
    both: dict[str, int | str] = direction(bidirectional)
    compare("RNN", canton.RNN(C_IN, HIDDEN, bidirectional=bidirectional), both)


@DIRECTIONS
@pytest.mark.parametrize(("reset", "linear_before_reset"), [("before", 0), ("after", 1)])
def test_gru(reset: str, linear_before_reset: int, bidirectional: bool) -> None:
    rnn = canton.GRU(C_IN, HIDDEN, bidirectional=bidirectional, reset=reset)
    compare("GRU", rnn, {"linear_before_reset": linear_before_reset, **direction(bidirectional)})


@DIRECTIONS
@pytest.mark.parametrize("peephole", [False, True])
def test_lstm(peephole: bool, bidirectional: bool) -> None:
    rnn = canton.LSTM(C_IN, HIDDEN, bidirectional=bidirectional, peephole=peephole)
    compare("LSTM", rnn, direction(bidirectional))


def test_the_two_resets_differ() -> None:
    before = canton.GRU(C_IN, HIDDEN, reset="before")
    with pytest.raises(AssertionError, match="outputs"):
        compare("GRU", before, {"linear_before_reset": 1})

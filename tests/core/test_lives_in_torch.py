"""Layers can be saved, copied, cast, compiled, exported and transformed like torch's modules."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from beartype import beartype
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import TypeCheckError, jaxtyped
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

import canton
from canton import Recurrent, detach
from canton.core.cell import Cell
from tolerances import assert_close

LAYERS = {
    "gru": lambda: canton.GRU(3, 4),
    "gru-after": lambda: canton.GRU(3, 4, reset="after", layer_norm=True),
    "lstm": lambda: canton.LSTM(3, 4, peephole=True, proj_size=2, learn_initial_state=True),
    "rnn": lambda: canton.RNN(3, 4),
    "mgu": lambda: canton.MGU(3, 4),
    "mingru": lambda: canton.MinGRU(3, 4),
    "convgru": lambda: canton.ConvGRU2d(3, 4, 3),
    "convlstm": lambda: canton.ConvLSTM1d(3, 4, (5,), bias=False),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
SPACE = {"convgru": (5, 4), "convlstm": (6,)}


def sequence(name: str, steps: int = 4) -> Tensor:
    return torch.randn(steps, 2, 3, *SPACE.get(name, ()))


def outputs(rnn: nn.Module, xs: Tensor) -> Tensor:
    ys, state = rnn(xs)
    rest = (state,) if isinstance(state, Tensor) else state
    return torch.cat([ys.flatten(), *(s.flatten() for s in rest)])


def kernel_loop_(rnn: Recurrent) -> Recurrent:
    rnn.kernel = "loop"
    return rnn


@every_layer
def test_state_dict_deepcopy_and_torch_save(name: str, tmp_path: Path) -> None:
    rnn, xs = LAYERS[name](), sequence(name)
    expected = outputs(rnn, xs)
    other = LAYERS[name]()
    assert not torch.equal(outputs(other, xs), expected)
    other.load_state_dict(rnn.state_dict())
    assert torch.equal(outputs(other, xs), expected)
    assert torch.equal(outputs(copy.deepcopy(rnn), xs), expected)
    torch.save(rnn, tmp_path / "rnn.pt")
    loaded = torch.load(tmp_path / "rnn.pt", weights_only=False)  # the file written above
    assert torch.equal(outputs(loaded, xs), expected)


@every_layer
def test_float64_agrees_with_float32(name: str) -> None:
    rnn, xs = LAYERS[name](), sequence(name)
    single = outputs(rnn, xs)
    double = outputs(rnn.double(), xs.double())
    assert double.dtype == torch.float64
    assert_close(single, double, "outputs")


@every_layer
def test_autocast_to_bfloat16(name: str) -> None:
    rnn, xs = LAYERS[name](), sequence(name)
    expected = outputs(rnn, xs)
    with torch.autocast("cpu", torch.bfloat16):
        got = outputs(rnn, xs)
        got.float().sum().backward()
    assert_close(got.float(), expected, "outputs", slack=1500)  # bfloat16's 3e-2 against float32's 2e-5
    assert all(p.grad is None or p.grad.isfinite().all() for p in rnn.parameters())
    assert any(p.grad is not None and p.grad.any() for p in rnn.parameters())


def test_the_memory_format_does_not_matter() -> None:
    rnn = canton.ConvGRU2d(3, 4, 3)
    xs = torch.randn(4, 2, 3, 6, 5)
    expected, _ = rnn(xs)
    last = xs.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (4, 2))
    assert last.stride() != xs.stride()
    assert_close(rnn(last)[0], expected, "outputs")
    assert_close(rnn.to(memory_format=torch.channels_last).step(last[0])[0], expected[0], "a step")


@every_layer
def test_a_step_compiles_as_one_graph(name: str) -> None:
    torch._dynamo.reset()
    rnn, xs = LAYERS[name](), sequence(name)
    _, state = rnn.step(xs[0])
    step = torch.compile(rnn.step, fullgraph=True, backend="aot_eager")
    y, after = step(xs[1], state)
    expected, expected_after = rnn.step(xs[1], state)
    assert_close(y, expected, "a step")
    y, _ = step(xs[2], after)  # with the state that it returned
    assert_close(y, rnn.step(xs[2], expected_after)[0], "the next step")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gru", "convgru", "lstm"])
def test_a_step_compiles_with_inductor(name: str) -> None:
    torch._dynamo.reset()
    rnn, xs = LAYERS[name](), sequence(name)
    y, _ = torch.compile(rnn.step, fullgraph=True)(xs[0])
    assert_close(y, rnn.step(xs[0])[0], "a step")


@every_layer
def test_a_step_exports(name: str) -> None:
    class Step(nn.Module):
        def __init__(self, rnn: Recurrent) -> None:
            super().__init__()
            self.rnn = rnn

        def forward(self, x: Tensor, state: Tensor | tuple[Tensor, ...]) -> object:
            return self.rnn.step(x, state)

    rnn, xs = LAYERS[name](), sequence(name)
    _, state = rnn.step(xs[0])
    program = torch.export.export(Step(rnn), (xs[1], state))
    y, _ = program.module()(xs[1], state)
    assert_close(y, rnn.step(xs[1], state)[0], "a step")


@every_layer
def test_vmap_over_sequences(name: str) -> None:
    rnn = LAYERS[name]()
    many = torch.stack([sequence(name) for _ in range(3)])
    got = torch.func.vmap(lambda xs: rnn(xs)[0])(many)
    assert_close(got, torch.stack([rnn(xs)[0] for xs in many]), "outputs")


@every_layer
def test_jvp_is_the_vjp_transposed(name: str) -> None:
    rnn, xs = LAYERS[name]().double(), sequence(name).double()
    tangent, weight = torch.randn_like(xs), None
    ys, forward = torch.func.jvp(lambda x: rnn(x)[0], (xs,), (tangent,))
    weight = torch.randn_like(ys)
    _, pull = torch.func.vjp(lambda x: rnn(x)[0], xs)
    assert_close((forward * weight).sum(), (pull(weight)[0] * tangent).sum(), "inner product")


@every_layer
def test_double_backward_of_the_loop(name: str) -> None:
    rnn = kernel_loop_(LAYERS[name]().double())
    xs = sequence(name, steps=3).double().requires_grad_()
    names, weights = zip(*rnn.named_parameters(), strict=True)

    def run(xs: Tensor, *weights: Tensor) -> Tensor:
        ys: Tensor = torch.func.functional_call(rnn, dict(zip(names, weights, strict=True)), (xs,))[0]
        return ys

    assert torch.autograd.gradgradcheck(run, (xs, *weights), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layer", [canton.GRU, canton.LSTM, canton.MGU, canton.MinGRU])
def test_double_backward_in_half_precision(
    layer: Callable[[int, int], Recurrent], dtype: torch.dtype
) -> None:
    """Compare over many steps: the two implementations round differently."""
    rnn, xs = layer(16, 32).to(dtype), torch.randn(50, 4, 16).to(dtype).requires_grad_()
    twice = []
    for kernel in (rnn.kernel, "loop"):
        rnn.kernel = kernel
        (once,) = torch.autograd.grad(rnn(xs)[0].float().square().sum(), xs, create_graph=True)
        twice.append(torch.autograd.grad(once.float().square().sum(), xs)[0].float())
    apart = (twice[0] - twice[1]).norm() / twice[1].norm()
    assert apart < 20 * torch.finfo(dtype).eps


@pytest.mark.parametrize("layer", [canton.GRU, canton.LSTM, canton.MGU])
def test_double_backward_with_other_weights_is_an_error(layer: Callable[[int, int], Recurrent]) -> None:
    rnn, xs = layer(3, 4), torch.randn(4, 2, 3, requires_grad=True)
    others = {key: 2 * weight.detach() for key, weight in rnn.named_parameters()}
    ys: Tensor = torch.func.functional_call(rnn, others, (xs,))[0]
    with pytest.raises(RuntimeError, match="kernel='loop'"):
        torch.autograd.grad(ys.square().sum(), xs, create_graph=True)


@every_layer
@pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.trace.*:DeprecationWarning"
)
def test_a_trace_gives_the_same_numbers(name: str) -> None:
    rnn, xs = LAYERS[name]().eval(), sequence(name)
    with torch.no_grad():
        ys, _ = torch.jit.trace(rnn, (xs,), check_trace=False)(xs)
        assert_close(ys, rnn(xs)[0])


@every_layer
def test_meta_device(name: str) -> None:
    with torch.device("meta"):
        rnn = LAYERS[name]()
    ys, _ = rnn(sequence(name).to("meta"))
    assert ys.is_meta
    assert ys.shape == LAYERS[name]()(sequence(name))[0].shape


def test_device_and_dtype_arguments() -> None:
    rnn = canton.LSTM(3, 4, peephole=True, learn_initial_state=True, device="meta", dtype=torch.float64)
    assert {(p.is_meta, p.dtype) for p in rnn.parameters()} == {(True, torch.float64)}


@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequences_come_back_packed(enforce_sorted: bool, bidirectional: bool) -> None:
    rnn = canton.GRU(3, 4, bidirectional=bidirectional)
    lengths = [5, 3, 1] if enforce_sorted else [3, 5, 1]
    rows = [torch.randn(n, 3) for n in lengths]
    packed, end = rnn(pack_sequence(rows, enforce_sorted=enforce_sorted))
    assert isinstance(packed, PackedSequence)
    padded, found = pad_packed_sequence(packed)
    assert found.tolist() == lengths
    for b, row in enumerate(rows):
        alone, last = rnn(row)
        assert_close(padded[: len(row), b], alone, f"row {b}")
        assert_close(end[:, b], last, f"final state of row {b}")


def test_detach_keeps_values_and_shape() -> None:
    _, state = canton.LSTM(3, 4)(torch.randn(2, 1, 3))
    cut = detach(state)
    assert isinstance(cut, tuple)
    for a, b in zip(cut, state, strict=True):
        assert torch.equal(a, b)
        assert b.requires_grad
        assert not a.requires_grad


def test_annotated_shapes_are_checked() -> None:
    forward = jaxtyped(typechecker=beartype)(Cell.forward)
    gru = canton.GRUCell(3, 4)
    assert forward(gru, torch.randn(2, 3)).shape == (2, 4)
    assert forward(gru, torch.tensor([0, 2], dtype=torch.uint8)).shape == (2, 4)
    with pytest.raises((TypeCheckError, BeartypeCallHintParamViolation)):
        forward(gru, torch.tensor([[0, 2]]))

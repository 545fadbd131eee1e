"""The kernels of a GPU against the reference loop in float64 on the CPU.

Every case runs three times with new numbers: directly, recorded, and played back.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import canton
from canton import kernels
from canton.core.recurrent import Recurrent, loop
from canton.kernels import Run, cuda_graphs
from canton.kernels.cuda_graphs import capture
from cases import MAPS, shake_
from runs import OPTIONS, RUNS, copy_run, make_cell, outcome, random_run, setting
from tolerances import assert_close

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.filterwarnings("error:the loop cannot be recorded"),
]

Found = dict[str, Tensor]


@pytest.fixture(autouse=True)
def replays(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Full float32, nothing recorded yet; counts what is played back."""
    count = [0]

    def replay(graph: capture.Graph) -> None:
        count[0] += 1
        graph.graph.replay()

    monkeypatch.setattr(capture.Graph, "replay", replay)
    cuda_graphs.clear()
    with (
        setting(torch.backends.cuda.matmul, "allow_tf32", False),
        setting(torch.backends.cudnn, "allow_tf32", False),
    ):
        yield count
    cuda_graphs.clear()


def held(found: Found, truth: Found, what: str, slack: float = 1.0) -> None:
    assert found.keys() == truth.keys(), f"{what}: a gradient is there for one and not for the other"
    for name, value in truth.items():
        assert_close(found[name], value, what=f"{what}: {name}", slack=slack)


def update_(module: nn.Module, source: nn.Module) -> None:
    """Write the source's numbers into the parameters where they are, as an optimiser does."""
    with torch.no_grad():
        for own, new in zip(module.parameters(), source.parameters(), strict=True):
            own.copy_(new)


@pytest.mark.parametrize(("cell", "place", "options"), RUNS)
def test_kernels_equal_the_loop(cell: str, place: str, options: str, replays: list[int]) -> None:
    made = make_cell(cell, place)
    there = copy.deepcopy(made).to("cuda", torch.float32)
    names = ("manual", "cuda_graphs", "auto") if options in ("plain", "state") else ("manual", "cuda_graphs")
    for turn in range(3):
        shake_(made)
        update_(there, made)
        run = random_run(made, MAPS[place], OPTIONS[options])
        truth = outcome(run, made, lambda run, loop: loop(run))
        for name in names:
            found = outcome(
                copy_run(run, there, "cuda", torch.float32), there, partial(kernels.execute, kernel=name)
            )
            # cuDNN's convolutions round more than a product does
            held(found, truth, f"{name}, turn {turn}", slack=1 if place == "dense" else 3)
    assert replays[0] >= 4, "there and back at the second turn and at the third"


def run_of(cell: canton.Cell, steps: int = 9, batch: int = 3) -> Run:
    first = next(cell.parameters())
    device, dtype = first.device, first.dtype
    gx = cell.project(torch.randn(steps * batch, 3, device=device, dtype=dtype)).unflatten(0, (steps, batch))
    gx = gx.detach().requires_grad_()
    return Run(cell.spec(), gx, *(cell.zero_state(gx[0], dtype),) * 2)


@pytest.mark.parametrize("kernel", ["manual", "cuda_graphs"])
@pytest.mark.parametrize("place", ["dense", "conv2d"])
def test_runs_are_reproducible(place: str, kernel: str, replays: list[int]) -> None:
    made = make_cell("gru", place)
    there = copy.deepcopy(made).to("cuda", torch.float32)
    run = copy_run(random_run(made, MAPS[place], OPTIONS["all"]), there, "cuda", torch.float32)
    with setting(torch.backends.cudnn, "deterministic", True):
        runs = [outcome(run, there, partial(kernels.execute, kernel=kernel)) for _ in range(4)]
    for later in runs[2:]:
        assert all(torch.equal(later[name], runs[1][name]) for name in later)
    held(runs[1], runs[0], "recorded and run", slack=3)
    assert replays[0] == (6 if kernel == "cuda_graphs" else 0)


@pytest.mark.parametrize("place", ["dense", "conv2d"])
def test_bfloat16(place: str) -> None:
    made = make_cell("gru", place).to(torch.bfloat16).double()  # numbers that both can hold
    there = copy.deepcopy(made).to("cuda", torch.bfloat16)
    for turn in range(3):
        run = random_run(made, MAPS[place], ("state", "reset"))
        with torch.no_grad():
            for t in (run.gx, *run.state, *run.reset_state):
                t.copy_(t.bfloat16())
        truth = outcome(run, made, lambda run, loop: loop(run))
        for name in ("manual", "cuda_graphs"):
            found = outcome(
                copy_run(run, there, "cuda", torch.bfloat16), there, partial(kernels.execute, kernel=name)
            )
            held(found, truth, f"{name}, turn {turn}", slack=2)


def stack(kernel: str) -> tuple[Recurrent, Recurrent]:
    """Two layers of one shape, on the CPU in float64 and on the GPU in float32."""
    truth = Recurrent([canton.GRUCell(6, 6, reset="after") for _ in range(2)], kernel="loop").double()
    shake_(truth)
    there = copy.deepcopy(truth).to("cuda", torch.float32)
    there.kernel = kernel
    return truth, there


@pytest.mark.parametrize("kernel", ["manual", "cuda_graphs", "auto"])
def test_layers_of_one_shape_and_weights_that_change(kernel: str, replays: list[int]) -> None:
    truth, there = stack(kernel)
    optimiser = torch.optim.SGD(there.parameters(), lr=0.1)
    first = None
    for turn in range(4):
        xs = torch.randn(7, 3, 6, dtype=torch.float64)
        for layer, given in ((truth, xs), (there, xs.to("cuda", torch.float32))):
            layer.zero_grad()
            ys, h = layer(given)
            (ys.square().sum() + (3 * h).sum()).backward()
        assert_close(ys, truth(xs)[0], what=f"turn {turn}")
        if first is None and turn == 2:
            first, copied = ys, ys.clone()
        for own, wanted in zip(there.parameters(), truth.parameters(), strict=True):
            assert_close(own.grad, wanted.grad, what=f"turn {turn}, a gradient")
        optimiser.step()
        if turn == 1:  # other tensors altogether
            for parameter in there.parameters():
                parameter.data = parameter.data.clone()
        update_(truth, there)
    assert torch.equal(first, copied), "a later run wrote to what it gave"
    # at first sight the first layer is run; the second, of the same shape, is recorded at once
    assert replays[0] == (0 if kernel == "manual" else 4 * 4 - 2)
    assert there.which(xs.to("cuda", torch.float32)) == ("manual" if kernel == "manual" else "cuda_graphs")


def test_late_backward_pass(replays: list[int]) -> None:
    cell = canton.GRUCell(3, 4).cuda()
    runs = [run_of(cell) for _ in range(4)]
    grads = []
    for kernel in ("cuda_graphs", "loop"):
        outs = [kernels.execute(run, partial(loop, cell=cell), kernel)[0] for run in runs]
        grads.append(
            [torch.autograd.grad(y.square().sum(), run.gx)[0] for y, run in zip(outs, runs, strict=True)]
        )
    for found, truth in zip(*grads, strict=True):
        assert_close(found, truth)
    assert replays[0] == 6


def test_gradients_of_gradients(replays: list[int]) -> None:
    cell = canton.LSTMCell(3, 2).cuda().double()
    gx = torch.randn(4, 2, 8, dtype=torch.float64, device="cuda", requires_grad=True)
    state = cell.zero_state(gx[0], gx.dtype)

    def ys(gx: Tensor) -> Tensor:
        return kernels.execute(Run(cell.spec(), gx, state, state), partial(loop, cell=cell), "cuda_graphs")[0]

    assert torch.autograd.gradcheck(ys, gx)
    assert torch.autograd.gradgradcheck(ys, gx)
    assert replays[0] > 10


def test_autocast_uses_the_loop() -> None:
    truth, there = stack("auto")
    xs = torch.randn(7, 3, 6, dtype=torch.float64)
    given = xs.to("cuda", torch.float32)
    with torch.autocast("cuda", torch.bfloat16):
        assert there.which(given) == "loop"
        for _ in range(3):
            ys, _ = there(given)
    assert_close(ys.to(torch.bfloat16), truth(xs)[0], slack=2)


def test_without_gradients_and_in_inference_mode(replays: list[int]) -> None:
    truth, there = stack("cuda_graphs")
    for mode in (torch.no_grad, torch.inference_mode, torch.no_grad, torch.inference_mode):
        xs = torch.randn(7, 3, 6, dtype=torch.float64)
        with mode():
            ys, _ = there(xs.to("cuda", torch.float32))
            assert_close(ys, truth(xs)[0])
    assert replays[0] == 7


def test_on_several_streams(replays: list[int]) -> None:
    """Streams share a recording: none may overwrite a result before another has read it."""
    cell = canton.GRUCell(3, 64).cuda()
    runs = [run_of(cell, steps=64, batch=32) for _ in range(8)]
    streams = [torch.cuda.Stream() for _ in range(3)]
    with torch.no_grad():
        truth = [loop(run, cell)[0] for run in runs]
        for run in runs[:2]:
            kernels.execute(run, partial(loop, cell=cell), "cuda_graphs")
        torch.cuda.synchronize()
        outs = []
        for k, run in enumerate(runs):
            with torch.cuda.stream(streams[k % 3]):
                outs.append(kernels.execute(run, partial(loop, cell=cell), "cuda_graphs")[0])
        torch.cuda.synchronize()
    for found, wanted in zip(outs, truth, strict=True):
        assert_close(found, wanted)
    assert replays[0] == 9


def test_inside_another_capture(replays: list[int]) -> None:
    _, there = stack("auto")
    xs = torch.randn(7, 3, 6, device="cuda")
    with torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                there(xs)
        torch.cuda.current_stream().wait_stream(side)
        before = replays[0]
        theirs = torch.cuda.CUDAGraph()
        with torch.cuda.graph(theirs):
            assert there.which(xs) == "manual"
            ys, _ = there(xs)
        assert replays[0] == before
        xs.copy_(torch.randn(7, 3, 6))
        theirs.replay()
        there.kernel = "loop"
        assert_close(ys, there(xs)[0])


def test_clear_frees_memory() -> None:
    cell = canton.GRUCell(3, 256).cuda()
    run = run_of(cell, steps=64, batch=64)

    def allocated() -> int:
        capture._drop_workspaces()  # which come and go
        return torch.cuda.memory_allocated()

    before = allocated()
    for _ in range(3):
        kernels.execute(run, partial(loop, cell=cell), "cuda_graphs")[0].sum().backward()
        run.gx.grad = None
        cell.zero_grad()
    recorded = allocated() - before
    assert recorded > 10 << 20
    cuda_graphs.clear()
    assert allocated() - before < recorded / 4

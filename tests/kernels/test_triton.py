"""The Triton kernels against the reference loop in float64, in Triton's interpreter, and on a GPU.

The interpreter is chosen when Triton is imported, so that it runs in a process of its own. Without a GPU the
programs still go through the GPU's compiler.
"""

from __future__ import annotations

import copy
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import canton
from activations import assert_as_exact_as_torch
from activations import make_run as make_activation_run
from canton import kernels
from canton.core.recurrent import loop
from canton.kernels import Run, triton
from canton.kernels.triton import gru
from runs import setting
from tolerances import assert_close

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

SIZES = ((1, 1, 7), (3, 5, 16), (4, 17, 33), (2, 3, 300))
"""Steps, batch, hidden in the interpreter: one block and several, whole and odd."""

FEW = 3, ((3, 130, 40), (2, 20, 70))
"""Processors and sizes: more blocks than processors, so that a program has several blocks of rows."""

GPU_SIZES = {
    torch.float32: (
        (1, 1, 16), (5, 1, 256), (7, 3, 200), (9, 16, 512), (6, 17, 1024), (5, 64, 256), (4, 200, 768),
        (3, 300, 33), (2, 700, 64), (2, 256, 512),
    ),
    torch.bfloat16: ((5, 64, 256), (7, 3, 200), (6, 17, 1024), (4, 200, 768)),
}  # fmt: skip
"""On a GPU with 132 multiprocessors: every shape of block, members from 2 to 64, one row and many."""

Found = dict[str, Tensor]


def make_run(
    steps: int, batch: int, hidden: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[Run, canton.GRUCell]:
    torch.manual_seed(steps)
    cell = canton.GRUCell(6, hidden).to(device, dtype)
    gx = torch.randn(steps, batch, 3 * hidden).to(device, dtype).requires_grad_()
    h0 = torch.randn(batch, hidden).to(device, dtype).requires_grad_()
    return Run(cell.spec(), gx, (h0,), (torch.zeros_like(h0),)), cell


def in_float64(run: Run, cell: canton.GRUCell) -> tuple[Run, canton.GRUCell]:
    """The same values, as leaves of their own."""
    gx, h0 = (t.detach().double().requires_grad_() for t in (run.gx, run.state[0]))
    cell = copy.deepcopy(cell).double()
    return Run(cell.spec(), gx, (h0,), (torch.zeros_like(h0),)), cell


def results(run: Run, cell: canton.GRUCell, *, fast: bool, second: bool = False) -> Found:
    """Outputs, last state, every gradient by name; with `second` also a gradient of a gradient."""
    truth = partial(loop, cell=cell)
    ys, (h,) = gru.execute(run, truth) if fast else truth(run)
    draw = torch.Generator().manual_seed(1)  # rounded, so that every dtype gets the same values
    weight, last = (torch.randn(t.shape, generator=draw).bfloat16().to(t) for t in (ys, h))
    leaves = {"gx": run.gx, "h0": run.state[0], **dict(cell.named_parameters())}
    leaves = {name: leaf for name, leaf in leaves.items() if not name.startswith("input_map")}
    loss = (ys * weight).sum() + (h * last).sum()
    grads = torch.autograd.grad(loss, list(leaves.values()), create_graph=second)
    found = {"ys": ys, "h": h, **dict(zip(leaves, grads, strict=True))}
    if second:
        (found["second"],) = torch.autograd.grad(found["gx"].square().sum(), run.state[0])
    return {name: value.detach() for name, value in found.items()}


def compare(
    steps: int,
    batch: int,
    hidden: int,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    *,
    second: bool = False,
    slack: float = 1.0,
) -> None:
    run, cell = make_run(steps, batch, hidden, dtype, device)
    assert triton.unsupported_reason(run) is None
    found = results(run, cell, fast=True, second=second)
    truth = results(*in_float64(run, cell), fast=False, second=second)
    for name, value in truth.items():
        assert found[name].dtype == dtype
        assert_close(found[name], value, what=f"{name} at {(steps, batch, hidden)}, {dtype}", slack=slack)


@contextmanager
def processors(count: int) -> Iterator[None]:
    """A GPU of `count` multiprocessors, as far as the launches know."""
    from canton.kernels.triton import launch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "processors_of", lambda device: count)
        yield


def interpreter_is_broken() -> bool:
    """Triton before 3.7 makes scalars of arrays in a way that NumPy 2.4 refuses (triton-lang/triton#9171)."""

    def release(package: str) -> tuple[int, ...]:
        return tuple(int(number) for number in version(package).split(".")[:2])

    return release("triton") < (3, 7) and release("numpy") >= (2, 4)


def test_interpreter() -> None:
    if interpreter_is_broken():
        pytest.skip("the interpreter of this Triton does not run with this NumPy (triton-lang/triton#9171)")
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, __file__], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["compared", str(len(SIZES) + len(FEW[1]))]


@pytest.mark.parametrize("block", [(16, 8), (16, 16), (32, 32), (64, 32)], ids=str)
@pytest.mark.parametrize("kind", ["float32", "tf32", "bfloat16"])
def test_programs_compile_for_a_gpu(kind: str, block: tuple[int, int]) -> None:
    """Down to machine code for Hopper; needs no GPU."""
    from triton import compile as compile_triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from canton.kernels.triton import launch, programs

    short = "bf16" if kind == "bfloat16" else "fp32"
    precision, split, depth = launch.SLABS[block][kind]
    constants = {"PRECISION": precision, "ROWS": block[0], "COLS": block[1], "DEPTH": depth, "SPLIT": split}
    for program in (programs.forward, programs.backward):
        names = program.arg_names
        signature = dict.fromkeys(names, f"*{short}")
        signature |= dict.fromkeys(("steps", "batch", "hidden"), "i32")
        signature |= dict.fromkeys(constants, "constexpr") | {"counters": "*i32"}
        if "d_h" in names:
            signature["d_h"] = "*fp32"
        values = {(names.index(name),): value for name, value in constants.items()}
        source = ASTSource(program, signature, values)
        options = {"num_warps": 8, "num_stages": 1, "launch_cooperative_grid": True}
        built = compile_triton(source, target=GPUTarget("cuda", 90, 32), options=options)
        assert len(built.asm["cubin"]) > 1000
        assert built.metadata.shared <= triton.SHARED_BYTES
        assert "gpu.release" in built.asm["ptx"]  # a wait releases what the program has stored


def test_plan_covers_rows_and_units() -> None:
    from canton.kernels.triton import launch

    for count in (1, 3, 14, 114, 132):
        for batch in (1, 16, 17, 64, 300, 5000):
            for hidden in (1, 16, 33, 256, 1024, 5000):
                rows, cols, groups, members = launch.plan(batch, hidden, count)
                assert 1 <= groups * members <= count
                assert (groups - 1) * rows < batch
                assert (members - 1) * cols < hidden
    assert launch.plan(0, 64, 132)[2] == 0, "no rows, no programs"
    assert launch.plan(16, 1024, 132) == (16, 8, 1, 128)
    assert launch.plan(256, 1024, 132) == (64, 32, 4, 32)


def test_unsupported_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    run, cell = make_run(2, 3, 4)
    assert triton.unsupported_reason(run) == "it needs a GPU"
    small = SimpleNamespace(shared_memory_per_block_optin=101_376)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: small)
    assert "131,072 bytes of shared memory" in (triton._device_reason(torch.device("cuda")) or "")
    small.shared_memory_per_block_optin = 232_448
    assert triton._device_reason(torch.device("cuda")) is None
    with pytest.raises(ValueError, match="it needs a GPU"):
        kernels.execute(run, partial(loop, cell=cell), "triton")


@on_a_gpu
@pytest.mark.parametrize(
    ("dtype", "size"), [(dtype, size) for dtype, sizes in GPU_SIZES.items() for size in sizes], ids=str
)
def test_on_a_gpu(dtype: torch.dtype, size: tuple[int, int, int]) -> None:
    compare(*size, dtype, "cuda")


@on_a_gpu
def test_many_steps_on_a_gpu() -> None:
    """Over a thousand waits in each direction."""
    compare(512, 16, 256, device="cuda")


@on_a_gpu
def test_more_blocks_than_processors_on_a_gpu() -> None:
    with processors(5):
        compare(2, 150, 768, device="cuda")  # members go on to further columns
    with processors(50):
        compare(2, 300, 768, device="cuda")  # groups go on to further rows


@on_a_gpu
def test_gradient_of_a_gradient_on_a_gpu() -> None:
    compare(5, 3, 256, device="cuda", second=True)


@on_a_gpu
def test_the_same_bits_twice_on_a_gpu() -> None:
    run, cell = make_run(40, 64, 256, device="cuda")
    first, again = (results(run, cell, fast=True) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, again[name]), name


@on_a_gpu
def test_tf32() -> None:
    """TF32 has 10 bits of mantissa: an error of 2**-11 a term is right, 4e-3 of the largest is allowed."""
    exact = results(*make_run(5, 64, 256, device="cuda"), fast=True)
    with setting(torch.backends.cuda.matmul, "allow_tf32", True):
        compare(5, 64, 256, device="cuda", slack=200.0)
        rounded = results(*make_run(5, 64, 256, device="cuda"), fast=True)
    assert not torch.equal(exact["ys"], rounded["ys"]), "TF32 was allowed and not used"


def members_at_once(program, members: int, tensors: list[Tensor], sizes: tuple[int, int, int]) -> None:
    """Run one group of programs in the interpreter, each in a process of its own, with random pauses."""
    from triton.runtime import interpreter

    builder, load = interpreter.interpreter_builder, interpreter.interpreter_builder.create_masked_load

    def slow_load(*args):
        time.sleep(0.02 * (random.random() < 0.1))
        return load(*args)

    children = []
    for member in range(members):
        if child := os.fork():
            children.append(child)
            continue
        signal.alarm(100)  # a wait without end fails
        random.seed(member)
        builder.create_masked_load = slow_load
        builder.set_grid_dim = lambda *_: setattr(builder, "grid_dim", (1, members, 1))
        builder.set_grid_idx = lambda *_, member=member: setattr(builder, "grid_idx", (0, member, 0))
        program[(1, 1)](*tensors, *sizes, PRECISION="ieee", ROWS=16, COLS=8, DEPTH=16, SPLIT=8)
        os._exit(0)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)


def compare_members(members: int) -> None:
    """Programs that run at once find what one alone finds, to the bit: no wait too few, none without end."""
    from canton.kernels.triton import launch as launches
    from canton.kernels.triton import programs as programs

    torch.set_num_threads(1)
    steps, batch, hidden = sizes = 8, 3, 20
    run, cell = make_run(*sizes)
    gates, candidate = cell.hidden_map.weight, cell.candidate_map.weight
    d_ys = torch.randn(steps, batch, hidden)
    kept = launches.forward(run.gx, run.state[0], gates, candidate)
    d_gx, d_h = launches.backward(d_ys, gates, candidate, *kept[:3])

    def shared(tensor: Tensor) -> Tensor:
        return torch.full_like(tensor, float("nan")).share_memory_()

    states, zr, c, rh, d_x, carry = (shared(tensor) for tensor in (*kept, d_gx, d_h))
    states[0], carry[:] = run.state[0].detach(), 0.0
    counters = torch.zeros(2, 1, dtype=torch.int32).share_memory_()
    weights = [launches._packed(gates, candidate, 8, transposed=way) for way in (True, False)]
    ahead = [run.gx.detach(), weights[0], states, zr, c, rh, counters[0]]
    members_at_once(programs.forward, members, ahead, sizes)
    back = [d_ys, carry, weights[1], states, zr, c, d_x, counters[1]]
    members_at_once(programs.backward, members, back, sizes)
    for found, alone in zip((states, zr, c, rh, d_x, carry), (*kept, d_gx, d_h), strict=True):
        assert torch.equal(found, alone)


def compare_activations() -> None:
    """Relative errors from 1e-8 to 1e2."""
    cell = canton.GRUCell(6, 16)
    for gate in range(3):
        for state in (0.0, 0.4):
            run = make_activation_run(cell, gate, state, rows=64)
            assert_as_exact_as_torch(run, cell, gru.execute)


if __name__ == "__main__":
    compare_activations()
    compare_members(3)
    compare_members(2)  # one of them with two blocks of columns
    for size in SIZES:
        compare(*size, second=True)
    with processors(FEW[0]):
        for size in FEW[1]:
            compare(*size)
    print("compared", len(SIZES) + len(FEW[1]))

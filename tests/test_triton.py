"""The Triton kernels against the readable loop, in Triton's interpreter, and through the GPU's compiler.

The interpreter is chosen when Triton is imported, so that the comparison runs in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

import pytest
import torch

import canton
from canton import kernels
from canton.kernels import Job, triton_gru
from canton.recurrent import loop
from tolerances import assert_close

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")

SIZES = ((1, 1, 7), (3, 5, 16), (4, 17, 33), (2, 3, 70))
"""Steps, batch, hidden: one block and several, whole and odd."""


def make_job(steps: int, batch: int, hidden: int) -> tuple[Job, canton.GRUCell]:
    cell = canton.GRUCell(6, hidden)
    gx = torch.randn(steps, batch, 3 * hidden, requires_grad=True)
    h0 = torch.randn(batch, hidden, requires_grad=True)
    return Job(cell.plan(), gx, (h0,), (torch.zeros_like(h0),)), cell


def compare(steps: int, batch: int, hidden: int) -> None:
    torch.manual_seed(steps)
    job, cell = make_job(steps, batch, hidden)
    assert triton_gru.refuses(job) is None
    weight, last = torch.randn(steps, batch, hidden), torch.randn(batch, hidden)
    leaves = {"gx": job.gx, "h0": job.state[0], **dict(cell.named_parameters())}
    leaves = {name: leaf for name, leaf in leaves.items() if not name.startswith("input_map")}
    found = {}
    for name, run in (("triton", triton_gru.run), ("loop", lambda job, loop: loop(job))):
        ys, (h,) = run(job, partial(loop, cell=cell))
        grads = torch.autograd.grad((ys * weight).sum() + (h * last).sum(), list(leaves.values()))
        found[name] = {"ys": ys, "h": h, **dict(zip(leaves, grads, strict=True))}
    for name, truth in found["loop"].items():
        assert_close(found["triton"][name], truth, what=f"{name} at {(steps, batch, hidden)}")
    ys, _ = triton_gru.run(job, partial(loop, cell=cell))
    (first,) = torch.autograd.grad((ys * weight).sum(), job.gx, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), job.state[0])
    ys, _ = loop(job, cell)
    (first,) = torch.autograd.grad((ys * weight).sum(), job.gx, create_graph=True)
    assert_close(
        second, torch.autograd.grad(first.square().sum(), job.state[0])[0], what="gradient of gradient"
    )


def interpreter_is_broken() -> bool:
    """Triton before 3.7 makes scalars of arrays in a way that NumPy 2.4 refuses (triton-lang/triton#9171)."""

    def release(package: str) -> tuple[int, ...]:
        return tuple(int(number) for number in version(package).split(".")[:2])

    return release("triton") < (3, 7) and release("numpy") >= (2, 4)


def test_in_the_interpreter() -> None:
    if interpreter_is_broken():
        pytest.skip("the interpreter of this Triton does not run with this NumPy (triton-lang/triton#9171)")
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, __file__], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["compared", str(len(SIZES))]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_gpu_compiler_takes_them(dtype: str) -> None:
    """Down to machine code for Hopper; needs no GPU."""
    from triton import compile as compile_triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from canton.kernels import triton_programs

    constants = {"ROWS": 16, "COLS": 64, "DEPTH": 64}
    for program in (triton_programs._forward, triton_programs._backward):
        names = program.arg_names
        signature = dict.fromkeys(names, f"*{dtype}")
        signature |= dict.fromkeys(("steps", "batch", "hidden"), "i32") | dict.fromkeys(
            constants, "constexpr"
        )
        if "d_h" in names:
            signature["d_h"] = "*fp32"
        values = {(names.index(name),): value for name, value in constants.items()}
        built = compile_triton(ASTSource(program, signature, values), target=GPUTarget("cuda", 90, 32))
        assert len(built.asm["cubin"]) > 1000


def test_refusals_are_in_words() -> None:
    job, cell = make_job(2, 3, 4)
    assert triton_gru.refuses(job) == "it needs a GPU"
    with pytest.raises(ValueError, match="it needs a GPU"):
        kernels.run(job, partial(loop, cell=cell), "triton")


if __name__ == "__main__":
    for size in SIZES:
        compare(*size)
    print("compared", len(SIZES))

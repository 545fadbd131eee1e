"""The C++ product of large matrices, and the dense map made of it, against torch in float64."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from canton import kernels
from canton.kernels import cpu
from canton.kernels.cpu import gemm, linear
from tolerances import assert_close

pytestmark = pytest.mark.skipif(not cpu.available(), reason=f"no C++ kernels: {cpu.why_not()}")

SHAPES = [(1, 1, 1), (2, 3, 5), (14, 32, 64), (15, 33, 65), (113, 31, 1025), (64, 96, 2050), (300, 7, 40)]


@pytest.mark.parametrize(("rows", "columns", "depth"), SHAPES)
@pytest.mark.parametrize("turned", ["neither", "a", "b", "both"])
def test_product_equals_torch(
    instructions: str,
    rows: int,
    columns: int,
    depth: int,
    turned: str,
) -> None:
    a = torch.randn(depth, rows).t() if turned in ("a", "both") else torch.randn(rows, depth)
    b = torch.randn(columns, depth).t() if turned in ("b", "both") else torch.randn(depth, columns)
    bias = torch.randn(columns)
    expected = a.double() @ b.double()
    assert_close(gemm.multiply(a, b), expected, "product")
    assert_close(gemm.multiply(a, b, bias), expected + bias.double(), "product and bias")


def test_strided_matrices(instructions: str) -> None:
    a, b = torch.randn(50, 3 * 70)[:, 70:140], torch.randn(140, 90)[::2, 10:50]
    assert_close(gemm.multiply(a, b), a.double() @ b.double())
    assert_close(gemm.multiply(a[:, ::2], b[::2, ::3]), a[:, ::2].double() @ b[::2, ::3].double())


@pytest.mark.parametrize("turned", [False, True])
def test_threads_do_not_change_the_bits(turned: bool) -> None:
    a, b = torch.randn(1030, 1029), torch.randn(1029, 77)
    a = a.t().contiguous().t() if turned else a
    alone, again = gemm.multiply(a, b), gemm.multiply(a, b)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together = gemm.multiply(a, b)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone, again)
    assert torch.equal(alone, together)


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir() or len(os.sched_getaffinity(0)) < 2,
    reason="no Linux, or one processor",
)
def test_thread_affinity_is_restored() -> None:
    """A thread may leave a processor and return to it: its affinity mask is unchanged."""
    a, b, allowed = torch.randn(300, 300), torch.randn(300, 300), os.sched_getaffinity(0)
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gemm.multiply(a, b)  # now there are two
        tasks = [int(task.name) for task in Path("/proc/self/task").iterdir()]
        for _ in range(20):
            for where in ({min(allowed)}, allowed):  # all on one processor, then free to go
                for task in tasks:
                    os.sched_setaffinity(task, where)
            gemm.multiply(a, b)
            assert all(os.sched_getaffinity(task) == allowed for task in tasks)
    finally:
        torch.set_num_threads(usual)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_number_stays_in_its_row(bad: float) -> None:
    a, b = torch.randn(40, 64), torch.randn(64, 40)
    a[3, 5] = bad
    rows = gemm.multiply(a, b).isfinite().all(1)
    assert rows.tolist() == [row != 3 for row in range(40)]


def test_rounding() -> None:
    """The error relative to the largest output."""
    a, b = torch.randn(256, 2048), torch.randn(2048, 256)
    expected = a.double() @ b.double()
    assert (gemm.multiply(a, b) - expected).abs().max() / expected.abs().max() < 1e-6


def test_rows_of_large_products_are_independent() -> None:
    """A NaN in one row changes no bit of another, forward or backward."""
    module, x = nn.Linear(512, 1536), torch.randn(1203, 512)
    assert gemm.is_quicker(1203, 1536, 512)
    changed = x.clone()
    changed[5] = float("nan")

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        y = kernels.apply(module, x)
        return y.detach(), torch.autograd.grad(y.square().sum(), x)[0]

    others = [row for row in range(1203) if row != 5]
    for value, other in zip(both(x), both(changed), strict=True):
        assert torch.equal(value[others], other[others])
        assert not other[5].isfinite().any()


def gradients(module: nn.Linear, x: Tensor, weigh: Tensor, fast: bool) -> dict[str, Tensor]:
    x = x.detach().requires_grad_()
    y = kernels.apply(module, x) if fast else module(x)
    names = ["y", "x", *dict(module.named_parameters())]
    found = torch.autograd.grad((y * weigh).sum(), [x, *module.parameters()])
    return dict(zip(names, [y.detach(), *found], strict=True))


@pytest.mark.parametrize("bias", [True, False])
def test_dense_map_equals_torch(bias: bool) -> None:
    module, x, weigh = nn.Linear(129, 200, bias=bias), torch.randn(257, 129), torch.randn(257, 200)
    assert linear.unsupported_reason(module, x) is None
    found = gradients(module, x, weigh, fast=True)
    for name, value in gradients(module.double(), x.double(), weigh.double(), fast=False).items():
        assert_close(found[name], value, name)


def test_gradients_of_gradients() -> None:
    module, x = nn.Linear(129, 200), torch.randn(257, 129).requires_grad_()

    def twice(y: Tensor) -> Tensor:
        (d,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.autograd.grad(d.square().sum(), module.weight)[0]

    assert_close(twice(kernels.apply(module, x)), twice(module(x)))


@pytest.mark.parametrize(
    ("module", "x", "reason"),
    [
        (nn.Linear(129, 200), torch.randn(3, 129), "too small"),
        (nn.Linear(129, 200).double(), torch.randn(257, 129).double(), "float32"),
        (nn.Conv2d(3, 4, 1), torch.randn(1, 3, 4, 4), "nn.Linear"),
        (nn.Bilinear(129, 1, 200), torch.randn(257, 129), "nn.Linear"),
    ],
)
def test_unsupported_reason(module: nn.Module, x: Tensor, reason: str) -> None:
    assert reason in (linear.unsupported_reason(module, x) or "")


def test_hooks_and_transforms_use_torch() -> None:
    module, x, seen = nn.Linear(129, 200), torch.randn(257, 129), []
    handle = module.register_forward_hook(lambda *_: seen.append(1))
    kernels.apply(module, x)
    assert seen
    handle.remove()
    tangent = torch.func.jvp(lambda x: kernels.apply(module, x), (x,), (x,))[1]
    assert_close(tangent, (x.double() @ module.weight.detach().double().t()))


def test_bias_may_be_unaligned() -> None:
    a, b = torch.randn(300, 160), torch.randn(160, 200)
    spread, same = torch.arange(400.0)[::2], torch.full((1,), 3.0).expand(200)
    for bias in (spread, same):
        assert_close(gemm.multiply(a, b, bias), a.double() @ b.double() + bias.double(), "product and bias")

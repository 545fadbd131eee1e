"""The native kernels against a loop that can be read, in every instruction set this machine has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from canton.kernels import cpu
from canton.kernels.spec import Conv, Dense, GRUBefore, Job, Product, Result
from tolerances import assert_close

pytestmark = pytest.mark.skipif(not cpu.available(), reason=f"no native kernels: {cpu.why_not()}")


def apply(product: Product, h: Tensor, weight: Tensor) -> Tensor:
    """What a product means, by torch's own functions."""
    if isinstance(product, Dense):
        return h @ weight.t()
    totals = [d * (k - 1) for d, k in zip(product.dilation, weight.shape[2:], strict=True)]
    around = [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    h = F.pad(h, around, mode="circular" if product.circular else "constant")
    return (F.conv1d, F.conv2d, F.conv3d)[weight.ndim - 3](h, weight, dilation=product.dilation)


def readable(plan: GRUBefore, job: Job) -> Result:
    """The equations, one step after the other."""
    (h,), ys = job.state, []
    for gx in job.gx.unbind(0):
        x_z, x_r, x_c = gx.chunk(3, 1)
        h_z, h_r = apply(plan.gates, h, plan.gates.weight).chunk(2, 1)
        z, r = torch.sigmoid(x_z + h_z), torch.sigmoid(x_r + h_r)
        c = torch.tanh(x_c + apply(plan.candidate, r * h, plan.candidate.weight))
        h = (1 - z) * h + z * c
        ys.append(h)
    return torch.stack(ys), (h,)


def dense(hidden: int) -> tuple[Product, Product]:
    return Dense(torch.randn(2 * hidden, hidden) / hidden**0.5), Dense(
        torch.randn(hidden, hidden) / hidden**0.5
    )


def conv(
    hidden: int, kernel: tuple[int, ...], dilation: tuple[int, ...], circular: bool
) -> tuple[Product, Product]:
    scale = (hidden * torch.Size(kernel).numel()) ** 0.5
    gates, candidate = (torch.randn(n * hidden, hidden, *kernel) / scale for n in (2, 1))
    return Conv(gates, dilation, 1, circular), Conv(candidate, dilation, 1, circular)


def job_of(products: tuple[Product, Product], steps: int, batch: int, space: tuple[int, ...] = ()) -> Job:
    hidden = products[1].weight.shape[0]
    state = (torch.rand(batch, hidden, *space) * 2 - 1,)
    return Job(GRUBefore(*products), torch.randn(steps, batch, 3 * hidden, *space), state, state)


def results(job: Job, run: Callable[[Job], Result], dtype: torch.dtype) -> dict[str, Tensor]:
    """The outputs and every gradient of a loss that weighs each number of them."""
    generator = torch.Generator().manual_seed(5)
    gates, candidate = job.plan
    leaves = [
        t.detach().to(dtype).requires_grad_() for t in (job.gx, *job.state, gates.weight, candidate.weight)
    ]
    plan = GRUBefore(gates._replace(weight=leaves[2]), candidate._replace(weight=leaves[3]))
    ys, (final,) = run(job._replace(plan=plan, gx=leaves[0], state=(leaves[1],)))
    weigh = [torch.randn(t.shape, generator=generator).to(dtype) for t in (ys, final)]
    grads = torch.autograd.grad((ys * weigh[0]).sum() + (final * weigh[1]).sum(), leaves)
    names = ("d gx", "d state", "d gates", "d candidate")
    return {"ys": ys.detach(), "final": final.detach(), **dict(zip(names, grads, strict=True))}


def native_run(job: Job) -> Result:
    assert cpu.refuses(job) is None
    return cpu.run(job, lambda j: readable(j.plan, j))


def check(job: Job) -> None:
    expected = results(job, lambda j: readable(j.plan, j), torch.float64)
    for name, value in results(job, native_run, torch.float32).items():
        assert_close(value, expected[name], name)
    with torch.no_grad():
        ys, (final,) = native_run(job)
    assert_close(ys, expected["ys"], "ys without gradients")
    assert_close(final, expected["final"], "final without gradients")


@pytest.mark.parametrize("steps", [1, 2, 19])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 17])
@pytest.mark.parametrize("hidden", [1, 7, 33, 64])
def test_dense(instructions: str, hidden: int, batch: int, steps: int) -> None:
    check(job_of(dense(hidden), steps, batch))


CONVS = {
    "1d": (5, (3,), (1,), False, (6,)),
    "1d-even-dilated": (3, (4,), (2,), False, (7,)),
    "2d": (16, (5, 5), (1, 1), False, (5, 9)),
    "2d-wide": (7, (3, 3), (1, 1), False, (3, 31)),
    "2d-tiles-3": (8, (3, 3), (1, 1), False, (5, 9)),
    "2d-tiles-5": (17, (5, 5), (1, 1), False, (7, 6)),
    "2d-tiles-circular": (9, (5, 5), (1, 1), True, (5, 7)),
    "2d-tiles-wide": (16, (3, 3), (1, 1), False, (3, 61)),
    "2d-even": (4, (2, 4), (1, 1), False, (3, 5)),
    "2d-dilated": (4, (3, 3), (2, 3), False, (6, 7)),
    "2d-1x1": (5, (1, 1), (1, 1), False, (3, 4)),
    "2d-circular": (4, (3, 3), (1, 1), True, (4, 5)),
    "2d-circular-even-dilated": (4, (2, 3), (3, 2), True, (5, 6)),
    "3d": (4, (3, 2, 1), (1, 1, 1), False, (3, 2, 2)),
    "3d-circular": (3, (3, 2, 3), (1, 1, 1), True, (3, 2, 4)),
}


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("batch", [1, 3])
def test_convolutions(instructions: str, name: str, batch: int) -> None:
    *arguments, space = CONVS[name]
    check(job_of(conv(*arguments), 4, batch, space))


@pytest.mark.parametrize(("hidden", "space"), [(33, ()), (6, (5, 9)), (8, (11, 9))])
def test_two_threads_give_the_same_bits(hidden: int, space: tuple[int, ...]) -> None:
    products = conv(hidden, (3, 3), (1, 1), False) if space else dense(hidden)
    for batch in (1, 2, 17):
        job = job_of(products, 7, batch, space)
        alone = results(job, native_run, torch.float32)
        again = results(job, native_run, torch.float32)
        torch.set_num_threads(2)
        together = results(job, native_run, torch.float32)
        torch.set_num_threads(1)
        for name in alone:
            assert torch.equal(alone[name], again[name]), name
            if name not in ("d gates", "d candidate"):  # torch's own product, at its own number of threads
                assert torch.equal(alone[name], together[name]), (name, batch)


def test_a_row_does_not_depend_on_its_batch(instructions: str) -> None:
    job = job_of(dense(33), 5, 17)
    ys, _ = native_run(job)
    for row in (0, 16):
        alone, _ = native_run(job._replace(gx=job.gx[:, row : row + 1], state=(job.state[0][row : row + 1],)))
        assert torch.equal(alone[:, 0], ys[:, row])


def test_strided_and_expanded_inputs(instructions: str) -> None:
    job = job_of(dense(7), 5, 3)
    gates, candidate = job.plan
    plan = GRUBefore(
        gates._replace(weight=gates.weight.t().contiguous().t()),
        candidate._replace(weight=candidate.weight.repeat(1, 2)[:, ::2].contiguous().repeat(2, 1)[::2]),
    )
    gx = job.gx.transpose(0, 2).contiguous().transpose(0, 2)
    check(job._replace(plan=plan, gx=gx, state=(job.state[0][:1].expand(3, -1),)))


def test_channels_last_input_is_read_in_place() -> None:
    job = job_of(conv(4, (3, 3), (1, 1), False), 3, 2, (5, 6))
    gx = job.gx.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (3, 2))
    assert torch.equal(native_run(job)[0], native_run(job._replace(gx=gx))[0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_number_is_not_hidden(instructions: str, bad: float) -> None:
    job = job_of(dense(7), 3, 3)
    job.gx[1, 1, 15] = bad
    ys, _ = native_run(job)
    expected, _ = readable(job.plan, job)
    torch.testing.assert_close(ys, expected, equal_nan=True, rtol=1e-5, atol=1e-6)


def test_the_curves_are_exact(instructions: str) -> None:
    x = torch.cat([torch.linspace(-30, 30, 20001), torch.logspace(-8, 1, 2000), -torch.logspace(-8, 1, 2000)])
    zero = torch.zeros(1, 1)
    plan = GRUBefore(Dense(zero.repeat(2, 1)), Dense(zero))
    for gate, exact in ((0, torch.sigmoid), (2, torch.tanh)):
        gx = torch.full((1, len(x), 3), 30.0)  # the other gate, and the candidate, then stand at 1
        gx[0, :, gate] = x
        ys, _ = native_run(Job(plan, gx, (zero.expand(len(x), 1),), (zero,)))
        expected = exact(x.double())
        assert ((ys[0, :, 0].double() - expected) / expected).abs().nan_to_num().max() < 1e-6


def test_gradients_of_gradients_go_through_the_loop() -> None:
    job = job_of(dense(3), 3, 2)
    x = job.gx.requires_grad_()
    seconds = []
    for run in (native_run, lambda j: readable(j.plan, j)):
        (grad,) = torch.autograd.grad(run(job._replace(gx=x))[0].square().sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(grad.square().sum(), x)[0])
    assert_close(seconds[0], seconds[1], "second derivative")


def test_what_it_cannot_run_it_refuses() -> None:
    job = job_of(dense(3), 3, 2)
    assert "float32" in str(cpu.refuses(job._replace(gx=job.gx.double())))
    assert "dropout" in str(cpu.refuses(job._replace(drop=torch.ones(2, 3))))
    assert "reset-before" in str(cpu.refuses(job._replace(plan=None)))

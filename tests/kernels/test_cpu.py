"""The C++ kernels against a plain loop, in every instruction set of this machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from canton.cells.gru import GRUBeforeSpec
from canton.kernels import Conv, Dense, Product, Result, Run, cpu
from tolerances import assert_close

pytestmark = pytest.mark.skipif(not cpu.available(), reason=f"no C++ kernels: {cpu.why_not()}")


def apply(product: Product, h: Tensor, weight: Tensor) -> Tensor:
    """Return the product, by torch's functions."""
    if isinstance(product, Dense):
        return h @ weight.t()
    totals = [d * (k - 1) for d, k in zip(product.dilation, weight.shape[2:], strict=True)]
    around = [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    h = F.pad(h, around, mode="circular" if product.circular else "constant")
    return (F.conv1d, F.conv2d, F.conv3d)[weight.ndim - 3](h, weight, dilation=product.dilation)


def readable(spec: GRUBeforeSpec, run: Run) -> Result:
    """Run the equations step by step."""
    (h,), ys = run.state, []
    for gx in run.gx.unbind(0):
        x_z, x_r, x_c = gx.chunk(3, 1)
        h_z, h_r = apply(spec.gates, h, spec.gates.weight).chunk(2, 1)
        z, r = torch.sigmoid(x_z + h_z), torch.sigmoid(x_r + h_r)
        c = torch.tanh(x_c + apply(spec.candidate, r * h, spec.candidate.weight))
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


def run_of(products: tuple[Product, Product], steps: int, batch: int, space: tuple[int, ...] = ()) -> Run:
    hidden = products[1].weight.shape[0]
    state = (torch.rand(batch, hidden, *space) * 2 - 1,)
    return Run(GRUBeforeSpec(*products), torch.randn(steps, batch, 3 * hidden, *space), state, state)


def results(run: Run, execute: Callable[[Run], Result], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the outputs and every gradient of a weighted sum of them."""
    generator = torch.Generator().manual_seed(5)
    gates, candidate = run.spec.products
    leaves = [
        t.detach().to(dtype).requires_grad_() for t in (run.gx, *run.state, gates.weight, candidate.weight)
    ]
    spec = GRUBeforeSpec(gates._replace(weight=leaves[2]), candidate._replace(weight=leaves[3]))
    ys, (final,) = execute(run._replace(spec=spec, gx=leaves[0], state=(leaves[1],)))
    weigh = [torch.randn(t.shape, generator=generator).to(dtype) for t in (ys, final)]
    grads = torch.autograd.grad((ys * weigh[0]).sum() + (final * weigh[1]).sum(), leaves)
    names = ("d gx", "d state", "d gates", "d candidate")
    return {"ys": ys.detach(), "final": final.detach(), **dict(zip(names, grads, strict=True))}


def cpp_run(run: Run) -> Result:
    assert cpu.unsupported_reason(run) is None
    return cpu.execute(run, lambda j: readable(j.spec, j))


def check(run: Run) -> None:
    expected = results(run, lambda j: readable(j.spec, j), torch.float64)
    for name, value in results(run, cpp_run, torch.float32).items():
        assert_close(value, expected[name], name)
    with torch.no_grad():
        ys, (final,) = cpp_run(run)
    assert_close(ys, expected["ys"], "ys without gradients")
    assert_close(final, expected["final"], "final without gradients")


@pytest.mark.parametrize("steps", [1, 2, 19])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 17])
@pytest.mark.parametrize("hidden", [1, 7, 33, 64])
def test_dense(instructions: str, hidden: int, batch: int, steps: int) -> None:
    check(run_of(dense(hidden), steps, batch))


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
    check(run_of(conv(*arguments), 4, batch, space))


@pytest.mark.parametrize(("hidden", "space"), [(33, ()), (6, (5, 9)), (8, (11, 9))])
def test_threads_do_not_change_the_bits(hidden: int, space: tuple[int, ...]) -> None:
    products = conv(hidden, (3, 3), (1, 1), False) if space else dense(hidden)
    for batch in (1, 2, 17):
        run = run_of(products, 7, batch, space)
        alone = results(run, cpp_run, torch.float32)
        again = results(run, cpp_run, torch.float32)
        torch.set_num_threads(2)
        together = results(run, cpp_run, torch.float32)
        torch.set_num_threads(1)
        for name in alone:
            assert torch.equal(alone[name], again[name]), name
            if name not in ("d gates", "d candidate"):  # torch's own product, at its own number of threads
                assert torch.equal(alone[name], together[name]), (name, batch)


def test_a_row_does_not_depend_on_its_batch(instructions: str) -> None:
    run = run_of(dense(33), 5, 17)
    ys, _ = cpp_run(run)
    for row in (0, 16):
        alone, _ = cpp_run(run._replace(gx=run.gx[:, row : row + 1], state=(run.state[0][row : row + 1],)))
        assert torch.equal(alone[:, 0], ys[:, row])


def test_strided_and_expanded_inputs(instructions: str) -> None:
    run = run_of(dense(7), 5, 3)
    gates, candidate = run.spec.products
    spec = GRUBeforeSpec(
        gates._replace(weight=gates.weight.t().contiguous().t()),
        candidate._replace(weight=candidate.weight.repeat(1, 2)[:, ::2].contiguous().repeat(2, 1)[::2]),
    )
    gx = run.gx.transpose(0, 2).contiguous().transpose(0, 2)
    check(run._replace(spec=spec, gx=gx, state=(run.state[0][:1].expand(3, -1),)))


def test_channels_last_input_is_read_in_place() -> None:
    run = run_of(conv(4, (3, 3), (1, 1), False), 3, 2, (5, 6))
    gx = run.gx.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (3, 2))
    assert torch.equal(cpp_run(run)[0], cpp_run(run._replace(gx=gx))[0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_inf_propagate(instructions: str, bad: float) -> None:
    run = run_of(dense(7), 3, 3)
    run.gx[1, 1, 15] = bad
    ys, _ = cpp_run(run)
    expected, _ = readable(run.spec, run)
    torch.testing.assert_close(ys, expected, equal_nan=True, rtol=1e-5, atol=1e-6)


def test_sigmoid_and_tanh_are_exact(instructions: str) -> None:
    x = torch.cat([torch.linspace(-30, 30, 20001), torch.logspace(-8, 1, 2000), -torch.logspace(-8, 1, 2000)])
    zero = torch.zeros(1, 1)
    spec = GRUBeforeSpec(Dense(zero.repeat(2, 1)), Dense(zero))
    for gate, exact in ((0, torch.sigmoid), (2, torch.tanh)):
        gx = torch.full((1, len(x), 3), 30.0)  # the other gate, and the candidate, then stand at 1
        gx[0, :, gate] = x
        ys, _ = cpp_run(Run(spec, gx, (zero.expand(len(x), 1),), (zero,)))
        expected = exact(x.double())
        assert ((ys[0, :, 0].double() - expected) / expected).abs().nan_to_num().max() < 1e-6


def test_gradients_of_gradients_go_through_the_loop() -> None:
    run = run_of(dense(3), 3, 2)
    x = run.gx.requires_grad_()
    seconds = []
    for execute in (cpp_run, lambda j: readable(j.spec, j)):
        (grad,) = torch.autograd.grad(execute(run._replace(gx=x))[0].square().sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(grad.square().sum(), x)[0])
    assert_close(seconds[0], seconds[1], "second derivative")


def test_unsupported_reason() -> None:
    run = run_of(dense(3), 3, 2)
    assert "float32" in str(cpu.unsupported_reason(run._replace(gx=run.gx.double())))
    assert "dropout" in str(cpu.unsupported_reason(run._replace(dropout_mask=torch.ones(2, 3))))
    assert "spec" in str(cpu.unsupported_reason(run._replace(spec=None)))

"""Which kernel runs a call, why, and that a kernel asked for by name runs or raises."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import canton
from canton import kernels
from canton.core.recurrent import loop
from canton.kernels import CellSpec, Run, cpu, steps, support
from tolerances import assert_close

CPP = pytest.param("cpp", marks=pytest.mark.skipif(not cpu.available(), reason=str(cpu.why_not())))


def run_of(cell: canton.Cell, steps: int = 5, batch: int = 2) -> Run:
    gx = cell.project(torch.randn(steps * batch, 3)).unflatten(0, (steps, batch))
    state = cell.zero_state(gx[0], gx.dtype)
    return Run(cell.spec(), gx, state, state)


def test_explain_has_a_reason_or_none_for_every_kernel() -> None:
    reasons = kernels.explain(run_of(canton.GRUCell(3, 4)))
    assert list(reasons) == [name for name in kernels.NAMES if name not in ("auto", "loop")]
    assert reasons["manual"] is None
    assert "GPU" in str(reasons["triton"])
    assert "linear recurrence" in str(reasons["associative_scan"])
    assert reasons["cpp"] == cpu.why_not()


def test_explain_needs_shapes_only() -> None:
    run = run_of(canton.GRUCell(3, 4))
    assert kernels.explain(run._replace(gx=run.gx.new_empty(()).expand(run.gx.shape))) == kernels.explain(run)


def test_a_cell_without_a_spec_runs_in_the_loop() -> None:
    run = run_of(canton.GRUCell(3, 4, layer_norm=True))
    assert run.spec is None
    assert all("spec" in str(reason) for reason in kernels.explain(run).values())
    assert kernels.choose(run, "auto") == "loop"


def test_shared_conditions_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    answer = support.unsupported_reason
    monkeypatch.setattr(support, "unsupported_reason", lambda run: asked.append(run) or answer(run))
    kernels.choose(run_of(canton.GRUCell(3, 4)), "auto")
    assert len(asked) == 1


@pytest.mark.parametrize("change", ["gx", "state", "weight"])
def test_shapes_that_do_not_fit_are_refused(change: str) -> None:
    run = run_of(canton.LSTMCell(3, 4))
    assert run.spec is not None
    if change == "gx":
        run = run._replace(gx=run.gx[:, :, 1:])
    elif change == "state":
        run = run._replace(state=run.state[:1])
    else:
        (weight,) = run.spec.weights
        run = run._replace(spec=run.spec.with_weights([weight[:, 1:]]))
    with pytest.raises(ValueError, match="manual"):
        kernels.choose(run, "manual")
    assert kernels.choose(run, "auto") == "loop"


@pytest.mark.parametrize(
    "kernel",
    ["manual", pytest.param("cpp", marks=pytest.mark.skipif(not cpu.available(), reason="not built"))],
)
def test_a_step_runs_by_the_kernel_asked_for(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, ran = {"manual": steps, "cpp": cpu}[kernel], []
    execute = module.execute
    monkeypatch.setattr(module, "execute", lambda run, loop: ran.append(run) or execute(run, loop))
    layer, x = canton.GRU(3, 4, kernel=kernel), torch.randn(2, 3)
    y, _ = layer.step(x)
    assert len(ran) == 1
    layer.kernel = "loop"
    assert_close(y, layer.step(x)[0])


@pytest.mark.parametrize("kernel", ["triton", "cuda_graphs", "associative_scan"])
def test_a_step_by_a_kernel_that_cannot_raises(kernel: str) -> None:
    with pytest.raises(ValueError, match=kernel):
        canton.GRU(3, 4, kernel=kernel).step(torch.randn(2, 3))


def test_custom_spec() -> None:
    """Nothing but the spec tells the kernels about a cell."""

    class Spec(CellSpec):
        gate_blocks = 3

    run = run_of(canton.GRUCell(3, 4))._replace(spec=Spec())
    reasons = kernels.explain(run)
    assert None not in reasons.values()
    assert "manual step" in str(reasons["manual"])
    ys, _ = kernels.execute(run, partial(loop, cell=canton.GRUCell(3, 4)))
    assert ys.shape == (5, 2, 4)

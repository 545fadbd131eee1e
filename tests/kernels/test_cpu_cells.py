"""Every cell with a C++ entry against the reference loop in float64, in every instruction set."""

from __future__ import annotations

import copy

import pytest
import torch

from canton import maps
from canton.kernels import CppCell, cpu
from cases import C_IN, CELLS, MAPS, Place, shake_
from runs import OPTIONS, copy_run, outcome, random_run
from tolerances import assert_close

pytestmark = pytest.mark.skipif(not cpu.available(), reason=f"no C++ kernels: {cpu.why_not()}")

CPP = [
    name
    for name, make in CELLS.items()
    if (spec := make(C_IN, maps.dense).spec()) and isinstance(spec.cpp, CppCell)
]
WINOGRAD = {
    "conv2d-3": Place(maps.conv2d(3), (5, 9)),
    "conv2d-5-circular": Place(maps.conv2d(5, padding_mode="circular"), (6, 7)),
}
PLACES = {**{name: MAPS[name] for name in ("dense", "conv1d-even-dilated", "conv2d", "conv3d")}, **WINOGRAD}


def test_all_kinds_of_cells_are_here() -> None:
    assert {"gru", "lstm", "mingru"} <= set(CPP)


@pytest.mark.parametrize("options", ["plain", "state", "lengths", "reset"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CPP)
def test_cpp_equals_the_loop(instructions: str, name: str, place: str, options: str) -> None:
    hidden = 17 if place in WINOGRAD or place == "dense" else 4
    cell = type(CELLS[name](C_IN, maps.dense))(C_IN, hidden, map=PLACES[place].map).double()
    shake_(cell)
    with torch.no_grad():  # small, so that gates do not saturate
        for weight in (p for p in cell.parameters() if p.ndim > 1):
            weight.div_(weight[0].numel() ** 0.5)
    run, there = random_run(cell, PLACES[place], OPTIONS[options]), copy.deepcopy(cell).float()
    run32 = copy_run(run, there, "cpu", torch.float32)
    assert run32.spec is not None
    assert isinstance(run32.spec.cpp, CppCell)
    if options in ("lengths", "reset") and not run32.spec.cpp.masks:
        assert options in str(cpu.unsupported_reason(run32))
        return
    assert cpu.unsupported_reason(run32) is None
    truth = outcome(run, cell, lambda run, loop: loop(run))
    found = outcome(run32, there, cpu.execute)
    assert found.keys() == truth.keys()
    for key, value in truth.items():
        assert_close(found[key], value, what=key)
    with torch.no_grad():
        ys, state = cpu.execute(run32, lambda run: pytest.fail("the loop ran"))
    assert_close(ys, truth["ys"], what="ys without gradients")
    for k, s in enumerate(state):
        assert_close(s, truth[f"state {k}"], what=f"state {k} without gradients")

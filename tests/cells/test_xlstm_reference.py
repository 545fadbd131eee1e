"""The sLSTM agrees with the vanilla sLSTM of its authors' package `xlstm`, forward and backward.

The numbers are recorded (benchmarks/record_peers.py); the package is not needed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import canton
from canton.kernels import Kernel, cpu
from tolerances import assert_close

RECORDED = Path(__file__).resolve().parent / "recorded" / "xlstm.npz"
CPP = pytest.param("cpp", marks=pytest.mark.skipif(not cpu.available(), reason=str(cpu.why_not())))


@pytest.mark.parametrize("kernel", ["loop", "manual", CPP])
@pytest.mark.parametrize("start", ["zero", "other"])
def test_slstm_equals_xlstm(start: str, kernel: Kernel) -> None:
    with np.load(RECORDED) as arrays:
        case = {key.split("/")[1]: torch.from_numpy(arrays[key]) for key in arrays if key.startswith(start)}
    layer = canton.SLSTM(4, 5, kernel=kernel)
    cell = layer.cells[0]
    with torch.no_grad():
        cell.input_map.weight.copy_(case["w"])
        cell.input_map.bias.copy_(case["b"])
        cell.hidden_map.weight.copy_(case["r"][0])
    x = case["x"].requires_grad_()
    hx = None if start == "zero" else tuple(s.unsqueeze(0) for s in case["start"])
    ys, state = layer(x, hx)
    assert_close(ys, case["states"][0, 1:], "outputs")
    for k, (mine, theirs) in enumerate(zip(state, case["states"][:, -1], strict=True)):
        assert_close(mine[0], theirs, f"state {k}")
    ((ys * case["probe"]).sum() + sum(s.sum() for s in state)).backward()
    assert_close(x.grad, case["g_x"], "x gradient")
    assert_close(cell.input_map.weight.grad, case["g_w"], "input weight gradient")
    assert_close(cell.input_map.bias.grad, case["g_b"], "bias gradient")
    assert_close(cell.hidden_map.weight.grad, case["g_r"][0], "hidden weight gradient")

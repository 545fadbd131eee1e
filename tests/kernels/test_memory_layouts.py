"""Transposed, sliced, strided and expanded arguments give every kernel the numbers of the reference loop."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from canton import GRU, LSTM, MGU, RNN, SLSTM, MinGRU, Recurrent
from canton.kernels import cpu
from memory_layouts import ARGUMENTS, KERNELS, LAYOUTS, OPTIONAL, PLACES, Case, differences

LAYERS = (GRU, LSTM, SLSTM, MGU, RNN, MinGRU)

NATIVE = (GRU, LSTM, SLSTM, MinGRU)
"""The layers of which the C++ kernels know the cell."""


@st.composite
def cases(draw: st.DrawFn, layer: type[Recurrent], optional: tuple[str, ...]) -> Case:
    rarely = st.sampled_from((False, False, False, True))
    return Case(
        layer=layer,
        place=draw(st.sampled_from(list(PLACES))),
        dtype=draw(st.sampled_from((*[torch.float32] * 3, torch.float64))),
        batch_first=draw(st.booleans()),
        bidirectional=draw(rarely),
        learn_initial_state=draw(rarely),
        recompute=draw(rarely),
        optional=frozenset(optional),
        layouts={name: draw(st.sampled_from(list(LAYOUTS))) for name in ARGUMENTS},
    )


@pytest.mark.parametrize(
    "optional", [("hx", "lengths"), ("hx", "reset"), OPTIONAL, ("reset", "reset_state", "mask")], ids="-".join
)
@pytest.mark.parametrize("layer", LAYERS)
def test_drawn_layouts(layer: type[Recurrent], optional: tuple[str, ...]) -> None:
    ran: Counter[str] = Counter()

    @seed(20261201)
    @settings(max_examples=7, database=None)
    @given(cases(layer, optional))
    def draw(case: Case) -> None:
        for kernel in KERNELS:
            found = differences(case, kernel)
            ran[kernel] += found is not None
            assert not found, "\n".join(found)

    draw()
    assert ran["auto"] == ran["associative_scan" if layer is MinGRU else "manual"] == 7
    assert ran["cpp"] >= 3 or layer not in (GRU, LSTM, SLSTM) or not cpu.available()


@pytest.mark.skipif(not cpu.available(), reason=str(cpu.why_not()))
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "contiguous"])
@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("layer", NATIVE)
def test_each_argument_of_the_cpp_kernels(layer: type[GRU], argument: str, layout: str) -> None:
    optional = {"hx", argument} - {"input", "weights", "gradient"}
    if layer is MinGRU:
        optional = {"hx"}
    elif argument not in ("lengths", "mask"):
        optional |= {"reset"}
    case = Case(layer, "conv1d", optional=frozenset(optional), layouts={argument: layout})
    assert differences(case, "cpp") == []


def test_the_numbers_are_right_without_asserts() -> None:
    """A check that is an assert vanishes under -O, and with it whatever it guarded."""
    script = Path(__file__).parents[1] / "memory_layouts.py"
    done = subprocess.run([sys.executable, "-O", str(script)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "compared" in done.stdout

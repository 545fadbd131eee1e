"""What every test shares: the same seed, one thread, and the reference data where there is some."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a spinning OpenMP thread starves its neighbours

import hypothesis
import pytest
import torch

from canton.kernels import cpu

ROOT = Path(__file__).resolve().parents[1]

hypothesis.settings.register_profile("canton", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("canton")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same numbers, whichever tests ran before it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(params=cpu.INSTRUCTION_SETS)
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    """The native kernels in every instruction set this processor has, one after the other."""
    best = cpu.instruction_set()
    if cpu.INSTRUCTION_SETS.index(request.param) > cpu.INSTRUCTION_SETS.index(best):
        pytest.skip(f"this processor has no {request.param}")
    cpu.use_instruction_set(request.param)
    yield request.param
    cpu.use_instruction_set(best)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's top folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference data that lies beside the project and is no part of it; without it the test is skipped."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"reference data is not here: no folder {folder.name}/ beside the project")
    return folder

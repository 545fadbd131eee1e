"""Fixtures of all tests: seed, threads, instruction sets, reference data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin would slow down other processes

import hypothesis
import pytest
import torch

from canton.kernels import cpu

ROOT = Path(__file__).resolve().parents[1]

hypothesis.settings.register_profile("canton", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("canton")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed every test, so that its random numbers do not depend on earlier tests."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(params=cpu.INSTRUCTION_SETS)
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test with every instruction set of this processor."""
    best = cpu.instruction_set()
    if cpu.INSTRUCTION_SETS.index(request.param) > cpu.INSTRUCTION_SETS.index(best):
        pytest.skip(f"this processor has no {request.param}")
    cpu.use_instruction_set(request.param)
    yield request.param
    cpu.use_instruction_set(best)


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the project's top folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of reference data beside the project; skip the test if there is none."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no reference data: there is no folder {folder.name}/ beside the project")
    return folder

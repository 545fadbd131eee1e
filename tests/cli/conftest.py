"""Fixtures for the commands: a small trained model, a stub of one, a command runner, a full disk."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("typer", reason="typer is not installed (canton-torch[text])")
pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed (canton-torch[text])")


@dataclass(frozen=True)
class Done:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str


class Canton:
    """Run `canton` in this process; an exception fails the test."""

    def __init__(self, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        self.capture = capfdbinary

    def __call__(self, *words: str | Path) -> Done:
        from canton.cli import main

        self.capture.readouterr()
        status = main([str(word) for word in words])
        out, err = self.capture.readouterr()
        return Done(status, out.decode("utf-8", "surrogateescape"), err.decode())

    def complains(self, *words: str | Path) -> str:
        """Run a command that must fail with one line and exit status 2; return the line."""
        done = self(*words)
        assert done.status == 2, done
        assert done.out == ""
        assert done.err.count("\n") == 1, done.err
        assert done.err.startswith("canton: ")
        return done.err


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Simulate a full disk by limiting the size of files."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


@pytest.fixture
def canton(capfdbinary: pytest.CaptureFixture[bytes]) -> Canton:
    return Canton(capfdbinary)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text"
    file.write_text("What is past is prologue: ä, 漢. " * 200)
    return file


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, text: Path) -> Path:
    from canton.text import Architecture, TrainConfig, train

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("model") / "model.safetensors"
    small = Architecture(hidden_size=24, embedding_size=12, contexts=((2, 64),))
    config = TrainConfig(
        model=small, batch_size=4, sequence_length=16, steps=150, learning_rate=2e-2, eval_count=0
    )
    train(config, out=file, files=[text])
    return file


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make every model file load as a stub that detects bright pixels."""
    from track.pipeline_stub import Bright

    stub = SimpleNamespace(model=Bright(), header={"threshold": 0.4}, checkpoint=None)
    monkeypatch.setattr("canton.track.checkpoint.load_model", lambda path: stub)
    return Path("bright.safetensors")

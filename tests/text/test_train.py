"""Training from end to end: progress, interruption, resuming and several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from canton.errors import UserError
from canton.io.tensor_file import read_header
from canton.text import Architecture, ByteModel, Progress, TrainConfig, Trained, load_model, train

pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed (canton-torch[text])")
pytest.importorskip("safetensors", reason="safetensors is not installed (canton-torch[text])")

TINY = Architecture(
    cell="gru", hidden_size=16, num_layers=2, embedding_size=8, contexts=((2, 64),), dropout=0.1
)
CONFIG = TrainConfig(model=TINY, batch_size=4, sequence_length=8, seed=3, steps=40, eval_count=0)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text"
    words = ["the", "loop", "of", "time", "returns", "where", "a", "word", "began", "and", "reads"]
    chosen = torch.randint(0, len(words), (3000,), generator=torch.Generator().manual_seed(0)).tolist()
    file.write_text(" ".join(words[k] for k in chosen))
    return file


def go(
    out: Path,
    text: Path,
    *,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    log_dir: Path | None = None,
    **settings: Any,
) -> Trained:
    config = replace(CONFIG, **settings) if settings or not resume else None
    trained = train(
        config,
        out=out,
        files=[text],
        resume=resume,
        log_dir=log_dir,
        on_progress=on_progress,
        progress_seconds=0.0,
    )
    assert trained is not None
    return trained


def same(a: ByteModel, b: ByteModel) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_it_learns_and_writes_its_file(tmp_path: Path, text: Path) -> None:
    reports: list[Progress] = []
    trained = go(
        tmp_path / "m", text, steps=300, learning_rate=2e-2, on_progress=reports.append, eval_count=4
    )
    assert trained.finished
    assert trained.held_out is not None
    assert trained.held_out.warm < 2.5 < 2.7 < reports[0].bits_per_byte
    assert trained.held_out.warm < trained.held_out.cold < 3.5
    loaded = load_model(tmp_path / "m")
    assert same(loaded.model, trained.model)
    assert loaded.checkpoint is None
    assert loaded.header["held_out_bits_per_byte"] == trained.held_out.warm
    assert loaded.header["held_out_cold_bits_per_byte"] == trained.held_out.cold
    assert loaded.header["steps_done"] == 300
    assert loaded.header["corpus_files"] == [text.name]
    assert loaded.header["training"]["batch_size"] == 4
    import hashlib

    assert loaded.header["corpus"] == hashlib.sha256(text.read_bytes()).hexdigest()
    assert [step for step, *_ in trained.curve.points] == [now.step for now in reports][
        : len(trained.curve.points)
    ]
    assert loaded.header["curve"] == trained.curve.to_json()
    assert trained.curve.held_out[-1] == (300, trained.held_out.warm)
    assert [now.sample is not None for now in reports].count(True) == 3
    assert [now.held_out is not None for now in reports].count(True) == 3
    assert all(a.fraction <= b.fraction for a, b in pairwise(reports))
    assert abs(reports[-1].seconds_left) < 1e-6


@pytest.mark.parametrize("cell", ["gru", "lstm", "mgu", "rnn"])
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path: Path, text: Path, cell: str) -> None:
    a = Architecture(
        cell=cell, hidden_size=8, num_layers=2, embedding_size=8, contexts=((2, 64),), dropout=0.1
    )
    whole = go(tmp_path / "whole", text, model=a)

    def interrupt(now: Progress) -> None:
        if now.step == 17:
            os.kill(os.getpid(), signal.SIGINT)

    part = go(tmp_path / "part", text, model=a, on_progress=interrupt, eval_count=0)
    assert not part.finished
    assert read_header(tmp_path / "part")["step"] == part.report.step
    assert load_model(tmp_path / "part").model.architecture == a  # a checkpoint is a usable model
    rest = go(tmp_path / "part", text, resume=True)
    kept = part.curve.to_json()["points"]
    assert rest.curve.to_json()["points"][: len(kept)] == kept  # the curve covers the whole run
    assert rest.curve.points[-1][0] == whole.curve.points[-1][0] == 40
    assert same(rest.model, whole.model)
    assert rest.held_out == whole.held_out


def test_ctrl_c_during_the_final_score_keeps_the_run(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = go(tmp_path / "whole", text)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["canton.text.train"], "score_held_out", interrupt)
        stopped = go(tmp_path / "part", text)
    assert (stopped.finished, stopped.held_out, stopped.report.step) == (False, None, 40)
    rest = go(tmp_path / "part", text, resume=True)
    assert rest.finished
    assert same(rest.model, whole.model)
    assert rest.held_out == whole.held_out


def test_evaluating_and_saving_change_nothing(tmp_path: Path, text: Path) -> None:
    plain = go(tmp_path / "a", text)
    busy = go(tmp_path / "b", text, on_progress=lambda now: None, eval_count=10, save_seconds=0.0)
    assert same(plain.model, busy.model)


def test_another_seed_is_another_run(tmp_path: Path, text: Path) -> None:
    assert not same(go(tmp_path / "a", text).model, go(tmp_path / "b", text, seed=4).model)


def test_the_callers_random_state_is_kept(tmp_path: Path, text: Path) -> None:
    before = torch.random.get_rng_state()
    go(tmp_path / "a", text)
    assert torch.equal(torch.random.get_rng_state(), before)


KILLED = [
    "--batch-size", "4", "--sequence-length", "8", "--hidden-size", "16", "--num-layers", "2",
    "--dropout", "0.1", "--preset", "article", "--steps", "400", "--seed", "3", "--quiet",
]  # fmt: skip


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "canton", "text", "train", *words]


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, text: Path) -> None:
    from canton.cli import main

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(["text", "train", str(text), "--out", str(whole), *KILLED]) == 0
    process = subprocess.Popen(command(str(text), "--out", str(killed), "--save-seconds", "0", *KILLED))
    try:
        deadline = time.monotonic() + 60
        while not (killed.exists() and read_header(killed).get("step", 400) >= 20):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    finally:
        process.kill()
        process.wait()
    at = read_header(killed)["step"]
    assert 20 <= at < 400
    (tmp_path / ".killed.x1.part").touch()  # what a kill between opening and renaming leaves
    assert main(["text", "train", "--resume", "--out", str(killed), "--quiet"]) == 0
    assert same(load_model(whole).model, load_model(killed).model)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


TWO = """
import json, sys
from pathlib import Path
import torch
from canton.text import Architecture, TrainConfig, train
torch.set_num_threads(1)
losses = []
a = Architecture(hidden_size=16, embedding_size=8, contexts=((2, 64),), dropout=0.0)
processes = int(sys.argv[3])
config = TrainConfig(model=a, batch_size=4, sequence_length=8, steps=25, processes=processes, eval_count=0)
train(config, out=Path(sys.argv[2]), files=[Path(sys.argv[1])],
      on_progress=lambda now: losses.append(now.bits_per_byte), progress_seconds=0.0)
if losses:
    Path(sys.argv[2] + ".json").write_text(json.dumps(losses))
"""


def test_two_processes_give_the_loss_curve_of_one(tmp_path: Path, text: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(TWO)
    curves, models = [], []
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, launcher, processes in (("one", [], "1"), ("two", [], "2"), ("torchrun", torchrun, "1")):
        out = tmp_path / name
        done = subprocess.run(
            [sys.executable, *launcher, str(script), str(text), str(out), processes],
            capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        curves.append(json.loads(Path(f"{out}.json").read_text()))
        models.append(load_model(out).model)
    assert len(curves[0]) >= 25
    for other in curves[1:]:
        assert max(abs(a - b) for a, b in zip(curves[0], other, strict=True)) < 1e-3, curves
    assert curves[0][0] - curves[0][-1] > 1  # the loss falls
    for other in models[1:]:
        for a, b in zip(models[0].parameters(), other.parameters(), strict=True):
            assert torch.allclose(a, b, atol=2e-3)


UNEQUAL_CLOCKS = """
import itertools, os, sys
from pathlib import Path
import torch
from canton.text import Architecture, TrainConfig, train
torch.set_num_threads(1)
a = Architecture(hidden_size=16, embedding_size=8, contexts=((2, 64),), dropout=0.0)
config = TrainConfig(model=a, batch_size=4, sequence_length=8, minutes=1.0, processes=2, eval_count=0)
speed = 0.5 + 2 * int(os.environ.get("LOCAL_RANK", 0))
ticks = itertools.count()
trained = train(config, out=Path(sys.argv[2]), files=[Path(sys.argv[1])], clock=lambda: speed * next(ticks))
if trained is not None:
    print(trained.report.step, trained.finished)
"""


def test_processes_with_unequal_clocks_end_together(tmp_path: Path, text: Path) -> None:
    """Each process has its own clock, and has spent another part of the budget on counting n-grams."""
    script = tmp_path / "script.py"
    script.write_text(UNEQUAL_CLOCKS)
    done = subprocess.run(
        [sys.executable, str(script), str(text), str(tmp_path / "m")],
        capture_output=True, text=True, timeout=100, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    step, finished = done.stdout.split()[-2:]
    assert finished == "True"
    assert 110 < int(step) < 125  # process 0 has 60 seconds, less those of counting, of 0.5 s a step
    assert load_model(tmp_path / "m").checkpoint is None


def test_a_second_run_with_the_same_output_is_refused(tmp_path: Path, text: Path) -> None:
    def second(now: Progress) -> None:
        with pytest.raises(UserError, match=f"process {os.getpid()}"):
            go(tmp_path / "m", text)
        go(tmp_path / "other", text, steps=1)

    assert go(tmp_path / "m", text, steps=2, on_progress=second).finished
    assert not list(tmp_path.glob(".*"))


def test_a_run_starts_from_a_model(tmp_path: Path, text: Path) -> None:
    start, other = tmp_path / "start", tmp_path / "other"
    go(start, text, steps=150, learning_rate=2e-2)
    other.write_text(text.read_text()[::-1])
    lines: list[str] = []
    config = replace(CONFIG, steps=1, learning_rate=1e-6)
    trained = train(config, out=tmp_path / "m", files=[other], start=start, on_message=lines.append)
    assert trained is not None
    for a, b in zip(trained.model.parameters(), load_model(start).model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert trained.held_out is not None
    assert float(lines[-1].split(": ")[1].split()[0]) == pytest.approx(trained.held_out.warm, abs=1e-2)
    wrong = replace(config, model=replace(TINY, hidden_size=17))
    with pytest.raises(UserError, match="architecture"):
        train(wrong, out=tmp_path / "n", files=[other], start=start)


def test_processor_minutes_are_a_budget(tmp_path: Path, text: Path) -> None:
    before = time.process_time()
    trained = go(tmp_path / "m", text, steps=None, cpu_minutes=0.02)
    assert trained.finished
    assert 1.1 < trained.report.seconds < 10
    assert trained.report.seconds <= time.process_time() - before


def test_tensorboard_gets_the_curves(tmp_path: Path, text: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not here"
    )
    go(tmp_path / "m", text, log_dir=tmp_path / "log")
    events = accumulator.EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    assert {"bits_per_byte", "learning_rate", "held_out_bits_per_byte"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("bits_per_byte")) == 40


def test_runs_that_cannot_be_resumed_raise(tmp_path: Path, text: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        go(tmp_path / "none", text, resume=True)
    go(tmp_path / "done", text)
    with pytest.raises(UserError, match="finished model"):
        go(tmp_path / "done", text, resume=True)

    def interrupt(now: Progress) -> None:
        if now.step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    go(tmp_path / "part", text, on_progress=interrupt, eval_count=0)
    before = (tmp_path / "part").read_bytes()
    with pytest.raises(UserError, match="steps 40, got 50"):
        go(tmp_path / "part", text, resume=True, steps=50)
    with pytest.raises(UserError, match="files must be"):
        go(tmp_path / "part", tmp_path / "done", resume=True)
    content = text.read_bytes()
    try:
        text.write_bytes(content[:-1] + b"?")
        with pytest.raises(UserError, match="got others"):
            go(tmp_path / "part", text, resume=True)
    finally:
        text.write_bytes(content)
    assert (tmp_path / "part").read_bytes() == before


@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": -1.0}, {"learning_rate": float("nan")}, {"grad_clip": 0.0}, {"train_fraction": 1.0},
     {"cpu_minutes": 0.1}, {"accumulate": 0},
     {"batch_size": 0}, {"batch_size": "4"}, {"sequence_length": 10**6}, {"minutes": 1.0},
     {"steps": 0}, {"steps": None, "minutes": -1.0}],
)  # fmt: skip
def test_an_invalid_setting_writes_nothing(tmp_path: Path, text: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        go(tmp_path / "m", text, **wrong)
    assert not list(tmp_path.iterdir())


def test_an_invalid_time_names_minutes(tmp_path: Path, text: Path) -> None:
    with pytest.raises(UserError, match="minutes"):
        go(tmp_path / "m", text, steps=None, minutes=-1.0)


def test_a_file_that_is_not_a_model_is_not_overwritten(tmp_path: Path, text: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("chapter one")
    with pytest.raises(UserError, match="refusing to overwrite"):
        go(precious, text)
    assert precious.read_text() == "chapter one"

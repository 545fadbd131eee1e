"""Training on clips, end to end: learning, bit-exact resumption, fine-tuning."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from spots import clip

from canton.errors import UserError
from canton.track.checkpoint import load_model, save_model
from canton.track.data.augment import sample_window
from canton.track.data.batches import Batches, prefetch_batches
from canton.track.metrics import predict_windows, score
from canton.track.model import Architecture
from canton.track.train import train
from canton.track.train_config import TrainConfig
from canton.track.train_sources import SceneSource
from canton.training.checkpoint import Checkpoint

SMALL = Architecture(
    stem=((6, 5, True), (8, 3, True)), early=0, memory=6, head=8, distractor_classes=("bird",)
)
SETTINGS = {"batch_size": 2, "frames_per_step": 3, "tbptt_chunks": 2, "crop_size": 48, "fps": 10.0, "seed": 3}


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Video files with labels.csv and splits.csv."""
    from canton.track.video.writer import VideoWriter

    folder = tmp_path_factory.mktemp("footage")
    labels, splits = ["clip,modality,class,frame,x,y,w,h"], ["clip,split"]
    for k in range(8):
        made = clip(f"clip{k}", "drone" if k % 2 else "bird", k)
        with VideoWriter(folder / f"{made.name}.mp4", 80, 64, 10.0) as film:
            for image in made.frames:
                film.write(image.repeat(3, 2))
        for t, (box,) in enumerate(made.boxes):
            labels.append(
                f"{made.name},IR,{made.class_name.upper()},{t},{box.x},{box.y},{box.width},{box.height}"
            )
        splits.append(f"{made.name},{'val' if k < 2 else 'train'}")
    (folder / "labels.csv").write_text("\n".join(labels))
    (folder / "splits.csv").write_text("\n".join(splits))
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def test_learns_to_detect_the_drone(footage: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    settings = {**SETTINGS, "batch_size": 8, "tbptt_chunks": 1, "learning_rate": 1e-2}
    trained = train(TrainConfig(footage=footage, **settings, model=SMALL, steps=150, workers=0), out=out)
    assert trained is not None
    assert trained.finished
    loaded = load_model(out)
    assert loaded.header["held_out"]["f1"] == trained.held_out["f1"]
    clips = [clip("new drone", "drone", 100), clip("new bird", "bird", 101)]
    scores = score(predict_windows(loaded.model, clips), loaded.header["threshold"], target_class="drone")
    assert scores.f1 > 0.9, scores


def test_resumed_run_is_bit_exact(footage: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    train(TrainConfig(footage=footage, **SETTINGS, model=SMALL, steps=7, workers=0), out=whole)

    class Stop(Exception):
        pass

    def stop(progress: object) -> None:
        if getattr(progress, "step", 0) == 5:  # in the middle of a block of two chunks
            raise Stop

    with pytest.raises(Stop):
        train(
            TrainConfig(footage=footage, **SETTINGS, model=SMALL, steps=7, workers=0, save_seconds=0.0),
            out=broken,
            on_progress=stop,
            progress_seconds=0.0,
        )
    assert load_model(broken).checkpoint is not None
    saved = TrainConfig.from_header(load_model(broken).header)
    with pytest.raises(UserError, match="seed"):
        train(replace(saved, seed=4), out=broken, resume=True)
    train(replace(saved, workers=1), out=broken, resume=True)
    a, b = load_model(whole).model.state_dict(), load_model(broken).model.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_ctrl_c_during_evaluation_keeps_the_run(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    train(TrainConfig(footage=footage, **SETTINGS, model=SMALL, steps=5, workers=0), out=whole)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["canton.track.train"], "measure", interrupt)
        stopped = train(TrainConfig(footage=footage, **SETTINGS, model=SMALL, steps=5, workers=0), out=broken)
    assert stopped is not None
    assert (stopped.finished, stopped.held_out, stopped.report.step) == (False, None, 5)
    trained = train(
        replace(TrainConfig.from_header(load_model(broken).header), workers=0), out=broken, resume=True
    )
    assert trained is not None
    assert (trained.finished, trained.report.step) == (True, 5)
    wanted = load_model(whole).model.state_dict()
    for name, value in load_model(broken).model.state_dict().items():
        assert torch.equal(value, wanted[name]), name


def test_fine_tuning(footage: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    train(TrainConfig(footage=footage, **SETTINGS, model=SMALL, steps=3, workers=0), out=first)
    train(
        TrainConfig(
            footage=footage, **SETTINGS, start=first, steps=1, learning_rate=1e-9, ema_decay=0.0, workers=0
        ),
        out=second,
    )
    a, b = load_model(first), load_model(second)
    for name, weight in a.model.named_parameters():
        assert torch.allclose(weight, b.model.get_parameter(name), atol=1e-6), name
    assert b.header["training"]["start"] == "first.safetensors"
    still = replace(SMALL, recurrent=False)
    train(
        TrainConfig(
            footage=footage, **SETTINGS, start=first, model=still, steps=1, learning_rate=1e-9, workers=0
        ),
        out=second,
    )
    assert load_model(second).model.architecture == still, "the same network with a reset state"
    fine = replace(SMALL, early=4)
    train(
        TrainConfig(
            footage=footage, **SETTINGS, start=first, model=fine, steps=1, learning_rate=1e-9, workers=0
        ),
        out=second,
    )
    grown = load_model(second).model
    assert grown.architecture == fine, "an early memory is added"
    assert torch.allclose(grown.maps.weight, a.model.maps.weight, atol=1e-6), "what was learned is kept"
    train(
        TrainConfig(
            footage=footage, **SETTINGS, start=first, steps=1, learning_rate=1e-9, ema_decay=0.0, workers=0
        ),
        out=second,
    )
    with pytest.raises(UserError, match="start"):
        train(TrainConfig(footage=footage, start=first, model=replace(SMALL, memory=7), steps=1), out=second)
    broken = tmp_path / "broken.safetensors"
    save_model(broken, a.model, {"training": {}, "curve": None}, Checkpoint({}, 3, 1.0))
    with pytest.raises(UserError, match="start"):
        train(TrainConfig(footage=footage, start=broken, steps=1), out=second)
    with pytest.raises(UserError, match="broken"):
        train(TrainConfig(footage=footage, steps=1), out=broken)
    assert load_model(broken).checkpoint is not None, "a run that was stopped is not written over"
    older = {name: value for name, value in a.header["training"].items() if name != "start"}
    save_model(broken, a.model, {"training": older, "curve": None}, Checkpoint({}, 3, 1.0))
    with pytest.raises(UserError, match="TrainConfig"):
        train(out=broken, resume=True)


def test_other_target_class(footage: Path, tmp_path: Path) -> None:
    """The drone is then a distractor, in footage and in synthetic scenes."""
    out = tmp_path / "bird.safetensors"
    settings = {**SETTINGS, "batch_size": 8, "tbptt_chunks": 1, "learning_rate": 1e-2}
    train(
        TrainConfig(footage=footage, target_class=" Bird", **settings, model=SMALL, steps=250, workers=0),
        out=out,
    )
    loaded = load_model(out)
    assert loaded.model.architecture.distractor_classes == ("drone",)
    assert loaded.header["training"]["target_class"] == "bird"
    predictions = predict_windows(loaded.model, [clip("one", "drone", 21), clip("two", "bird", 22)])
    scores = score(predictions, loaded.header["threshold"], target_class="bird")
    assert scores.f1 > 0.9, scores
    with pytest.raises(UserError, match="target_class"):
        train(TrainConfig(footage=footage, start=out, steps=1), out=tmp_path / "drone.safetensors")
    scenes = SceneSource(kind="thermal", target_class="bird")
    named = [
        kind
        for k in range(20)
        for here in scenes.sample(np.random.default_rng(k), 1, 48).boxes
        for kind, _ in here
    ]
    assert {"bird", "drone"} <= set(named)
    held_out = [scenes.held_out_scene(k, frames=1, size=48) for k in range(20)]
    assert {"bird", "drone"} <= {kind for one in held_out for kind in one.classes_at(0)}
    assert {one.class_name for one in held_out} == {"bird", "none"}


def test_training_without_memory(footage: Path, tmp_path: Path) -> None:
    out = tmp_path / "still.safetensors"
    network = replace(SMALL, recurrent=False)
    train(TrainConfig(footage=footage, **SETTINGS, model=network, steps=2, workers=0), out=out)
    model = load_model(out).model
    frames = torch.rand(3, 1, 3, 64, 80)
    with torch.no_grad():
        assert torch.allclose(model(frames)[0][2], model(frames[2:])[0][0], atol=1e-5)


def test_errors_before_anything_is_written(footage: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match="kite"):
        train(TrainConfig(footage=footage, target_class="kite", steps=1), out=out)
    with pytest.raises(UserError, match="target"):
        train(TrainConfig(target_class="kite", steps=1), out=out)
    with pytest.raises(UserError, match="footage"):
        train(TrainConfig(scenes=False, steps=1), out=out)
    with pytest.raises(UserError, match="learning_rate"):
        train(TrainConfig(footage=footage, learning_rate=-1.0, steps=1), out=out)
    assert not out.exists()
    out.write_text("a text of somebody's")
    with pytest.raises(UserError, match="model"):
        train(TrainConfig(footage=footage, steps=1), out=out)


def test_batches_depend_on_the_step_alone() -> None:
    clips = [clip("one", "drone", 1), clip("two", "bird", 2)]

    def sample(rng: np.random.Generator, steps: int, size: int):  # type: ignore[no-untyped-def]
        return sample_window(clips, rng, target_class="drone", steps=steps, size=size)

    config = TrainConfig(**{**SETTINGS, "batch_size": 4, "seed": 5})

    def batches(rank: int = 0, world_size: int = 1) -> Batches:
        return Batches(sample, SMALL, config, rank=rank, world_size=world_size)

    plain = prefetch_batches(batches(), 0, workers=0)
    run = [plain(step) for step in range(6)]
    later = prefetch_batches(batches(), 3, workers=1)
    for step in range(3, 6):
        assert torch.equal(later(step).frames, run[step].frames)
    assert [batch.state_reset for batch in run] == [True, False] * 3
    shares = [prefetch_batches(batches(rank, 2), 0, workers=0)(0).frames for rank in range(2)]
    assert torch.equal(torch.stack(shares, 2).flatten(1, 2), run[0].frames)


def test_cuts_reset_the_state_within_a_step_only() -> None:
    """A step that starts with an empty state needs no reset in its first frame; the second chunk does."""
    films = [clip("one", "drone", 1, frames=6), clip("two", "drone", 2, frames=6)]
    films[0].cuts[[0, 3]] = True  # the first frame of each chunk
    films[1].cuts[1] = True

    def sample(rng: np.random.Generator, steps: int, size: int):  # type: ignore[no-untyped-def]
        film = films[int(rng.integers(2))]
        window = sample_window([film], np.random.default_rng(0), target_class="drone", steps=6, size=size)
        return window._replace(cuts=film.cuts)

    get = prefetch_batches(Batches(sample, SMALL, TrainConfig(**{**SETTINGS, "batch_size": 8})), 0, workers=0)
    first, second = get(0), get(1)
    assert first.reset is not None
    assert second.reset is not None
    assert not first.reset[0].any()
    assert 0 < first.reset[1].sum() < 8
    assert torch.equal(second.reset[0], ~first.reset[1])
    assert not second.reset[1:].any()


def test_single_frame_steps() -> None:
    clips = [clip("one", "drone", 1), clip("two", "bird", 2)]
    lengths = set[int]()

    def sample(rng: np.random.Generator, steps: int, size: int):  # type: ignore[no-untyped-def]
        lengths.add(steps)
        return sample_window(clips, rng, target_class="drone", steps=steps, size=size)

    def batches(rank: int = 0, world_size: int = 1, single_frame_steps: int = 3) -> Batches:
        settings = {**SETTINGS, "batch_size": 4, "seed": 5}
        config = TrainConfig(**settings, single_frame_steps=single_frame_steps)
        return Batches(sample, SMALL, config, rank=rank, world_size=world_size)

    get, plain = (
        prefetch_batches(batches(), 0, workers=0),
        prefetch_batches(batches(single_frame_steps=0), 0, workers=0),
    )
    run, whole = [get(step) for step in range(6)], [plain(step) for step in range(6)]
    assert lengths == {1, 6}
    for batch in run[:4]:  # two blocks of two chunks: each frame is a row of its own
        assert batch.state_reset
        assert batch.reset is None
        assert batch.frames.shape[:2] == (1, 12)
        assert batch.target.heatmap.shape[:2] == (1, 12)
        assert len({frame.numpy().tobytes() for frame in batch.frames[0]}) == 12
    for batch, other in zip(run[4:], whole[4:], strict=True):
        assert torch.equal(batch.frames, other.frames)
    shares = [prefetch_batches(batches(rank, 2), 0, workers=0)(0).frames[0] for rank in range(2)]
    both = {frame.numpy().tobytes() for share in shares for frame in share}
    assert both == {frame.numpy().tobytes() for frame in run[0].frames[0]}


def test_moving_average_is_kept(footage: Path, tmp_path: Path) -> None:
    kept = {}
    for average in (0.0, 0.9):
        out = tmp_path / f"{average}.safetensors"
        train(
            TrainConfig(footage=footage, **SETTINGS, model=SMALL, steps=4, workers=0, ema_decay=average),
            out=out,
        )
        kept[average] = load_model(out).model.state_dict()
    assert not torch.equal(kept[0.0]["maps.weight"], kept[0.9]["maps.weight"])
    with pytest.raises(UserError, match="ema_decay"):
        train(TrainConfig(footage=footage, steps=1, ema_decay=1.0), out=tmp_path / "x.safetensors")


def test_on_progress(footage: Path, tmp_path: Path) -> None:
    seen: list[float] = []
    train(
        TrainConfig(footage=footage, **SETTINGS, model=SMALL, steps=3, workers=0),
        out=tmp_path / "m.safetensors",
        on_progress=lambda now: seen.append(now.fraction),
        progress_seconds=0.0,
    )
    assert seen[-1] == 1.0

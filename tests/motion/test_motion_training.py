"""Training on filmed clips, end to end: it learns, it resumes to the same bits; what it lacks without
memory.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from canton.errors import UserError
from canton.motion.batches import Batches, ahead
from canton.motion.evaluation import look, score
from canton.motion.labels import Box
from canton.motion.learning import train
from canton.motion.model import Architecture
from canton.motion.modelfile import load_model
from canton.motion.store import Stored
from canton.motion.windows import draw_window

SMALL = Architecture(stem=((6, 5, True), (8, 3, True)), memory=6, head=8, others=("bird",))
SETTINGS = {"batch": 2, "length": 3, "pieces": 2, "size": 48, "fps": 10.0, "seed": 3}


def clip(name: str, kind: str, seed: int, frames: int = 14) -> Stored:
    """A bright spot (a drone) or a dark one (a bird) crosses a grey sky."""
    draw = np.random.default_rng(seed)
    pictures = draw.normal(110, 4, (frames, 64, 80, 1))
    place, speed = draw.uniform(16, 44, 2), draw.uniform(-1.5, 1.5, 2)
    boxes = []
    for t in range(frames):
        x, y = (place + speed * t).clip(8, 54).round().astype(int)
        pictures[t, y - 3 : y + 3, x - 4 : x + 4] += 90 if kind == "drone" else -90
        boxes.append((Box(float(x - 4), float(y - 3), 8.0, 6.0),))
    return Stored(name, kind, pictures.clip(0, 255).astype(np.uint8), tuple(boxes), np.zeros(frames, bool))


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips in files, with labels.csv and splits.csv."""
    from canton.motion.recorder import Recorder

    folder = tmp_path_factory.mktemp("footage")
    labels, splits = ["clip,modality,class,frame,x,y,w,h"], ["clip,split"]
    for k in range(8):
        made = clip(f"clip{k}", "drone" if k % 2 else "bird", k)
        with Recorder(folder / f"{made.name}.mp4", 80, 64, 10.0) as film:
            for picture in made.frames:
                film.write(picture.repeat(3, 2))
        for t, (box,) in enumerate(made.boxes):
            labels.append(f"{made.name},IR,{made.kind.upper()},{t},{box.x},{box.y},{box.w},{box.h}")
        splits.append(f"{made.name},{'val' if k < 2 else 'train'}")
    (folder / "labels.csv").write_text("\n".join(labels))
    (folder / "splits.csv").write_text("\n".join(splits))
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def test_it_learns_which_spot_is_the_drone(footage: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    settings = {**SETTINGS, "batch": 8, "pieces": 1, "rate": 1e-2}
    trained = train(out, footage=footage, **settings, architecture=SMALL, steps=150, workers=0)
    assert trained is not None
    assert trained.finished
    held = load_model(out)
    assert held.header["held_out"]["f1"] == trained.held_out["f1"]
    clips = [clip("new drone", "drone", 100), clip("new bird", "bird", 101)]
    scores = score(look(held.model, clips), held.header["threshold"], sought="drone")
    assert scores.f1 > 0.9, scores


def test_a_run_that_was_broken_off_ends_with_the_same_bits(footage: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    train(whole, footage=footage, **SETTINGS, architecture=SMALL, steps=7, workers=0)

    class Stop(Exception):
        pass

    def stop(progress: object) -> None:
        if getattr(progress, "step", 0) == 5:  # in the middle of a block of two pieces
            raise Stop

    with pytest.raises(Stop):
        train(
            broken, footage=footage, **SETTINGS, architecture=SMALL, steps=7, workers=0,
            show=stop, show_seconds=0.0, save_seconds=0.0,
        )  # fmt: skip
    assert load_model(broken).checkpoint is not None
    train(broken, resume=True, workers=1)
    a, b = load_model(whole).model.state_dict(), load_model(broken).model.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_no_memory_is_the_same_network(footage: Path, tmp_path: Path) -> None:
    out = tmp_path / "still.safetensors"
    network = replace(SMALL, recurrent=False)
    train(out, footage=footage, **SETTINGS, architecture=network, steps=2, workers=0)
    model = load_model(out).model
    frames = torch.rand(3, 1, 3, 64, 80)
    with torch.no_grad():
        assert torch.allclose(model(frames)[0][2], model(frames[2:])[0][0], atol=1e-5)


def test_what_is_wrong_is_said_before_anything_is_written(footage: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match="no train clip of a kite"):
        train(out, footage=footage, sought="kite", steps=1)
    with pytest.raises(UserError, match="nothing to learn from"):
        train(out, scenes=False, steps=1)
    with pytest.raises(UserError, match="rate is -1"):
        train(out, footage=footage, rate=-1.0, steps=1)
    assert not out.exists()
    out.write_text("a text of somebody's")
    with pytest.raises(UserError, match="left alone"):
        train(out, footage=footage, steps=1)


def test_windows_keep_the_truth_with_the_picture() -> None:
    """Wherever a window is cut out, turned or zoomed, the bright spot is in its box."""
    clips = [clip("one", "drone", 1), clip("two", "bird", 2)]
    seen = 0
    for k in range(60):
        draw = np.random.default_rng(k)
        window = draw_window(clips, draw, sought="drone", steps=4, size=48, hard=0.0)
        assert window.frames.shape == (4, 48, 48, 3)
        for picture, named in zip(window.frames, window.named, strict=True):
            for kind, box in named:
                cx, cy = (round(value) for value in box.centre)
                if 3 <= cx < 45 and 3 <= cy < 45:
                    seen += 1
                    here, sky = picture[cy - 1 : cy + 1, cx - 1 : cx + 1].mean(), np.median(picture)
                    assert (here - sky) * (1 if kind == "drone" else -1) > 20
    assert seen > 60


def test_in_coloured_film_a_thing_may_be_as_bright_as_it_was_dark() -> None:
    """It stays where its box is; grey film, which shows heat, is left as it is."""
    grey = clip("one", "drone", 1)
    coloured = grey._replace(frames=grey.frames.repeat(3, -1))
    for film, flipped, both in ((coloured, 0.5, True), (coloured, 0.0, False), (grey, 0.5, False)):
        brighter = set()
        for k in range(40):
            draw = np.random.default_rng(k)
            window = draw_window([film], draw, sought="drone", steps=1, size=48, hard=0.0, flipped=flipped)
            for _, box in window.named[0]:
                cx, cy = (round(value) for value in box.centre)
                if 4 <= cx < 44 and 4 <= cy < 44:
                    picture = window.frames[0]
                    apart = picture[cy - 1 : cy + 1, cx - 1 : cx + 1].mean() - np.median(picture)
                    assert abs(apart) > 20
                    brighter.add(bool(apart > 0))
        assert brighter == ({True, False} if both else {True})


def widths_shown(film: Stored, *, far: float = 0.5, stretch: float = 1.0) -> np.ndarray:
    """How much wider and how much higher than in the film the thing is, in 200 windows of it."""
    windows = (
        draw_window(
            [film], np.random.default_rng(k), sought="drone", steps=1, size=48, far=far, stretch=stretch
        )
        for k in range(200)
    )
    return np.array([(box.w / 8, box.h / 6) for window in windows for _, box in window.named[0]])


def test_wide_film_is_shown_smaller_too() -> None:
    """A film of 640 px is scaled to half its size and less in `far` of the windows; one of 320 px in none."""
    narrow = clip("one", "drone", 1)
    wide = narrow._replace(frames=np.zeros((14, 512, 640, 1), np.uint8))
    for film, far, least in ((narrow, 1.0, 0.75), (wide, 1.0, 1 / 2.8), (wide, 0.0, 1 / 1.4)):
        shown = widths_shown(film, far=far)[:, 0]  # of 64 px height, the narrow one is never shown smaller
        assert least * 0.98 <= shown.min() < least * 1.2
        assert 1.2 < shown.max() <= 1.43
    mixed = widths_shown(wide)[:, 0]
    assert 0.2 < (mixed < 0.69).mean() < 0.4  # about half of the half


def test_windows_are_stretched() -> None:
    """What is made wider is made lower by as much."""
    shown = widths_shown(clip("one", "drone", 1), stretch=1.2)
    ratio = shown[:, 0] / shown[:, 1]
    assert 1.3 < ratio.max() < 1.2**2 * 1.03
    assert 1 / (1.2**2 * 1.03) < ratio.min() < 1 / 1.3
    assert widths_shown(clip("one", "drone", 1)).std(0).min() > 0.1, "and zoomed besides"


def test_windows_know_where_the_film_is_cut() -> None:
    cut = clip("one", "drone", 1, frames=6)
    cut.cuts[3] = True
    found = set()
    for k in range(20):  # some forwards, some backwards
        window = draw_window([cut], np.random.default_rng(k), sought="drone", steps=6, size=48)
        found.add(tuple(np.flatnonzero(window.cuts)))
    assert found == {(3,)}, "between frames 2 and 3, whichever way it is played"


def test_batches_are_functions_of_the_step() -> None:
    clips = [clip("one", "drone", 1), clip("two", "bird", 2)]

    def draw(chance: np.random.Generator, steps: int, size: int):  # type: ignore[no-untyped-def]
        return draw_window(clips, chance, sought="drone", steps=steps, size=size)

    def batches(rank: int = 0, world: int = 1) -> Batches:
        return Batches(
            draw, SMALL, sought="drone", size=48, rows=4, length=3, pieces=2, seed=5, rank=rank, world=world
        )

    plain = ahead(batches(), 0, workers=0)
    run = [plain(step) for step in range(6)]
    later = ahead(batches(), 3, workers=1)
    for step in range(3, 6):
        assert torch.equal(later(step).frames, run[step].frames)
    assert [batch.fresh for batch in run] == [True, False] * 3
    shares = [ahead(batches(rank, 2), 0, workers=0)(0).frames for rank in range(2)]
    assert torch.equal(torch.stack(shares, 2).flatten(1, 2), run[0].frames)


def test_the_first_blocks_may_be_of_single_frames() -> None:
    clips = [clip("one", "drone", 1), clip("two", "bird", 2)]

    def draw(chance: np.random.Generator, steps: int, size: int):  # type: ignore[no-untyped-def]
        return draw_window(clips, chance, sought="drone", steps=steps, size=size)

    def batches(rank: int = 0, world: int = 1, singles: int = 2) -> Batches:
        return Batches(
            draw, SMALL, sought="drone", size=48, rows=4, length=3, pieces=2, seed=5, singles=singles,
            rank=rank, world=world,
        )  # fmt: skip

    get, plain = ahead(batches(), 0, workers=0), ahead(batches(singles=0), 0, workers=0)
    run, whole = [get(step) for step in range(6)], [plain(step) for step in range(6)]
    for batch in run[:4]:  # two blocks of two pieces: each frame is a row of its own
        assert batch.fresh
        assert batch.reset is None
        assert batch.frames.shape[:2] == (1, 12)
        assert batch.target.heat.shape[:2] == (1, 12)
        assert len({frame.numpy().tobytes() for frame in batch.frames[0]}) == 12
    for batch, other in zip(run[4:], whole[4:], strict=True):
        assert torch.equal(batch.frames, other.frames)
    shares = [ahead(batches(rank, 2), 0, workers=0)(0).frames[0] for rank in range(2)]
    both = {frame.numpy().tobytes() for share in shares for frame in share}
    assert both == {frame.numpy().tobytes() for frame in run[0].frames[0]}


def test_what_is_kept_is_the_average(footage: Path, tmp_path: Path) -> None:
    kept = {}
    for average in (0.0, 0.9):
        out = tmp_path / f"{average}.safetensors"
        train(out, footage=footage, **SETTINGS, architecture=SMALL, steps=4, workers=0, average=average)
        kept[average] = load_model(out).model.state_dict()
    assert not torch.equal(kept[0.0]["maps.weight"], kept[0.9]["maps.weight"])
    with pytest.raises(UserError, match=r"average is 1.0: it lies in \[0, 1\)"):
        train(tmp_path / "x.safetensors", footage=footage, steps=1, average=1.0)


def test_reports_are_told(footage: Path, tmp_path: Path) -> None:
    seen: list[float] = []
    train(
        tmp_path / "m.safetensors", footage=footage, **SETTINGS, architecture=SMALL, steps=3, workers=0,
        show=lambda now: seen.append(now.fraction), show_seconds=0.0,
    )  # fmt: skip
    assert seen[-1] == 1.0

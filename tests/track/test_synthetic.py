"""Synthetic scenes: reproducible, with labels that match the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")

from canton.errors import UserError
from canton.track.synthetic import KINDS, Scene, make_scene
from canton.track.synthetic.backgrounds import View
from canton.track.synthetic.colours import visible_colours
from canton.track.synthetic.dataset import Scenes, iterate_scenes
from canton.track.synthetic.motion import drift
from canton.track.synthetic.scene import ROLL
from canton.track.synthetic.trajectories import make_moving_target

SORTS = KINDS[:3]


def same(a: Scene, b: Scene) -> bool:
    return (
        np.array_equal(a.frames, b.frames)
        and np.array_equal(a.boxes, b.boxes, equal_nan=True)
        and a.distractors == b.distractors
    )


@pytest.mark.parametrize("kind", KINDS)
def test_seed_determines_the_scene(kind: str) -> None:
    first = make_scene(5, kind=kind, frames=3)
    make_scene(77, kind=kind, frames=5)  # other scenes in between have no influence
    assert same(first, make_scene(5, kind=kind, frames=3))
    assert not same(first, make_scene(6, kind=kind, frames=3))


@pytest.mark.parametrize("kind", SORTS)
def test_shapes(kind: str) -> None:
    scene = make_scene(3, kind=kind, frames=4, size=(96, 160))
    assert scene.frames.shape == (4, 96, 160, 3)
    assert scene.frames.dtype == np.uint8
    assert scene.centres.shape == (4, 2)
    assert scene.centres.dtype == np.float32
    assert scene.boxes.shape == (4, 4)
    assert scene.boxes.dtype == np.float32
    assert len(scene.distractors) == 4
    assert scene.kind == kind


def grown(box: np.ndarray, by: float, height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] + 0.5
    x, y, w, h = box
    return (columns > x - by) & (columns < x + w + by) & (rows > y - by) & (rows < y + h + by)


@pytest.mark.parametrize("kind", SORTS)
def test_boxes_match_the_pixels(kind: str) -> None:
    """The difference between a scene with and without the target fills its box."""
    inside, fills, off = [], [], []
    for seed in range(25):
        there, not_there = (make_scene(seed, kind=kind, frames=3, present=p) for p in (True, False))
        apart = (there.frames.astype(float) - not_there.frames).__abs__().sum(-1)
        for t in range(3):
            if (
                np.isnan(there.boxes[t]).any() or apart[t].max() < 30
            ):  # absent, or as bright as the background
                continue
            weight = apart[t] ** 2
            inside.append(weight[grown(there.boxes[t], 4, 128, 128)].sum() / weight.sum())
            solid = apart[t] > 0.3 * apart[t].max()
            rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
            w, h = there.boxes[t, 2:]
            fills.append((np.ptp(columns) + 1) / w)
            fills.append((np.ptp(rows) + 1) / h)
            middle = np.array([columns[0] + columns[-1] + 1, rows[0] + rows[-1] + 1]) / 2
            off.append(np.hypot(*(middle - there.centres[t])))
    assert len(inside) > 50
    assert np.median(inside) > 0.97
    assert np.quantile(inside, 0.1) > 0.8
    assert 0.75 < np.median(fills) < 1.3
    assert np.median(off) < 1.2


@pytest.mark.parametrize("kind", SORTS)
def test_centres_and_boxes_agree(kind: str) -> None:
    for seed in range(12):
        scene = make_scene(seed, kind=kind, frames=6)
        seen = np.isfinite(scene.boxes).all(1)
        assert (np.isfinite(scene.centres).all(1) == seen).all()
        assert scene.present == seen.any()
        middle = scene.boxes[seen, :2] + scene.boxes[seen, 2:] / 2
        np.testing.assert_allclose(scene.centres[seen], middle, atol=1e-3)
        assert (scene.boxes[seen, :2] >= 0).all()
        assert (scene.boxes[seen, :2] + scene.boxes[seen, 2:] <= 128.001).all()


def test_half_of_the_scenes_have_no_target() -> None:
    there = [make_scene(seed, kind="camouflage", frames=1, size=32).present for seed in range(400)]
    assert 160 < sum(there) < 240  # four standard deviations
    missing = make_scene(there.index(False), kind="article", frames=1, size=48)
    assert np.isnan(missing.centres).all()
    assert np.isnan(missing.boxes).all()


def test_sizes_in_article_scenes() -> None:
    """6 to 24 px; rotation, scaling and motion blur change it by a few px."""
    longest = [
        np.nanmax(make_scene(seed, kind="article", frames=1, present=True).boxes[:, 2:]) for seed in range(60)
    ]
    assert np.quantile(longest, 0.05) >= 5
    assert np.quantile(longest, 0.95) <= 30


def test_some_targets_leave_the_picture() -> None:
    scenes = [make_scene(seed, kind="article", frames=12, size=64, present=True) for seed in range(60)]
    assert any(np.isnan(scene.boxes).any() for scene in scenes)
    assert sum(scene.present for scene in scenes) >= 58


def test_distractors_with_and_without_the_target() -> None:
    for there in (True, False):
        scenes = [make_scene(seed, kind="thermal", frames=1, present=there) for seed in range(40)]
        kinds = {kind for scene in scenes for kind, _ in scene.distractors[0]}
        assert kinds == {"bird", "airplane", "helicopter"}
    bird_scenes = [make_scene(seed, kind="article", frames=1, target_class="bird") for seed in range(30)]
    assert "bird" not in {kind for scene in bird_scenes for kind, _ in scene.distractors[0]}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than this machine has cores
def test_workers_yield_the_same_scenes_in_order() -> None:
    scenes = Scenes(9, 5, frames=2, size=48, kind="mixed")
    with iterate_scenes(scenes, workers=2, start=1) as made:
        pooled = list(made)
    assert len(pooled) == 4
    assert all(same(one, scenes[k + 1]) for k, one in enumerate(pooled))
    assert not same(scenes[0], Scenes(10, 5, frames=2, size=48, kind="mixed")[0])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1])
def test_worker_error_is_one_line(tmp_path: Path, workers: int) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    scenes = Scenes(9, 5, frames=2, size=48, kind="article", backgrounds=tmp_path)
    with (
        pytest.raises(UserError, match=r"^[^\n]*broken\.png[^\n]*$"),
        iterate_scenes(scenes, workers=workers) as made,
    ):
        next(made)


@pytest.mark.parametrize("kind", ["thermal", "camouflage"])
def test_photographs_need_a_visible_kind(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match="backgrounds"):
        make_scene(0, kind=kind, backgrounds=tmp_path)


@pytest.mark.parametrize(("kind", "still"), [("article", 0.15), ("thermal", 0.75)])
def test_camera_rolls_except_on_a_tripod(kind: str, still: float, monkeypatch: pytest.MonkeyPatch) -> None:
    films: list[list[tuple[float, float]]] = []
    at = View.at

    def seen(view: View, camera: np.ndarray, roll: float) -> np.ndarray:
        films[-1].append((float(np.abs(camera).max()), roll))
        return at(view, camera, roll)

    monkeypatch.setattr(View, "at", seen)
    for seed in range(60):
        films.append([])
        make_scene(seed, kind=kind, frames=5, size=32)
    tripods = [film for film in films if all(roll == 0 for _, roll in film)]
    assert abs(len(tripods) / len(films) - still) < 0.15
    assert all(moved < 1 for film in tripods for moved, _ in film), "a hand that moves the camera rolls it"
    rolls = np.array([[roll for _, roll in film] for film in films if film not in tripods])
    assert (rolls[:, 0] == 0).all()
    assert np.diff(rolls).std() == pytest.approx(ROLL, rel=0.3)


def test_scales_vary_at_random() -> None:
    flights = [
        make_moving_target(
            np.random.default_rng(seed), "drone", np.zeros((12, 2), np.float32), size_px=10.0,
            colours=visible_colours(np.random.default_rng(seed), "drone", np.full(3, 90.0, np.float32)),
            relief=0.5,
        )
        for seed in range(40)
    ]  # fmt: skip
    sizes = np.log([flight.scales for flight in flights])
    assert (sizes[:, 0] == 0).all()
    assert np.diff(sizes, 2).std() == pytest.approx(0.01 * np.sqrt(2), rel=0.3), "no straight line"


def test_drift_is_a_random_walk() -> None:
    rng = np.random.default_rng(0)
    ways = np.stack([drift(rng, 12, start=0.5, step=0.1) for _ in range(4000)])
    assert ways.std(0) == pytest.approx(np.sqrt(0.25 + 0.01 * np.arange(12)), rel=0.1)


def test_photographs_are_the_background(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "red.png"), np.full((90, 120, 3), (20, 20, 200), np.uint8))  # blue, green, red
    colours = [
        make_scene(k, kind="article", frames=1, size=48, backgrounds=tmp_path, present=False).frames.mean(
            (0, 1, 2)
        )
        for k in range(12)
    ]
    assert all(np.sort(colour)[2] > 2 * np.sort(colour)[1] for colour in colours)
    assert any(colour.argmax() == 0 for colour in colours)  # not all have their channels swapped


def test_invalid_background_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="backgrounds"):
        make_scene(0, kind="article", backgrounds=tmp_path / "none")
    with pytest.raises(UserError, match="backgrounds"):
        make_scene(0, kind="article", backgrounds=tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.jpg"):
        make_scene(0, kind="article", backgrounds=tmp_path / "x")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 0, "frames": 0}, "frames"),
        ({"seed": 0, "size": 16}, "size"),
        ({"seed": 0, "kind": "night"}, "kind"),
        ({"seed": 0, "target_class": "ufo"}, "target_class"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_scene(**arguments)  # type: ignore[arg-type]

"""Figures of whole clips, compared with values worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("trackers", reason="trackers is not installed (canton-torch[track])")

from canton.track.boxes import Box
from canton.track.data.dataset import Clip
from canton.track.data.formats.labels import LabelledFrames
from canton.track.evaluate import ClipResult, evaluate, points, summarise
from canton.track.metrics import ANY
from canton.track.tracker import Track

FRAMES, FPS = 60, 30.0
SIZE = 10


def box(k: int, x: float = 50, y: float = 50) -> Box:
    return Box.from_centre(x + k, y, SIZE, SIZE)


def clip(name: str, kind: str, boxes: dict[int, tuple[Box, ...]], **more: object) -> Clip:
    return Clip(name, Path(name), kind, "IR", "test", boxes, **more)  # type: ignore[arg-type]


def result(one: Clip, tracks: list[list[Track]]) -> ClipResult:
    seconds = [k / FPS for k in range(len(tracks))]
    return ClipResult(one, FPS, 320, list(range(len(tracks))), seconds, tracks)


def drone_clip() -> ClipResult:
    """A drone from frame 10 on, hit from frame 25 on, with another id from frame 40 on."""
    truth = clip("d", "drone", {k: (box(k),) for k in range(10, FRAMES)}, columns={"distance": "CLOSE"})
    tracks = [[Track(1 if k < 40 else 2, box(k), 0.8, k)] if k >= 25 else [] for k in range(FRAMES)]
    return result(truth, tracks)


def bird_clip() -> ClipResult:
    """A bird that is taken for a drone in frames 0 to 29, and a still spot in frames 20 to 34."""
    truth = clip("b", "bird", {k: (box(k),) for k in range(FRAMES)}, columns={"distance": "DISTANT"})
    tracks = [
        [Track(7, box(k), 0.6, k, moving=True)] * (k < 30)
        + [Track(8, box(0, 200, 200), 0.5, k)] * (20 <= k < 35)
        for k in range(FRAMES)
    ]
    return result(truth, tracks)


def test_figures_of_a_target() -> None:
    row = summarise([drone_clip()], target_class="drone")
    assert (row["clips"], row["frames"], row["targets"]) == (1, 60, 50)
    assert (row["precision"], row["recall"]) == (1.0, 0.7)
    assert row["f1"] == row["box_f1"] == row["macro_f1"] == pytest.approx(70 / 85)
    assert row["average_precision"] == pytest.approx(0.7)
    assert (row["found"], row["seconds_to_first"]) == (1.0, pytest.approx(0.5))
    assert row["id_switches"] == 1
    assert row["idf1"] == pytest.approx(2 * 20 / (2 * 20 + 15 + 30))
    assert row["hota"] < row["f1"]
    assert row["false_alarms_per_minute"] is row["false_boxes_per_frame"] is None


def test_figures_without_a_target() -> None:
    row = summarise([bird_clip()], target_class="drone")
    assert row["f1"] is row["idf1"] is row["found"] is None
    assert (row["false_tracks_moving"], row["false_tracks_still"]) == (1, 1)
    assert row["still_false_frames"] == pytest.approx(15 / 60)
    assert row["false_alarms_per_minute"] == pytest.approx(2 / (60 / FPS / 60))
    assert row["false_boxes_per_frame"] == pytest.approx(45 / 60)
    anything = summarise([bird_clip()], target_class=ANY)
    assert (anything["recall"], anything["false_tracks_moving"]) == (0.5, 0), "the bird is a target then"


def test_rows_by_kind_by_column_and_by_clip() -> None:
    figures = evaluate([drone_clip(), bird_clip()], target_class="drone", group_by=["distance"])
    assert figures["all"]["precision"] == pytest.approx(35 / 80)
    assert {name: row["targets"] for name, row in figures["kinds"].items()} == {"bird": 0, "drone": 50}
    assert figures["groups"]["distance"]["CLOSE"] == figures["kinds"]["drone"] == figures["clips"]["d"]
    assert figures["all"]["idf1"] == figures["kinds"]["drone"]["idf1"], "identity needs targets"
    assert points([drone_clip()])["d"][0] == [25, 75, 50, 0.8]


def test_never_found() -> None:
    seen, unseen = drone_clip(), drone_clip()._replace(tracks=[[] for _ in range(FRAMES)])
    row = summarise([seen, unseen], target_class="drone")
    assert (row["found"], row["seconds_to_first"]) == (0.5, None)
    assert row["macro_f1"] == pytest.approx(35 / 85)


def test_frames_that_nobody_labelled_do_not_count() -> None:
    seen = drone_clip()
    half = replace(seen.clip, labelled=LabelledFrames(((0, 19),)))
    row = summarise([seen._replace(clip=half)], target_class="drone")
    assert (row["frames"], row["targets"], row["recall"], row["precision"]) == (20, 10, 0, 0)
    assert points([seen._replace(clip=half)]) == points([seen])


def test_identities_must_be_known() -> None:
    """Two boxes in a frame need track numbers."""
    pair = {k: (box(k), box(k, 50, 150)) for k in range(FRAMES)}
    tracks = [[Track(1, box(k), 0.8, k), Track(2, box(k, 50, 150), 0.8, k)] for k in range(FRAMES)]
    unknown = summarise([result(clip("p", "drone", pair), tracks)], target_class="drone")
    assert (unknown["f1"], unknown["idf1"], unknown["hota"]) == (1.0, None, None)
    numbers = {k: (3, 4) if k < 30 else (4, 3) for k in range(FRAMES)}
    known = summarise(
        [result(clip("p", "drone", pair, tracks_by_frame=numbers), tracks)], target_class="drone"
    )
    assert (known["idf1"], known["id_switches"]) == (0.5, 2)

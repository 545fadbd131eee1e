"""Training windows: boxes follow the augmentation of the frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from spots import clip

from canton.track.boxes import Box
from canton.track.data.augment import Window, sample_window
from canton.track.data.frame_cache import CachedClip


def test_boxes_follow_the_frames() -> None:
    """The bright spot is in its box, wherever a window is cropped, flipped or zoomed."""
    clips = [clip("one", "drone", 1), clip("two", "bird", 2)]
    seen = 0
    for k in range(60):
        draw = np.random.default_rng(k)
        window = sample_window(clips, draw, target_class="drone", steps=4, size=48, degraded_share=0.0)
        assert window.frames.shape == (4, 48, 48, 3)
        for image, named in zip(window.frames, window.boxes, strict=True):
            for kind, box in named:
                cx, cy = (round(value) for value in box.centre)
                if 3 <= cx < 45 and 3 <= cy < 45:
                    seen += 1
                    here, sky = image[cy - 1 : cy + 1, cx - 1 : cx + 1].mean(), np.median(image)
                    assert (here - sky) * (1 if kind == "drone" else -1) > 20
    assert seen > 60


def test_bird_in_a_drone_clip_is_labelled_bird() -> None:
    film = clip("one", "drone", 1)
    film = film._replace(classes=(("bird",),) * len(film.frames))
    window = sample_window([film], np.random.default_rng(0), target_class="drone", steps=4, size=48)
    assert [kind for named in window.boxes for kind, _ in named] == ["bird"] * 4


def test_every_box_keeps_its_class() -> None:
    """The tall box alternates between bird and drone, backwards and at double speed too."""
    film = clip("one", "drone", 1)
    boxes = tuple((box, Box(box.x, box.y, box.width, 4 * box.height)) for (box,) in film.boxes)
    kinds = tuple(("bird", "drone") if t % 2 else ("drone", "bird") for t in range(len(boxes)))
    film = film._replace(boxes=boxes, classes=kinds)
    film.frames[:] = (10 * np.arange(14, dtype=np.uint8))[:, None, None, None]
    for k in range(20):
        draw = np.random.default_rng(k)
        window = sample_window([film], draw, target_class="drone", steps=3, size=48, degraded_share=0.0)
        tall = [max(named, key=lambda label: label.box.height).class_name for named in window.boxes]
        first, second, third = (float(image.mean()) for image in window.frames)
        assert abs(third - first) > 5
        every_second = abs(second - first) > 13.5
        assert (len(set(tall)) == 1) == every_second, "the box is the same in every second frame only"
    still = sample_window(
        [film._replace(classes=(("drone", "bird"),) * 14)],
        np.random.default_rng(0),
        target_class="drone",
        steps=3,
        size=48,
    )
    tallest = [max(named, key=lambda label: label.box.height) for named in still.boxes]
    assert [one.class_name for one in tallest] == ["bird"] * 3


@pytest.mark.parametrize(("share", "stride"), [(0.0, 1), (1.0, 2)])
def test_windows_start_anywhere(share: float, stride: int) -> None:
    """Every run of 3 frames of 7, in both directions, about equally often."""
    film = clip("one", "drone", 1, frames=7)
    film = film._replace(classes=tuple((str(t),) for t in range(7)))  # the class tells the frame
    starts: Counter[tuple[int, ...]] = Counter()
    for k in range(400):
        window = sample_window(
            [film], np.random.default_rng(k), target_class="0", steps=3, size=16, double_speed_share=share
        )
        starts[tuple(int(label.class_name) for (label,) in window.boxes)] += 1
    runs = [tuple(range(s, s + 3 * stride, stride)) for s in range(7 - 2 * stride)]
    assert set(starts) == {order for run in runs for order in (run, run[::-1])}
    assert min(starts.values()) > 0.5 * 400 / len(starts)


def share(found: Sequence[bool]) -> float:
    return sum(found) / len(found)


def flat_windows(count: int, frames: int = 1, **options: float) -> list[Window]:
    """Return windows of a clip of one colour with a box without contrast, at the scale 1."""
    images = np.empty((frames, 48, 48, 3), np.uint8)
    images[:] = (90, 120, 170)
    images[:, 20, 20] += 20  # off the middle in both axes
    film = CachedClip("one", "drone", images, ((Box(20, 20, 1, 1),),) * frames, np.zeros(frames, bool))
    given = {
        "degraded_share": 0.0,
        "zoom": 1.0,
        "max_zoom": 1.0,
        "stretch": 1.0,
        "invert_share": 0.0,
    } | options
    return [
        sample_window([film], np.random.default_rng(k), target_class="drone", steps=frames, size=48, **given)
        for k in range(count)
    ]


def test_shares_of_the_changes_of_appearance() -> None:
    """Three standard deviations of a share of 600 are at most 0.06."""
    windows = flat_windows(600)
    images = [window.frames[0].astype(float) for window in windows]
    grey = [bool((image.max(-1) - image.min(-1)).max() == 0) for image in images]
    assert share(grey) == pytest.approx(0.3, abs=0.06)
    boxes = [window.boxes[0][0].box for window in windows]
    assert {box.x for box in boxes} == {20, 27}
    assert share([box.x == 27 for box in boxes]) == pytest.approx(0.5, abs=0.06)
    assert share([box.y == 27 for box in boxes]) == pytest.approx(0.2, abs=0.06)
    # the box follows the flips; a blurred point has bright neighbours
    points = [
        (image[int(b.y), int(b.x)], image[int(b.y), int(b.x) - 1], image[0, 0])
        for image, b in zip(images, boxes, strict=True)
    ]
    assert all((at > sky).all() for at, _, sky in points)
    blurred = [bool((beside > sky).any()) for _, beside, sky in points]
    assert share(blurred) == pytest.approx(
        0.3 * 0.85, abs=0.08
    )  # a blur of 0.3 to 0.45 px is below one level
    levels = np.array([image[0, 0] for image, one in zip(images, grey, strict=True) if not one])
    gains = (levels[:, 2] - levels[:, 0]) / 80
    assert 0.69 < gains.min() < 0.75
    assert 1.25 < gains.max() < 1.31
    offsets = levels[:, 1] - (120 - 128) * gains - 128
    assert -31 < offsets.min() < -26
    assert 26 < offsets.max() < 31


def test_degraded_windows_are_noisy_and_faint() -> None:
    windows = flat_windows(400, degraded_share=0.5)
    noise = np.array([window.frames[0, :10, :10].astype(float).std((0, 1)).mean() for window in windows])
    assert share(list(noise > 4)) == pytest.approx(0.5, abs=0.08)
    noisy = noise[noise > 4]
    assert 7 < noisy.min() < 10
    assert 24 < noisy.max() < 31
    first, second = flat_windows(1, frames=2, degraded_share=1.0)[0].frames
    assert not np.array_equal(first, second), "each frame has its own noise"


def test_windows_contain_a_box_or_lie_anywhere() -> None:
    """With probability 0.6 a window contains the centre of a box, at a place within 0.45 of its middle."""
    film = clip("one", "drone", 1, frames=1)
    wide = film._replace(frames=np.zeros((1, 900, 900, 1), np.uint8), boxes=((Box(446, 447, 8, 6),),))
    found, centres = 0, []
    for k in range(500):
        window = sample_window(
            [wide], np.random.default_rng(k), target_class="drone", steps=1, size=48,
            zoom=1.0, max_zoom=1.0, stretch=1.0, zoom_out_share=0.0, degraded_share=0.0,
        )  # fmt: skip
        x, y = window.boxes[0][0].box.centre
        if 0 <= x < 48 and 0 <= y < 48:
            found += 1
            centres.append((x, y))
    assert found / 500 == pytest.approx(0.6, abs=0.07)  # a window anywhere contains it by chance once in 350
    places = np.array(centres) / 48
    assert 0.03 < places.min() < 0.1
    assert 0.9 < places.max() < 0.97
    assert places.mean(0) == pytest.approx((0.5, 0.5), abs=0.04)


def test_footage_of_the_reference_width_is_not_wide() -> None:
    film = clip("one", "drone", 1, frames=1)._replace(frames=np.zeros((1, 300, 320, 1), np.uint8))
    draws = [np.random.default_rng(k) for k in range(20) for _ in range(2)]
    windows = [
        sample_window([film], draw, target_class="drone", steps=1, size=280, zoom_out_share=float(k % 2))
        for k, draw in enumerate(draws)
    ]
    assert [window.boxes for window in windows[::2]] == [window.boxes for window in windows[1::2]]


def test_shares_of_target_clips_and_of_backwards_windows() -> None:
    films = [
        clip(name, kind, k, frames=4)
        for k, (name, kind) in enumerate((("a", "drone"), ("b", "bird"), ("c", "kite")))
    ]
    films = [
        film._replace(classes=tuple((f"{film.name}{t}",) for t in range(4)), boxes=film.boxes)
        for film in films
    ]
    seen, draw = Counter[str](), np.random.default_rng(0)
    for _ in range(1000):
        window = sample_window(films, draw, target_class="drone", steps=2, size=16)
        first, second = (labels[0].class_name for labels in window.boxes)
        seen[first[0]] += 1
        seen["back"] += first > second
    assert seen["a"] / 1000 == pytest.approx(0.4, abs=0.05)
    assert seen["b"] / 1000 == pytest.approx(0.3, abs=0.05)
    assert seen["back"] / 1000 == pytest.approx(0.5, abs=0.05)


def test_contrast_is_inverted_in_colour_footage() -> None:
    """The object stays in its box; grey (thermal) footage is not changed."""
    grey = clip("one", "drone", 1)
    coloured = grey._replace(frames=grey.frames.repeat(3, -1))
    for film, flipped, both in ((coloured, 0.5, True), (coloured, 0.0, False), (grey, 0.5, False)):
        brighter = set()
        for k in range(40):
            draw = np.random.default_rng(k)
            window = sample_window(
                [film], draw, target_class="drone", steps=1, size=48, degraded_share=0.0, invert_share=flipped
            )
            for _, box in window.boxes[0]:
                cx, cy = (round(value) for value in box.centre)
                if 4 <= cx < 44 and 4 <= cy < 44:
                    image = window.frames[0]
                    apart = image[cy - 1 : cy + 1, cx - 1 : cx + 1].mean() - np.median(image)
                    assert abs(apart) > 20
                    brighter.add(bool(apart > 0))
        assert brighter == ({True, False} if both else {True})


def widths_shown(film: CachedClip, *, zoom_out_share: float = 0.5, stretch: float = 1.0) -> np.ndarray:
    """Return the horizontal and vertical scale of 400 windows."""
    windows = (
        sample_window(
            [film],
            np.random.default_rng(k),
            target_class="drone",
            steps=1,
            size=48,
            zoom_out_share=zoom_out_share,
            stretch=stretch,
        )
        for k in range(400)
    )
    return np.array([(box.width / 8, box.height / 6) for window in windows for _, box in window.boxes[0]])


def test_zoom_of_wide_footage() -> None:
    """Wide footage is zoomed out in `zoom_out_share` of the windows, and in to `max_zoom` in the others."""
    narrow = clip("one", "drone", 1)
    wide = narrow._replace(frames=np.zeros((14, 512, 640, 1), np.uint8))
    rows = ((narrow, 1.0, 0.75, 1.4), (narrow, 0.0, 0.75, 1.4), (wide, 1.0, 1 / 2.8, 1.4))
    for film, share, least, most in (*rows, (wide, 0.0, 1 / 1.4, 2.2)):
        shown = widths_shown(film, zoom_out_share=share)[
            :, 0
        ]  # a narrow clip, 64 px high, is not reduced further
        assert least * 0.98 <= shown.min() < least * 1.2
        assert most * 0.85 < shown.max() <= most * 1.03
    mixed = widths_shown(wide)[:, 0]
    assert 0.15 < (mixed < 0.69).mean() < 0.35  # about a quarter


def test_stretch() -> None:
    """The vertical scale is the inverse of the horizontal one."""
    shown = widths_shown(clip("one", "drone", 1), stretch=1.2)
    ratio = shown[:, 0] / shown[:, 1]
    assert 1.3 < ratio.max() < 1.2**2 * 1.03
    assert 1 / (1.2**2 * 1.03) < ratio.min() < 1 / 1.3
    assert widths_shown(clip("one", "drone", 1)).std(0).min() > 0.1, "also zoomed"


def test_cuts() -> None:
    cut = clip("one", "drone", 1, frames=6)
    cut.cuts[3] = True
    found = set()
    for k in range(20):  # forwards and backwards
        window = sample_window([cut], np.random.default_rng(k), target_class="drone", steps=6, size=48)
        found.add(tuple(np.flatnonzero(window.cuts)))
    assert found == {(3,)}, "between frames 2 and 3, in both directions"
    found = set()
    for k in range(20):  # frames 0, 2, 4 or 1, 3, 5, in both directions
        window = sample_window(
            [cut], np.random.default_rng(k), target_class="drone", steps=3, size=48, double_speed_share=1.0
        )
        found.add(tuple(np.flatnonzero(window.cuts)))
    assert found == {(2,), (1,)}, "a cut at a skipped frame counts"


def test_double_speed() -> None:
    """Uses every second frame if the clip is long enough."""
    film = clip("one", "drone", 1)
    film.frames[:] = (10 * np.arange(14, dtype=np.uint8))[:, None, None, None]

    def strides(steps: int, double_speed_share: float) -> set[int]:
        found = set[int]()
        for k in range(30):
            draw = np.random.default_rng(k)
            window = sample_window(
                [film],
                draw,
                target_class="drone",
                steps=steps,
                size=48,
                double_speed_share=double_speed_share,
                degraded_share=0.0,
            )
            gain = np.abs(np.diff(window.frames[:, 0, 0, 0].astype(float))).mean()
            found.add(1 if gain < 13.5 else 2)  # 10 a frame, times 0.7 to 1.3
        return found

    assert strides(7, 1.0) == {2}
    assert strides(7, 0.5) == {1, 2}
    assert strides(7, 0.0) == {1}
    assert strides(8, 1.0) == {1}, "16 frames are more than it has"

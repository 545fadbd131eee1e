"""Annotated frames: positions, legibility, and the length of trails."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")
pytest.importorskip("av", reason="av is not installed (canton-torch[track])")

from canton.track.boxes import Box
from canton.track.peaks import Peak
from canton.track.pipeline import FrameResult
from canton.track.render.overlay import OverlayRenderer, fit, scale_factor, track_colour
from canton.track.tracker import Track
from canton.track.video.reader import Frame

WIDTH, HEIGHT, STRIDE, OFFSET = 320, 256, 4, 2.0
GREY = 100
TIMES = int(scale_factor(WIDTH))


def result(
    *boxes: Box,
    index: int = 0,
    heatmap: np.ndarray | None = None,
    cut: bool = False,
    peaks: list[Peak] | None = None,
) -> FrameResult:
    pixels = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    cold = np.zeros((HEIGHT // STRIDE, WIDTH // STRIDE), np.float32) if heatmap is None else heatmap
    tracks = [Track(k + 1, box, 0.9, 3) for k, box in enumerate(boxes)]
    return FrameResult(
        Frame(index, index / 10, pixels, cut), cold, float(cold.max()), peaks or [], tracks, 1.0
    )


def renderer() -> OverlayRenderer:
    return OverlayRenderer(WIDTH, HEIGHT, stride=STRIDE, offset=OFFSET, fps=10)


def changed(image: np.ndarray) -> np.ndarray:
    """Return where the image differs from the gray frame, without the footer."""
    differs = (image != GREY).any(2)
    differs[-60:, :400] = False
    return differs


def extent(where: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(where.any(1))[0], np.nonzero(where.any(0))[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


@pytest.mark.parametrize(
    ("width", "times"), [(160, 4), (320, 2), (500, 2), (640, 1), (1280, 1), (1920, 1), (3840, 0.5)]
)
def test_scale_factor(width: int, times: float) -> None:
    assert scale_factor(width) == times


def test_fit_centres_a_frame_of_another_size() -> None:
    image = np.full((20, 40, 3), 200, np.uint8)
    assert fit(image, 40, 20) is image
    fitted = fit(image, 80, 80)
    assert fitted.shape == (80, 80, 3)
    assert (fitted[20:60] == 200).all()
    assert not fitted[:20].any()
    assert not fitted[60:].any()


def test_an_empty_result_draws_nothing() -> None:
    given = result()
    image = renderer().draw(given)
    assert image.shape == (TIMES * HEIGHT, TIMES * WIDTH, 3)
    assert image.dtype == np.uint8
    assert not changed(image).any()
    assert (given.frame.pixels == GREY).all()


def test_the_frame_is_not_changed() -> None:
    pixels = np.full((720, 1280, 3), GREY, np.uint8)
    heatmap = np.ones((180, 320), np.float32)
    given = FrameResult(Frame(0, 0.0, pixels, True), heatmap, 1.0, [], [Track(1, Box(9, 9, 9, 9), 1, 2)], 1.0)
    image = OverlayRenderer(1280, 720, stride=4, offset=2, fps=10).draw(given)
    assert image.shape == pixels.shape
    assert (image != GREY).any()
    assert (pixels == GREY).all()


def test_the_corners_enclose_the_box_in_its_colour() -> None:
    image = renderer().draw(result(Box(100, 80, 20, 12)))
    in_colour = (np.abs(image.astype(int) - track_colour(1)).sum(2)) < 30
    in_colour[: TIMES * 80 - 8] = False  # the label's edge
    left, top, right, bottom = extent(in_colour)
    assert TIMES * 100 - 8 <= left < TIMES * 100
    assert TIMES * 80 - 8 <= top < TIMES * 80
    assert TIMES * 120 <= right < TIMES * 120 + 8
    assert TIMES * 92 <= bottom < TIMES * 92 + 8
    inside = changed(image)[TIMES * 80 : TIMES * 92, TIMES * 100 : TIMES * 120]
    assert not inside.any()  # the object stays visible


def test_the_heat_map_is_drawn_at_its_position() -> None:
    heatmap = np.zeros((HEIGHT // STRIDE, WIDTH // STRIDE), np.float32)
    heatmap[20, 30] = 1.0
    where = changed(renderer().draw(result(heatmap=heatmap)))
    left, top, right, bottom = extent(where)
    x, y = TIMES * (OFFSET + STRIDE * 30) - 0.5, TIMES * (OFFSET + STRIDE * 20) - 0.5
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((x, y), abs=1)
    assert right - left < 2 * TIMES * STRIDE


def test_a_higher_score_is_drawn_stronger() -> None:
    change = []
    for level in (0.2, 0.5, 1.0):
        heatmap = np.full((HEIGHT // STRIDE, WIDTH // STRIDE), level, np.float32)
        change.append(np.abs(renderer().draw(result(heatmap=heatmap)).astype(int)[400, 500] - GREY).sum())
    assert 0 < change[0] < change[1] < change[2]


def test_the_max_score_is_drawn() -> None:
    bright = []
    for level in (0.0, 0.4, 0.9):
        given = result()._replace(max_score=level)
        corner = renderer().draw(given)[-60:, :400].astype(int)
        bright.append(int((corner[..., 0] - corner[..., 2] > 40).sum()))  # the bar's warm colours
    assert bright[0] == 0 < bright[1] < bright[2]


def test_a_trail_grows_and_fades() -> None:
    draw = renderer()
    for k in range(12):
        image = draw.draw(result(Box(40 + 10 * k, 100, 10, 10), index=k))
    left, _, _, _ = extent(changed(image))
    assert left < TIMES * 55  # it starts at the first position
    for k in range(12, 30):
        image = draw.draw(result(index=k))
    assert not changed(image).any()
    assert not draw._trails


def test_a_cut_ends_trails() -> None:
    draw = renderer()
    for k in range(6):
        draw.draw(result(Box(40 + 10 * k, 100, 10, 10), index=k))
    assert not changed(draw.draw(result(index=6, cut=True))).any()


@pytest.mark.parametrize(
    "box",
    [Box(0, 0, 8, 8), Box(312, 0, 8, 8), Box(0, 248, 8, 8), Box(312, 248, 8, 8), Box(-50, -50, 500, 500)],
)
def test_the_label_stays_inside_the_image(box: Box) -> None:
    """White text is visible wherever the box is."""
    letters = (renderer().draw(result(box))[:, :] > 200).all(2)
    letters[-60:, :400] &= box.y + box.height > 240
    assert letters.sum() > 40


@pytest.mark.parametrize(
    "box", [Box(-90, -90, 20, 20), Box(900, 900, 10, 10), Box(5, 5, 1, 1), Box(0, 0, 1e4, 1e4)]
)
def test_any_box_can_be_drawn(box: Box) -> None:
    draw = renderer()
    for k in range(4):
        assert draw.draw(result(box, index=k)).shape == (TIMES * HEIGHT, TIMES * WIDTH, 3)


def test_a_peak_without_a_track_gets_a_circle() -> None:
    peak = Peak(Box.from_centre(100, 90, 10, 10), 0.8)
    image = renderer().draw(result(peaks=[peak]))
    left, top, right, bottom = extent(changed(image))
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx(
        (TIMES * 100 - 0.5, TIMES * 90 - 0.5), abs=1
    )
    tracked = result(Box(95, 85, 10, 10), peaks=[peak])
    np.testing.assert_array_equal(renderer().draw(tracked), renderer().draw(tracked._replace(peaks=[])))


def test_consecutive_ids_differ_in_colour() -> None:
    for number in range(1, 40):
        apart = np.abs(np.array(track_colour(number), int) - track_colour(number + 1)).sum()
        assert apart > 120, number
        assert max(track_colour(number)) > 180  # bright enough on any image

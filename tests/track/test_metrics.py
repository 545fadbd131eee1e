"""Metrics, compared with values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from canton.errors import UserError
from canton.track.boxes import Box
from canton.track.data.frame_cache import CachedClip
from canton.track.metrics import (
    FramePrediction,
    average_precision,
    centre_in_box,
    choose_threshold,
    count,
    enlarge,
    frames_to_first_detection,
    iou_at_least_half,
    predict_windows,
    recall_by_frame,
    score,
)
from canton.track.model import ARTICLE, Architecture, TrackModel
from canton.track.peaks import Peak
from canton.track.window_analysis import evaluate_windows, tabulate

HERE = Box(100, 50, 20, 10)
RIGHT = Peak(Box.from_centre(110, 55, 20, 10), 0.9)
AWAY = Peak(Box.from_centre(200, 200, 20, 10), 0.6)


def peak(x: float, y: float, score: float) -> Peak:
    return Peak(Box.from_centre(x, y, 9, 9), score)


def prediction(t: int, truth: tuple[Box, ...], *peaks: Peak, kind: str = "drone") -> FramePrediction:
    return FramePrediction("clip", kind, t, 320, truth, list(peaks))


def test_a_bird_in_a_drone_clip_is_a_distractor() -> None:
    bird = Box(190, 190, 20, 20)
    both = prediction(0, (HERE, bird), RIGHT, AWAY)._replace(classes=("drone", "bird"))
    alone = prediction(1, (bird,), AWAY)._replace(classes=("bird",))
    scores = score([both, alone], 0.5, target_class="drone")
    assert (scores.precision, scores.recall, scores.false_alarms) == (1 / 3, 1.0, 1.0)
    assert score([both], 0.5, target_class="bird").recall == 1.0
    hotter = [one._replace(peaks=[AWAY._replace(score=0.95), *one.peaks[:-1]]) for one in (both, alone)]
    assert average_precision(hotter, target_class="drone") == 1 / 3, "two birds are detected as drones"
    assert frames_to_first_detection([both._replace(peaks=[AWAY]), alone], 0.5, target_class="drone") == [
        math.inf
    ]
    assert frames_to_first_detection([alone._replace(step=0)], 0.5, target_class="drone") == [], (
        "no drone in the first frame"
    )


def test_a_bird_clip_with_a_drone_counts_as_a_drone_clip() -> None:
    crossed = prediction(0, (HERE,), RIGHT, kind="bird")._replace(classes=("drone",))
    figures = tabulate(
        [crossed, prediction(0, (), kind="plane")._replace(clip="other")],
        threshold=0.5,
        target_class="drone",
        fps=10,
    )
    assert figures["own"]["f1"] == 1.0
    assert (figures["own"]["frames"], figures["all"]["frames"]) == (1, 2)
    assert (figures["seconds_to_first"], figures["never_found"]) == (0.1, 0)


def test_no_detection_has_no_time_to_first() -> None:
    predictions = [
        prediction(0, (HERE,)),
        prediction(1, (HERE,)),
        prediction(0, (HERE,), RIGHT),
        prediction(0, (HERE,)),
    ]
    figures = tabulate(predictions, threshold=0.5, target_class="drone", fps=10)
    assert figures["seconds_to_first"] is None
    assert figures["never_found"] == pytest.approx(2 / 3)
    nothing = tabulate([prediction(0, ())], threshold=0.5, target_class="drone", fps=10)
    assert (nothing["seconds_to_first"], nothing["never_found"]) == (None, None)


def test_false_alarms_per_minute_use_clips_without_a_target() -> None:
    own = [prediction(0, (HERE,), RIGHT), prediction(1, (), AWAY)]
    assert tabulate(own, threshold=0.5, target_class="drone", fps=10)["false_alarms_per_minute"] is None
    bird = [prediction(t, (), *[AWAY] * (t % 2), kind="bird")._replace(clip="bird") for t in range(4)]
    figures = tabulate([*own, *bird], threshold=0.5, target_class="drone", fps=10)
    assert figures["false_alarms_per_minute"] == pytest.approx(0.5 * 600)
    assert figures["all"]["false_alarms_per_frame"] == pytest.approx(3 / 5)


def test_clips_shorter_than_a_window_are_listed() -> None:
    model = TrackModel(Architecture(stem=((4, 3, True),), context=0, memory=4, head=0))
    clip = CachedClip(
        "long", "drone", np.zeros((13, 32, 32, 1), np.uint8), ((HERE,),) * 13, np.zeros(13, bool)
    )
    short = clip._replace(name="short", frames=clip.frames[:11], boxes=clip.boxes[:11], cuts=clip.cuts[:11])
    figures = evaluate_windows(model, [clip, short], threshold=0.5, target_class="drone", fps=10)
    assert (figures["clips"], figures["too_short"]) == (1, ["short"])
    with pytest.raises(UserError, match="clips"):
        evaluate_windows(model, [short], threshold=0.5, target_class="drone", fps=10)


def test_frames_too_small_for_the_model() -> None:
    clip = CachedClip("small", "drone", np.zeros((12, 20, 20, 1), np.uint8), ((),) * 12, np.zeros(12, bool))
    with pytest.raises(UserError, match="20 x 20"):
        predict_windows(TrackModel(ARTICLE), [clip])


def test_predictions_have_the_class_of_every_box() -> None:
    """In every window, in the order of the boxes."""
    kinds = tuple(("drone", "bird") if t % 5 else ("bird", "drone") for t in range(24))
    film = CachedClip(
        "one", "drone", np.zeros((24, 64, 64, 1), np.uint8), ((HERE, HERE),) * 24, np.zeros(24, bool), kinds
    )
    torch.manual_seed(0)
    model = TrackModel(Architecture(stem=((4, 3, True),), memory=4, head=0, context=0))
    assert [one.classes for one in predict_windows(model, [film])] == list(kinds)


def test_centre_in_box() -> None:
    hit = centre_in_box(320)
    assert hit(Box.from_centre(119.9, 50.1, 1, 1), HERE)
    assert not hit(Box.from_centre(120.5, 55, 1, 1), HERE)
    tiny = Box(10, 10, 2, 2)
    assert hit(Box.from_centre(14.9, 7.1, 1, 1), tiny), "a small box is enlarged to 8 px"
    assert not hit(Box.from_centre(15.1, 11, 1, 1), tiny)
    assert centre_in_box(640)(Box.from_centre(18.9, 11, 1, 1), tiny), "and to 16 in a frame twice as wide"


def test_iou_at_least_half() -> None:
    assert iou_at_least_half(RIGHT.box, HERE)
    assert iou_at_least_half(Box.from_centre(110, 55, 20, 5), HERE)  # half of it: exactly 0.5
    assert not iou_at_least_half(Box.from_centre(110, 55, 20, 4.9), HERE)
    assert not iou_at_least_half(AWAY.box, HERE)


def test_scores_by_hand() -> None:
    predictions = [
        prediction(0, (HERE,), RIGHT, AWAY),  # a true and a false positive
        prediction(1, (HERE,), peak(109, 54, 0.8), peak(111, 56, 0.7)),  # the second has no box left
        prediction(2, (HERE,)),  # a missed object
        prediction(3, (), AWAY),  # a false alarm
        prediction(0, (HERE,), RIGHT, kind="bird"),  # a distractor
    ]
    assert count(predictions, 0.5, target_class="drone") == (2, 4, 3, 2, 2)
    scores = score(predictions, 0.5, target_class="drone")
    assert scores.precision == pytest.approx(2 / 6)
    assert scores.recall == pytest.approx(2 / 3)
    assert scores.f1 == pytest.approx(2 * 2 / (2 * 2 + 4 + 1))
    assert scores.false_alarms == pytest.approx(2 / 2)
    strict = score(predictions, 0.85, target_class="drone")
    assert (strict.precision, strict.recall) == (pytest.approx(1 / 2), pytest.approx(1 / 3))


def test_choose_threshold() -> None:
    predictions = [prediction(0, (HERE,), RIGHT, AWAY), prediction(1, (HERE,), peak(110, 55, 0.7), AWAY)]
    assert 0.6 < choose_threshold(predictions, target_class="drone") <= 0.7
    stray = Peak(Box.from_centre(200, 200, 20, 10), 0.8)
    nearer = [prediction(0, (HERE,), RIGHT, stray, peak(260, 200, 0.8))]
    assert choose_threshold(nearer, target_class="drone") > 0.8
    assert 0.8 < choose_threshold(predictions, nearer, target_class="drone") <= 0.9, "the worse view decides"


def test_beta_weighs_false_positives() -> None:
    """Above 0.5 there are six hits of ten, below ten and four false positives: F1 0.75 and 0.83."""
    faint, stray = Peak(Box.from_centre(110, 55, 20, 10), 0.4), Peak(Box.from_centre(200, 200, 20, 10), 0.45)
    predictions = [
        prediction(t, (HERE,), RIGHT) if t < 6 else prediction(t, (HERE,), faint, stray) for t in range(10)
    ]
    assert choose_threshold(predictions, target_class="drone", beta=1.0) <= 0.4
    assert choose_threshold(predictions, target_class="drone") > 0.45


@pytest.mark.parametrize("colours", [1, 3])
def test_enlarge_scales_frames_and_boxes(colours: int) -> None:
    pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")
    frames = np.full((2, 40, 60, colours), 90, np.uint8)
    frames[:, 10:16, 20:30] = 200
    clip = CachedClip("one", "drone", frames, ((Box(20, 10, 10, 6),),) * 2, np.zeros(2, bool))
    nearer = enlarge(clip, 1.5)
    assert nearer.frames.shape == (2, 60, 90, colours)
    assert nearer.frames.dtype == np.uint8
    assert nearer.boxes == ((Box(30, 15, 15, 9),),) * 2
    assert (nearer.frames[:, 17:22, 32:43] == 200).all()
    assert (nearer.frames[:, :13] == 90).all()


def test_average_precision_by_hand() -> None:
    predictions = [
        prediction(0, (HERE,), RIGHT),
        prediction(1, (HERE,), AWAY),
        prediction(2, (HERE,), peak(110, 55, 0.5)),
    ]
    # in order of score: true positive (precision 1), false positive, true positive (2/3); three boxes
    assert average_precision(predictions, target_class="drone") == pytest.approx((1 + 2 / 3) / 3)
    assert average_precision([], target_class="drone") == 0
    assert average_precision([prediction(0, (), RIGHT)], target_class="drone") == 0
    assert average_precision([prediction(0, (HERE,))], target_class="drone") == 0


def test_average_precision_interpolates_where_precision_rises_again() -> None:
    """Precision 0, 1/2, 2/3, 2/4, 3/5, 3/6: each recall gets the highest precision at or behind it."""
    scores = [(AWAY, 0.9), (RIGHT, 0.8), (RIGHT, 0.7), (AWAY, 0.65), (RIGHT, 0.6), (AWAY, 0.5)]
    predictions = [prediction(t, (HERE,), one._replace(score=s)) for t, (one, s) in enumerate(scores)]
    found = average_precision(predictions, target_class="drone")
    assert found == pytest.approx((2 / 3 + 2 / 3 + 3 / 5) / 6)
    assert average_precision(predictions[::-1], target_class="drone") == found, "in order of score"


def test_recall_by_frame_and_first_detection() -> None:
    predictions = [
        prediction(0, (HERE,)), prediction(1, (HERE,)), prediction(2, (HERE,), RIGHT),
        prediction(0, (HERE,), RIGHT), prediction(1, (HERE,), RIGHT), prediction(2, (HERE,), RIGHT),
        prediction(0, (HERE,), AWAY), prediction(1, (HERE,)), prediction(2, (HERE,)),
        prediction(0, ()), prediction(1, (HERE,), RIGHT), prediction(2, (HERE,), RIGHT),
    ]  # fmt: skip
    assert recall_by_frame(predictions, 0.5, target_class="drone") == pytest.approx([1 / 3, 2 / 4, 3 / 4])
    assert frames_to_first_detection(predictions, 0.5, target_class="drone") == [3, 1, math.inf]


def test_windows_carry_the_state_over_frames_without_labels() -> None:
    model = TrackModel(Architecture(stem=((4, 3, True),), context=0, memory=4, head=0))
    frames = np.random.default_rng(0).integers(0, 255, (24, 32, 32, 1), np.uint8)
    clip = CachedClip("a", "drone", frames, ((HERE,),) * 24, np.zeros(24, bool))
    some = np.arange(24) % 3 == 1
    every, known = predict_windows(model, [clip]), predict_windows(model, [clip._replace(labelled=some)])
    assert known == [one for one, has in zip(every, some, strict=True) if has]
    never = [one._replace(peaks=[]) for one in known]
    assert frames_to_first_detection(never, 0.5, target_class="drone") == [], "the first frame is unknown"

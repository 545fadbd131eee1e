"""The pipeline: order, state, cuts, prefetching, dropped frames, errors and memory."""

from __future__ import annotations

import threading
import time
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
pytest.importorskip("trackers", reason="trackers is not installed (canton-torch[track])")

from canton.track.pipeline import track_video
from canton.track.video.preprocess import to_tensor
from canton.track.video.reader import Frame
from track.pipeline_stub import Bright, flight, square_frame


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "canton-decode"]


def test_every_frame_in_order_with_its_detection() -> None:
    results = list(track_video(Bright(), flight(30), fps=10))
    assert [s.frame.index for s in results] == list(range(30))
    for k, result in enumerate(results):
        (peak,) = result.peaks
        assert peak.box.centre == pytest.approx((8 + 2 * k, 30), abs=1.01)  # the model pools 4 x 4 px
        assert result.max_score == pytest.approx(peak.score, abs=1e-6) == result.heatmap.max()
        assert [track.id for track in result.tracks] == ([1] if k else [])
        assert result.latency_ms > 0
        assert result.heatmap.shape == (16, 24)
    assert not decoders()


def test_to_tensor_gives_rgb_in_0_1() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 15
    given = to_tensor(pixels)
    assert given.shape == (1, 3, 2, 3)
    assert given.dtype == torch.float32
    np.testing.assert_array_equal((given[0] * 255).round().numpy(), pixels.transpose(2, 0, 1))
    assert float(given.max()) == 1.0


def test_a_cut_resets_state_and_tracks() -> None:
    model = Bright()
    results = list(track_video(model, flight(12, cuts=(0, 5)), fps=10))
    assert model.empty == [0, 5]
    assert [[t.id for t in s.tracks] for s in results] == [[]] + [[1]] * 4 + [[]] + [[2]] * 6


def test_decoding_runs_in_a_thread_and_prefetches_a_few_frames() -> None:
    decoded, threads = 0, set()

    def video() -> Iterator[Frame]:
        nonlocal decoded
        for frame in flight(40):
            decoded += 1
            threads.add(threading.current_thread().name)
            yield frame

    ahead = []
    for k, _ in enumerate(track_video(Bright(), video(), fps=10, prefetch=3)):
        time.sleep(0.005)
        ahead.append(decoded - k - 1)
    assert threads == {"canton-decode"}
    assert max(ahead) in (3, 4)  # the queue, and the frame being decoded
    assert decoded == 40


def test_a_read_error_is_raised_after_the_frames_before_it() -> None:
    def video() -> Iterator[Frame]:
        yield from flight(7)
        raise OSError("the disk is gone")

    indices = []
    with pytest.raises(OSError, match="the disk is gone"):
        indices.extend(result.frame.index for result in track_video(Bright(), video(), fps=10))
    assert indices == list(range(7))
    assert not decoders()


def test_a_model_error_stops_the_reader() -> None:
    class Broken(Bright):
        def step(self, frame: torch.Tensor, state: object) -> tuple[torch.Tensor, object]:
            if self.steps == 3:
                raise RuntimeError("broken")
            return super().step(frame, state)

    with pytest.raises(RuntimeError, match="broken"):
        list(track_video(Broken(), flight(1000), fps=10))
    assert not decoders()


def test_closing_the_generator_stops_the_reader() -> None:
    results = track_video(Bright(), flight(10_000), fps=10)
    next(results)
    assert decoders()
    results.close()
    assert not decoders()
    track_video(Bright(), flight(5), fps=10).close()  # before the first iteration


def test_live_frames_do_not_lag() -> None:
    """The model takes 30 ms per frame, and the camera yields one every 5 ms."""

    class Slow(Bright):
        def step(self, frame: torch.Tensor, state: object) -> tuple[torch.Tensor, object]:
            time.sleep(0.03)
            return super().step(frame, state)

    latest = -1

    def camera() -> Iterator[Frame]:
        nonlocal latest
        for frame in flight(120, cuts=(0, 61)):
            time.sleep(0.005)
            latest = frame.index
            yield frame

    model = Slow()
    late = []
    indices = []
    for result in track_video(model, camera(), fps=200, live=True):
        late.append(latest - result.frame.index)
        indices.append(result.frame.index)
    assert 10 < len(indices) < 60
    assert indices == sorted(set(indices))
    assert np.median(late) <= 16  # twice the model's time; an unlimited queue would reach 100
    assert len(model.empty) == 2  # the cut is kept even if its frame was dropped


def test_a_peak_below_the_threshold_continues_a_track() -> None:
    def video() -> Iterator[Frame]:
        for k, bright in enumerate([255, 255, 100, 255]):
            yield Frame(k, k / 10, square_frame([(40, 32)], bright), k == 0)

    results = list(track_video(Bright(), video(), fps=10, threshold=0.6))
    assert [len(s.peaks) for s in results] == [1, 1, 0, 1]
    assert [[t.id for t in s.tracks] for s in results] == [[], [1], [1], [1]]


def test_no_frames_and_no_objects() -> None:
    assert list(track_video(Bright(), [], fps=10)) == []
    (result,) = track_video(Bright(), [Frame(0, 0.0, square_frame(), True)], fps=10)
    assert result.peaks == []
    assert result.tracks == []


def test_the_callers_code_runs_outside_inference_mode() -> None:
    for _ in track_video(Bright(), flight(2), fps=10):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


def test_memory_use_is_constant() -> None:
    """At most a few of 500 frames are in memory at once, and memory use does not grow."""
    alive: weakref.WeakSet[np.ndarray] = weakref.WeakSet()

    def video() -> Iterator[Frame]:
        for frame in flight(500):
            pixels = frame.pixels.view(TrackedArray)
            alive.add(pixels)
            yield frame._replace(pixels=pixels)

    most, early, late = 0, 0, 0
    tracemalloc.start()
    for k, _ in enumerate(track_video(Bright(), video(), fps=10, prefetch=4)):
        most = max(most, len(alive))
        if k == 100:
            early = tracemalloc.get_traced_memory()[0]
        if k == 499:
            late = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert most <= 9, most
    assert late - early < 50_000, (
        late - early
    )  # the heat maps of 400 frames would be 600 kB, their pixels 7 MB


class TrackedArray(np.ndarray):
    """An array with weak references and a hash by identity."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:  # type: ignore[override]
        return self is other


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0.001},
        {"threshold": 1.1},
        {"prefetch": 0},
        {"fps": 0.0},
    ],
)
def test_arguments_out_of_range_are_named(wrong: dict[str, float]) -> None:
    """The call raises, not the first iteration."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        track_video(Bright(), [], **{"fps": 10, **wrong})


def test_a_wide_video_is_downscaled_and_results_are_in_source_pixels() -> None:
    class Small(Bright):
        widths: ClassVar[set[int]] = set()

        def step(self, frame: Tensor, state: object, /) -> tuple[Tensor, object]:
            self.widths.add(frame.shape[-1])
            return super().step(frame, state)

    whole = list(track_video(Bright(), flight(6), fps=10))
    wide = [frame._replace(pixels=frame.pixels.repeat(2, 0).repeat(2, 1)) for frame in flight(6)]
    width = whole[0].frame.pixels.shape[1]
    results = list(track_video(Small(), wide, fps=10, width=width))
    assert Small.widths == {width}
    for a, b in zip(whole, results, strict=True):
        assert a.peaks
        for one, other in zip(a.peaks, b.peaks, strict=True):
            assert other.box == pytest.approx(one.box.scaled(2))

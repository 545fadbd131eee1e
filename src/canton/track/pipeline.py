"""Detection and tracking in a video, frame by frame.

A frame is decoded, processed, passed on and released, so that memory use is constant. A thread decodes a few
frames ahead of the network.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from canton.track.model import MAPS, TrackModel
from canton.track.peaks import Peak, decode_peaks
from canton.track.scene_motion import SceneMotion
from canton.track.tracker import Track, Tracker
from canton.track.video.preprocess import check_frame_size, downscale_factor, to_tensor

if TYPE_CHECKING:
    from canton.track.video.reader import Frame

LOW_THRESHOLD = 0.5
"""Share of the threshold that a peak must reach to continue a track."""


class StreamingModel(Protocol):
    """A model that `track_video` can run, such as `TrackModel`."""

    @property
    def stride(self) -> int: ...

    @property
    def offset(self) -> float: ...

    def step(self, frame: Tensor, state: Any, /) -> tuple[Tensor, Any]:
        """Map a frame (B, 3, H, W) in [0, 1] and a state (None: empty) to maps (B, 3, h, w) and a state."""
        ...


class FrameResult(NamedTuple):
    """The detections and tracks of one frame.

    Args:
        frame: the frame.
        heatmap: (h, w) scores in [0, 1], one per cell.
        max_score: largest score of the heat map.
        peaks: peaks whose score reaches the threshold, highest score first.
        tracks: tracks of this frame, by id. A track can continue on a peak below the threshold.
        latency_ms: processing time of the frame, without decoding and waiting.
        dropped_frames: frames dropped so far.
    """

    frame: Frame
    heatmap: NDArray[np.float32]
    max_score: float
    peaks: list[Peak]
    tracks: list[Track]
    latency_ms: float
    dropped_frames: int = 0


def track_video(
    model: StreamingModel,
    video: Iterable[Frame],
    *,
    fps: float,
    threshold: float = 0.5,
    width: int | None = None,
    prefetch: int = 4,
    live: bool = False,
) -> Generator[FrameResult, None, None]:
    """Yield the result of every frame of `video`, in order.

    The model's state and the tracks are carried from frame to frame and reset at every cut.

    Args:
        model: a model in eval mode, on any device.
        video: frames, from `open_video` or any iterable. Another thread iterates over it, so it must stay
            open until the generator ends.
        fps: frames per second, for the tracker.
        threshold: detection threshold, in [0.01, 1].
        width: resize wider frames to this width in px. None: never. Results are in px of the source frame.
        prefetch: frames to decode ahead.
        live: drop frames instead of lagging. The last frame is never dropped.

    Raises:
        ValueError: an argument is out of range.
        UserError: at the first frame, if frames are too small for a `TrackModel`.
        Exception: any error of `video`, after the frames before it.
    """
    after = Postprocessor(model, fps=fps, threshold=threshold, width=width)
    return _results(model, video, after, prefetched(video, 1 if live else prefetch, width, drop=live))


def _results(
    model: StreamingModel,
    video: Iterable[Frame],
    after: Postprocessor,
    frames: _Prefetcher,
) -> Generator[FrameResult, None, None]:
    device = (
        next((p.device for p in model.parameters()), None) if isinstance(model, torch.nn.Module) else None
    )
    state, size = None, None
    with frames as items:
        for frame, tensor, dropped_frames in items:
            start = time.perf_counter()
            if size != tensor.shape[2:]:
                size = tensor.shape[2:]
                if isinstance(model, TrackModel):
                    check_frame_size(model.architecture, *size)
            if frame.cut:
                state = None
            with torch.inference_mode():  # entered per frame: the caller's code runs between frames
                maps, state = model.step(tensor.to(device), state)
            yield after.result(frame, maps[0], start, dropped_frames)


class Postprocessor:
    """What follows the network, for the frames of one video: peaks, tracks, and their motion.

    Args:
        model: of the maps.
        fps: frames per second, for the tracker.
        threshold: detection threshold, in [0.01, 1].
        width: width in px that wider frames are resized to. None: none is.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, model: StreamingModel, *, fps: float, threshold: float, width: int | None) -> None:
        if not 0.01 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0.01, 1], got {threshold}")
        if width is not None and width < 1:
            raise ValueError(f"width must be >= 1, got {width}")
        self._model, self._threshold, self._width = model, threshold, width
        self._tracker, self._motion = Tracker(fps, threshold=threshold), SceneMotion()

    def result(self, frame: Frame, maps: Tensor, start: float, dropped_frames: int = 0) -> FrameResult:
        """Return the result of a frame.

        Args:
            frame: the frame. A cut ends all tracks.
            maps: (maps, h, w), the network's output.
            start: when its processing started, by `time.perf_counter`.
            dropped_frames: see `FrameResult`.
        """
        if frame.cut:
            self._tracker.reset()
            self._motion.reset()
        with torch.inference_mode():
            peaks = decode_peaks(
                maps[:MAPS],
                stride=self._model.stride,
                offset=self._model.offset,
                threshold=LOW_THRESHOLD * self._threshold,
            )
            heatmap = maps[0].float().sigmoid().cpu().numpy()
        scale = downscale_factor(frame.pixels.shape[1], self._width)
        if scale > 1:
            peaks = [Peak(peak.box.scaled(scale), peak.score) for peak in peaks]
        tracks = self._motion.update(frame.pixels, frame.seconds, self._tracker.update(peaks))
        return FrameResult(
            frame,
            heatmap,
            float(heatmap.max()),
            [peak for peak in peaks if peak.score >= self._threshold],
            tracks,
            (time.perf_counter() - start) * 1e3,
            dropped_frames,
        )


def prefetched(
    video: Iterable[Frame], prefetch: int, width: int | None, *, drop: bool = False
) -> _Prefetcher:
    """Return a context manager of an iterator over (frame, tensor, frames dropped so far).

    Raises:
        ValueError: prefetch is out of range.
    """
    if prefetch < 1:
        raise ValueError(f"prefetch must be >= 1, got {prefetch}")
    return _Prefetcher(video, prefetch, width, drop=drop)


_Item = tuple["Frame", Tensor, int]


class _Prefetcher:
    """An iterator over (frame, tensor, frames dropped so far), prepared by a thread.

    At most `capacity` items wait in the queue. With `drop`, a frame is dropped if the queue is full.
    """

    def __init__(self, video: Iterable[Frame], capacity: int, width: int | None, *, drop: bool) -> None:
        self._video, self._width = video, width
        self._drop = drop
        self._queue: queue.Queue[_Item | BaseException | None] = queue.Queue(capacity)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="canton-decode", daemon=True)

    def __enter__(self) -> Iterator[_Item]:
        self._thread.start()
        return self._items()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        interrupt = getattr(self._video, "interrupt", None)  # a `Video` may wait for a lost connection
        if interrupt is not None:
            interrupt()
        with suppress(queue.Empty):
            while True:  # empty the queue, so that a waiting thread can put its item and see the stop event
                self._queue.get_nowait()
        self._thread.join()

    def _items(self) -> Iterator[_Item]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _read(self) -> None:
        end: BaseException | None = None
        last_dropped: _Item | None = None
        dropped_frames = 0
        try:
            for frame in self._video:
                if last_dropped is not None and last_dropped[0].cut:
                    frame = frame._replace(cut=True)
                item = (frame, to_tensor(frame.pixels, self._width), dropped_frames)
                if self._put(item, wait=not self._drop):
                    last_dropped = None
                else:
                    last_dropped, dropped_frames = item, dropped_frames + 1
                if self._stop.is_set():
                    return
        except BaseException as error:  # raised again in the thread that iterates
            end = error
        if last_dropped is not None:  # no newer frame follows, so it does not lag
            self._put((*last_dropped[:2], dropped_frames - 1), wait=True)
        self._put(end, wait=True)

    def _put(self, item: _Item | BaseException | None, *, wait: bool) -> bool:
        """Put an item into the queue. Return False if the queue is full and `wait` is false."""
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._queue.put(item, block=wait, timeout=0.1)
                return True
            if not wait:
                return False
        return False

"""A video through a network, frame by frame: what it believes, where it points, which thing is which.

Memory does not grow: a frame is decoded, seen, handed over and forgotten. Decoding runs in a thread of its
own, a few frames ahead of the network.
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
from canton.track.peaks import Peak, peaks_of
from canton.track.tracker import Tracked, Tracker
from canton.track.video.preprocess import check_size, shrink, to_picture

if TYPE_CHECKING:
    from canton.track.video.reader import Frame

WEAK = 0.5
"""Of the threshold: a peak that reaches this much of it may carry a track on."""


class Steps(Protocol):
    """What watching asks of a network; `TrackModel` has it."""

    @property
    def stride(self) -> int: ...

    @property
    def offset(self) -> float: ...

    def step(self, frame: Tensor, state: Any, /) -> tuple[Tensor, Any]:
        """(B, 3, H, W) in [0, 1] and a state (None: empty) to (B, 3, h, w) maps and the next state."""
        ...


class Sighting(NamedTuple):
    """What was seen in one frame.

    frame: the frame itself. heat: (h, w) in [0, 1], the belief at every cell. belief: the highest of it.
    peaks: what reaches the threshold, the hottest first. tracks: what has a number, by number; one of them
    may be weaker than the threshold. latency_ms: from the decoded frame to here, network and tracking, not
    the wait in the queue. left_out: how many frames before it, in all, were left out.
    """

    frame: Frame
    heat: NDArray[np.float32]
    belief: float
    peaks: list[Peak]
    tracks: list[Tracked]
    latency_ms: float
    left_out: int = 0


def watch(
    model: Steps,
    video: Iterable[Frame],
    *,
    fps: float,
    threshold: float = 0.5,
    width: int | None = None,
    ahead: int = 4,
    live: bool = False,
) -> Generator[Sighting, None, None]:
    """See every frame of `video`, in order; with `live`, those there is time for. The state of the network
    goes from frame to frame and starts anew where the video is cut, and so do the tracks.

    model: in eval mode, on the processor or a device of its own. video: of `open_video`, or any frames; it
    is read in another thread and must stay open until this ends. fps: how many frames make a second, for
    the tracks. threshold: heat that is believed, in [0.01, 1]. width: what is wider is scaled to so many px
    for the network, None for never; places are in px of the frame all the same. ahead: frames decoded
    ahead. live: for a camera: where the network is too slow, frames are left out rather than shown late, but
    the last is always seen.

    Raises: ValueError for a number out of range; UserError, with the first frame, if frames are too small for
    a `TrackModel`; whatever reading `video` raises, after the frames before it.
    """
    if not 0.01 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}: it lies between 0.01 and 1")
    for name, number in (("ahead", ahead), ("width", 1 if width is None else width)):
        if number < 1:
            raise ValueError(f"{name} is {number}: it is a whole number of at least 1")
    tracker = Tracker(fps, threshold=threshold)
    return _watch(model, video, tracker, threshold, width, ahead, live)


def _watch(
    model: Steps,
    video: Iterable[Frame],
    tracker: Tracker,
    threshold: float,
    width: int | None,
    ahead: int,
    live: bool,
) -> Generator[Sighting, None, None]:
    device = (
        next((p.device for p in model.parameters()), None) if isinstance(model, torch.nn.Module) else None
    )
    state, size = None, None
    with _Ahead(video, 1 if live else ahead, width, drop=live) as frames:  # what waits is late
        for frame, picture, left_out in frames:
            begun = time.perf_counter()
            if size != picture.shape[2:]:
                size = picture.shape[2:]
                if isinstance(model, TrackModel):
                    check_size(model.architecture, *size)
            if frame.cut:
                state = None
                tracker.reset()
            with torch.inference_mode():  # opened anew for every frame: the caller's code runs in between
                maps, state = model.step(picture.to(device), state)
                found = peaks_of(
                    maps[0, :MAPS], stride=model.stride, offset=model.offset, threshold=WEAK * threshold
                )
                heat = maps[0, 0].float().sigmoid().cpu().numpy()
            scale = shrink(frame.pixels.shape[1], width)
            if scale > 1:
                found = [Peak(peak.box.scaled(scale), peak.score) for peak in found]
            tracks = tracker.update(found)
            yield Sighting(
                frame,
                heat,
                float(heat.max()),
                [peak for peak in found if peak.score >= threshold],
                tracks,
                (time.perf_counter() - begun) * 1e3,
                left_out,
            )


_Item = tuple["Frame", Tensor, int]


class _Ahead:
    """Iterates over frames, their pictures and how many frames were left out before them. A thread prepares
    them: at most `room` of them wait.
    """

    def __init__(self, video: Iterable[Frame], room: int, width: int | None, *, drop: bool) -> None:
        self._video, self._width = video, width
        self._drop = drop
        self._ready: queue.Queue[_Item | BaseException | None] = queue.Queue(room)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="canton-decode", daemon=True)

    def __enter__(self) -> Iterator[_Item]:
        self._thread.start()
        return self._frames()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with suppress(queue.Empty):
            while True:  # a reader that waits for room finds it, and then the sign to stop
                self._ready.get_nowait()
        self._thread.join()

    def _frames(self) -> Iterator[_Item]:
        while (item := self._ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _read(self) -> None:
        last: BaseException | None = None
        missed: _Item | None = None  # the newest of those left out
        left_out = 0
        try:
            for frame in self._video:
                if missed is not None and missed[0].cut:
                    frame = frame._replace(cut=True)
                item = (frame, to_picture(frame.pixels, self._width), left_out)
                if self._put(item, wait=not self._drop):
                    missed = None
                else:
                    missed, left_out = item, left_out + 1
                if self._stop.is_set():
                    return
        except BaseException as error:  # it belongs to whoever iterates
            last = error
        if missed is not None:  # nothing newer will come: it is not late
            self._put((*missed[:2], left_out - 1), wait=True)
        self._put(last, wait=True)

    def _put(self, item: _Item | BaseException | None, *, wait: bool) -> bool:
        """Whether there was room for it. Without `wait` a full queue keeps what it has."""
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._ready.put(item, block=wait, timeout=0.1)
                return True
            if not wait:
                return False
        return False

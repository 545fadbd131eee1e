"""Track objects in a video for the page: frames while it runs, then a video, JSON lines and a timeline."""

from __future__ import annotations

import base64
import math
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from canton.errors import require
from canton.track.model import TrackModel
from canton.track.pipeline import track_video
from canton.track.render.overlay import Image, OverlayRenderer, fit
from canton.track.serialize import json_line
from canton.track.synthetic import make_scene
from canton.track.video.preprocess import downscale_factor
from canton.track.video.reader import Frame
from canton.track.video.writer import VideoWriter
from canton.training.model_file import ModelFile
from canton.ui.timeline import Moment, timeline_html, to_moment
from canton.ui.uploads import MAX_FRAMES

SCENE_FPS = 10.0
SCENE_FRAMES = 80
SCENE_SIZE = (240, 320)
SHOW_SECONDS = 0.2
"""Between two updates."""


class WatchProgress(NamedTuple):
    """Progress of `watch_video`.

    image: data URL of the last annotated frame. timeline: HTML. frames: processed. tracks: found so far.
    milliseconds: median time per frame. video, json_lines: the output files, None until the end.
    """

    image: str
    timeline: str
    frames: int
    tracks: int
    milliseconds: float
    video: Path | None
    json_lines: Path | None


def default_threshold(model: ModelFile[TrackModel]) -> float:
    """Return the model's own detection threshold."""
    return float(model.header.get("threshold", 0.5))


def watch_video(
    model: ModelFile[TrackModel],
    frames: Iterable[Frame],
    folder: Path,
    stop: threading.Event,
    *,
    fps: float,
    seconds: float,
    threshold: float,
) -> Generator[WatchProgress, None, None]:
    """Track objects in `frames` until they end, there are `MAX_FRAMES`, or `stop` is set.

    Args:
        frames: at least one.
        folder: for the output files.
        seconds: expected duration.
        threshold: detection threshold.

    Raises: UserError if reading or writing fails.
    """
    network = model.model
    max_width = int(model.header.get("training", {}).get("width", 0)) or None
    moments: list[Moment] = []
    latencies: list[float] = []
    video, json_lines = folder / "tracks.mp4", folder / "tracks.jsonl"
    renderer, writer, size = None, None, (0, 0)
    image: Image | None = None
    shown_at = -math.inf

    def progress(*, done: bool) -> WatchProgress:
        median = sorted(latencies)[len(latencies) // 2] if latencies else 0.0
        return WatchProgress(
            "" if image is None else _data_url(image),
            timeline_html(moments, threshold=threshold, until=0.0 if done else seconds),
            len(moments),
            len({number for m in moments for number in m.ids}),
            median,
            video if done and moments else None,
            json_lines if done and moments else None,
        )

    results = track_video(network, islice(frames, MAX_FRAMES), fps=fps, threshold=threshold, width=max_width)
    with closing(results), json_lines.open("w", encoding="utf-8") as lines:
        try:
            for result in results:
                if renderer is None or result.frame.pixels.shape[:2] != size:
                    height, width = size = result.frame.pixels.shape[:2]
                    scale = downscale_factor(width, max_width)
                    renderer = OverlayRenderer(
                        width, height, stride=network.stride * scale, offset=network.offset * scale, fps=fps
                    )
                writer = writer or VideoWriter(video, renderer.width, renderer.height, fps)
                image = fit(renderer.draw(result), writer.width, writer.height)
                writer.write(image, result.frame.seconds)
                lines.write(json_line(result) + "\n")
                moments.append(to_moment(result))
                latencies.append(result.latency_ms)
                if stop.is_set():
                    break
                if time.monotonic() - shown_at >= SHOW_SECONDS:
                    shown_at = time.monotonic()
                    yield progress(done=False)
        finally:
            if writer is not None:
                writer.close()
    yield progress(done=True)


def synthetic_video(kind: str, seed: int) -> Iterator[Frame]:
    """Yield the frames of a synthetic scene with a drone: 8 seconds."""
    scene = make_scene(seed, frames=SCENE_FRAMES, size=SCENE_SIZE, kind=kind, present=True)
    for index, pixels in enumerate(scene.frames):
        yield Frame(index, index / SCENE_FPS, pixels, index == 0)


def _data_url(image: Image) -> str:
    cv2 = require("cv2", extra="track")
    _, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()

"""A video watched for a visitor: pictures on the way, then a film, its transcript and a timeline."""

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
from canton.track.render.overlay import Image, OverlayRenderer
from canton.track.serialize import json_line
from canton.track.synthetic import make_scene
from canton.track.video.preprocess import downscale_factor
from canton.track.video.reader import Frame
from canton.track.video.writer import VideoWriter
from canton.training.model_file import ModelFile
from canton.ui.timeline import Moment, draw, moment
from canton.ui.uploads import FRAMES

SCENE_FPS = 10.0
SCENE_FRAMES = 80
SCENE_SIZE = (240, 320)
SHOW_SECONDS = 0.2
"""Between two pictures on the way."""


class Shown(NamedTuple):
    """How far it is. picture: a data address of the last frame, drawn. timeline: HTML. frames: seen so far.
    tracks: numbers given so far. milliseconds: the median a frame took the network. film, transcript: their
    files, once all is seen.
    """

    picture: str
    timeline: str
    frames: int
    tracks: int
    milliseconds: float
    film: Path | None
    transcript: Path | None


def threshold_of(made: ModelFile[TrackModel]) -> float:
    """Heat that the model asks to be believed."""
    return float(made.header.get("threshold", 0.5))


def screen(
    made: ModelFile[TrackModel],
    frames: Iterable[Frame],
    folder: Path,
    stop: threading.Event,
    *,
    fps: float,
    seconds: float,
    threshold: float,
) -> Generator[Shown, None, None]:
    """Watch `frames` (one at least) until they end, there are `FRAMES` of them, or `stop` is set.

    folder: the film and the transcript are written there. seconds: how long it will be, as far as is known.
    threshold: heat that is believed.

    Raises: UserError where reading or writing fails.
    """
    network = made.model
    most = int(made.header.get("training", {}).get("width", 0)) or None
    moments: list[Moment] = []
    latencies: list[float] = []
    film, transcript = folder / "seen.mp4", folder / "seen.jsonl"
    renderer = writer = None
    picture: Image | None = None
    shown_at = -math.inf

    def shown(*, done: bool) -> Shown:
        middle = sorted(latencies)[len(latencies) // 2] if latencies else 0.0
        return Shown(
            "" if picture is None else _address(picture),
            draw(moments, threshold=threshold, until=0.0 if done else seconds),
            len(moments),
            len({number for m in moments for number in m.ids}),
            middle,
            film if done and moments else None,
            transcript if done and moments else None,
        )

    results = track_video(network, islice(frames, FRAMES), fps=fps, threshold=threshold, width=most)
    with closing(results), transcript.open("w", encoding="utf-8") as lines:
        try:
            for result in results:
                if renderer is None or writer is None:
                    height, width = result.frame.pixels.shape[:2]
                    scale = downscale_factor(width, most)
                    renderer = OverlayRenderer(
                        width, height, stride=network.stride * scale, offset=network.offset * scale, fps=fps
                    )
                    writer = VideoWriter(film, renderer.width, renderer.height, fps)
                picture = renderer.draw(result)
                writer.write(picture, result.frame.seconds)
                lines.write(json_line(result) + "\n")
                moments.append(moment(result))
                latencies.append(result.latency_ms)
                if stop.is_set():
                    break
                if time.monotonic() - shown_at >= SHOW_SECONDS:
                    shown_at = time.monotonic()
                    yield shown(done=False)
        finally:
            if writer is not None:
                writer.close()
    yield shown(done=True)


def scene(kind: str, seed: int) -> Iterator[Frame]:
    """A made scene as a video: eight seconds in which a drone flies."""
    made = make_scene(seed, frames=SCENE_FRAMES, size=SCENE_SIZE, kind=kind, present=True)
    for index, pixels in enumerate(made.frames):
        yield Frame(index, index / SCENE_FPS, pixels, index == 0)


def _address(picture: Image) -> str:
    cv2 = require("cv2", extra="track")
    _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()

"""The tab *Track*: a video that one drops, or a made scene, watched with heat, trails and numbers."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gradio as gr

from canton.errors import UserError
from canton.motion.model import MotionModel
from canton.motion.video import Frame, Video, open_video
from canton.ui.jobs import Jobs
from canton.ui.picker import picker
from canton.ui.screening import SCENE_FPS, SCENE_FRAMES, Shown, scene, screen
from canton.ui.seeds import seed_box, seed_of
from canton.ui.shelf import Shelf
from canton.ui.uploads import FRAMES, VIDEO_BYTES, check_film, check_frame, take
from canton.ui.visitors import told, visitor

USUAL_FPS = 30.0
"""Frames a second of a video that does not say."""
AT_ONCE = 4
"""Visitors served side by side; who comes next waits."""
SCENES = {
    "by heat": "thermal",
    "by daylight": "article",
    "camouflage: seen only while it moves": "camouflage",
}
EMPTY = '<span class="empty">What it sees appears here.</span>'


def track_tab(shelf: Shelf[MotionModel], jobs: Jobs, *, within: Path, kept: Path) -> None:
    """Build the tab where it stands on the page. within: the folder uploads arrive in; kept: where a job has
    a folder of its own while it runs.
    """
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            model = picker(
                shelf, within=within, train="canton track train --out track.safetensors", prefix="track"
            )
            film = gr.File(
                label=f"A video, up to {VIDEO_BYTES >> 20} MB; the first {FRAMES:,} frames are watched",
                file_types=["video", ".mkv", ".avi", ".mpg", ".ts"], height=130, elem_id="film",
            )  # fmt: skip
            with gr.Row():
                kind = gr.Dropdown(
                    list(SCENES), label="Or a made scene", elem_id="kind", scale=3, min_width=180
                )
                number = seed_box("Its number", elem_id="number")
            threshold = gr.Slider(
                0, 1, 0, step=0.01, label="Threshold", info="Heat that is believed; 0: as the model asks.",
                elem_id="threshold",
            )  # fmt: skip
            with gr.Row():
                see = gr.Button("Watch", variant="primary", elem_id="watch", min_width=100, scale=2)
                stop = gr.Button("Stop", variant="stop", elem_id="watch-stop", min_width=80, scale=1)
        with gr.Column(scale=3, min_width=300):
            live = gr.HTML(EMPTY, elem_id="live", elem_classes="screen", padding=False)
            seen = gr.Video(
                visible=False, autoplay=True, loop=True, elem_id="seen", show_label=False, buttons=[],
            )  # fmt: skip
            line = gr.HTML("", elem_id="timeline", padding=False)
            tally = gr.Markdown("", elem_id="track-tally", elem_classes="tally")
            with gr.Row(visible=False) as downloads:
                mp4 = gr.DownloadButton("Video, mp4", elem_id="get-mp4", size="sm", min_width=120)
                lines = gr.DownloadButton(
                    "What it saw, JSON lines", elem_id="get-json", size="sm", min_width=120
                )

    def begin(
        name: str | None,
        upload: str | None,
        sort: str,
        seed: str,
        believed: float,
        request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:
        with told(), tempfile.TemporaryDirectory(dir=kept) as folder:
            made = shelf.open(name, visitor(request))
            halted = jobs.start(f"watch {visitor(request)}")
            yield {
                live: gr.update(value='<span class="empty">Looking…</span>', visible=True),
                seen: gr.update(value=None, visible=False),
                line: "",
                tally: "",
                downloads: gr.update(visible=False),
            }
            with ExitStack() as after:
                chosen = seed_of(seed)
                what = "" if upload else f"scene {chosen} · "
                frames, fps, seconds, video = _open(upload, sort, chosen, Path(folder), within, after)
                for shown in screen(
                    made, frames, Path(folder), halted, fps=fps, seconds=seconds, threshold=believed or None
                ):
                    if shown.film is None:
                        yield {
                            live: f'<img alt="the frame being watched" src="{shown.picture}">',
                            line: shown.timeline,
                            tally: what + _figures(shown),
                        }
                problem = _problem(video, shown, halted)
            yield {
                live: gr.update(visible=False),
                seen: gr.update(value=str(shown.film), visible=True),
                line: shown.timeline,
                tally: what + _figures(shown) + problem,
                downloads: gr.update(visible=True),
                mp4: str(shown.film),
                lines: str(shown.transcript),
            }

    def end(request: gr.Request) -> None:
        jobs.stop(f"watch {visitor(request)}")

    see.click(
        begin,
        [model, film, kind, number, threshold],
        [live, seen, line, tally, downloads, mp4, lines],
        concurrency_limit=AT_ONCE,
        show_progress="hidden",
    )
    stop.click(end, queue=False)


def _open(
    upload: str | None, sort: str, seed: int, folder: Path, within: Path, after: ExitStack
) -> tuple[Iterator[Frame], float, float, Video | None]:
    """The frames to watch, how many a second, how many seconds at most, and the video if it is one.

    Raises: UserError for an upload that is no video, or too large a one, or an unknown sort of scene.
    """
    if upload is None:
        if sort not in SCENES:
            raise UserError(f"the scene is {sort!r}: it is one of {', '.join(SCENES)}")
        return scene(SCENES[sort], seed), SCENE_FPS, SCENE_FRAMES / SCENE_FPS, None
    own = take(upload, folder, within=within, most_bytes=VIDEO_BYTES)
    check_film(own)
    try:
        video = after.enter_context(open_video(own))
    except UserError as error:
        raise UserError(str(error).replace(str(own), "the file")) from error
    check_frame(video.width, video.height)
    fps = video.fps or USUAL_FPS
    return iter(video), fps, min(video.frames or 0, FRAMES) / fps, video


def _figures(shown: Shown) -> str:
    things = "1 thing" if shown.tracks == 1 else f"{shown.tracks} things"
    return f"{shown.frames:,} frames · {things} followed · {shown.milliseconds:.1f} ms a frame"


def _problem(video: Video | None, shown: Shown, stop: threading.Event) -> str:
    """Why it ended, where it did not end by itself."""
    if stop.is_set():
        return " · stopped"
    if shown.frames == FRAMES:
        return " · the first of it; `canton track watch` takes any length"
    if video is not None and video.problem:
        return " · it breaks off here"
    return ""

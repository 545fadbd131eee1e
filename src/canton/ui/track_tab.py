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
from canton.track.model import TrackModel
from canton.track.video.reader import Frame, Video, open_video
from canton.ui.components import Changed, Work
from canton.ui.jobs import Jobs
from canton.ui.model_store import Shelf
from canton.ui.picker import picker
from canton.ui.seeds import seed_box, seed_of
from canton.ui.timeline import BLANK
from canton.ui.uploads import FRAMES, VIDEO_BYTES, check_film, check_frame, take
from canton.ui.visitors import told, visitor
from canton.ui.watch_video import SCENE_FPS, SCENE_FRAMES, Shown, scene, screen, threshold_of

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
KEY = (
    '<ul><li><svg viewBox="0 0 22 14"><path d="M1 5V1H6M16 1H21V5M21 9V13H16M6 13H1V9" fill="none" '
    'stroke="#0d9488" stroke-width="2"/></svg><span>a thing that is followed, with its number and belief'
    '</span></li><li><svg viewBox="0 0 22 14"><path d="M1 12C8 12 12 4 21 3" fill="none" '
    'stroke="#0d9488" stroke-width="2"/></svg><span>the way it came</span></li>'
    '<li><svg viewBox="0 0 22 14"><circle cx="11" cy="7" r="6.5" fill="#fca50a"/>'
    '<circle cx="11" cy="7" r="3" fill="#fff3b0"/></svg>'
    "<span>heat: where the network sees something</span></li></ul>"
)
"""What is drawn over the film."""


def track_tab(shelf: Shelf[TrackModel], jobs: Jobs, *, within: Path, kept: Path) -> None:
    """Build the tab where it stands on the page. within: the folder uploads arrive in; kept: where a job has
    a folder of its own while it runs.
    """
    with gr.Row(elem_id="watching"):
        with gr.Column(elem_id="controls"):
            model = picker(
                shelf, within=within, train="canton track train --out track.safetensors", prefix="track"
            )
            film = gr.File(
                label="A video", file_types=["video", ".mkv", ".avi", ".mpg", ".ts"], show_label=False,
                height=92, elem_id="film",
            )  # fmt: skip
            gr.HTML(
                f"A video of up to {VIDEO_BYTES >> 20} MB; its first {FRAMES:,} frames are watched.",
                elem_classes="fine",
                padding=False,
            )
            with gr.Row(elem_classes="two"):
                kind = gr.Dropdown(
                    list(SCENES), label="Or a made scene", elem_id="kind", scale=3, min_width=170
                )
                number = seed_box("Its number", elem_id="number")
            threshold = gr.Slider(
                0.01, 1, 0.5, step=0.01, label="Threshold", info="Heat from which a thing is believed.",
                elem_id="threshold", buttons=[],
            )  # fmt: skip
            see = Work("watch", "Watch", jobs)
        with gr.Column(elem_id="screen"):
            with gr.Column(elem_id="stage"):
                live = gr.HTML(EMPTY, elem_id="live", padding=False)
                seen = gr.Video(
                    visible=False, autoplay=True, loop=True, elem_id="seen", show_label=False, buttons=[],
                )  # fmt: skip
            line = gr.HTML(BLANK, elem_id="timeline", padding=False)
        with gr.Column(elem_id="told"):
            tally = gr.Markdown(" ", elem_id="track-tally", elem_classes="fine")
            with gr.Row():
                mp4 = gr.DownloadButton(
                    "Video, mp4", elem_id="get-mp4", size="sm", min_width=120, interactive=False
                )
                lines = gr.DownloadButton(
                    "What it saw, JSON lines", elem_id="get-json", size="sm", min_width=120, interactive=False
                )
            gr.HTML(KEY, elem_id="key", padding=False)

    def ask(name: str | None, request: gr.Request) -> Any:
        with told():
            return threshold_of(shelf.open(name, visitor(request))) if name else gr.skip()

    model.change(ask, model, threshold, show_progress="hidden")

    def begin(
        name: str | None,
        upload: str | None,
        sort: str,
        seed: str,
        believed: float,
        request: gr.Request,
    ) -> Iterator[Changed]:
        with told(), tempfile.TemporaryDirectory(dir=kept) as folder, ExitStack() as after:
            made = shelf.open(name, visitor(request))
            chosen = seed_of(seed)
            what = "" if upload else f"scene {chosen} · "
            frames, fps, seconds, video = _open(upload, sort, chosen, Path(folder), within, after)
            what += _advice(name, SCENES[sort] != "thermal" if video is None else video.has_colour)
            halted = jobs.start(f"watch {visitor(request)}")
            yield {
                live: gr.update(value='<span class="empty">Looking…</span>', visible=True),
                seen: gr.update(value=None, visible=False),
                line: BLANK,
                tally: " ",
                mp4: gr.update(interactive=False),
                lines: gr.update(interactive=False),
            }
            try:
                for shown in screen(
                    made, frames, Path(folder), halted, fps=fps, seconds=seconds, threshold=believed
                ):
                    if shown.film is None:
                        yield {
                            live: f'<img alt="the frame being watched" src="{shown.picture}">',
                            line: shown.timeline,
                            tally: what + _figures(shown),
                        }
            except UserError:
                yield {live: EMPTY}
                raise
            problem = _problem(video, shown, halted)
            yield {
                live: gr.update(visible=False),
                seen: gr.update(value=str(shown.film), visible=True),
                line: shown.timeline,
                tally: what + _figures(shown) + problem,
                mp4: gr.update(value=str(shown.film), interactive=True),
                lines: gr.update(value=str(shown.transcript), interactive=True),
            }

    see.does(
        begin,
        [model, film, kind, number, threshold],
        [live, seen, line, tally, mp4, lines],
        at_once=AT_ONCE,
    )


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


def _advice(model: str | None, coloured: bool) -> str:
    """Which of the models that ship would fit better, if the other of them was chosen."""
    fitting, other = ("visible", "infrared") if coloured else ("infrared", "visible")
    return f"the {fitting} model fits this better · " if model == f"{other}, shipped" else ""


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

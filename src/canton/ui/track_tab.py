"""The tab "Track": track objects in an uploaded video or a synthetic scene."""

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
from canton.ui.components import JobButtons, Updates, model_picker, parse_seed, seed_field
from canton.ui.model_store import ModelStore
from canton.ui.session import Jobs, show_errors, visitor
from canton.ui.timeline import BLANK
from canton.ui.uploads import (
    MAX_FRAMES,
    MAX_VIDEO_BYTES,
    check_frame_size,
    check_video_type,
    save_upload,
)
from canton.ui.watch_video import (
    SCENE_FPS,
    SCENE_FRAMES,
    WatchProgress,
    default_threshold,
    synthetic_video,
    watch_video,
)

DEFAULT_FPS = 30.0
"""Frame rate of a video that states none."""
MAX_JOBS = 4
"""Jobs that run at once; further visitors wait."""
SCENES = {
    "thermal": "thermal",
    "daylight": "article",
    "camouflage: visible only in motion": "camouflage",
}
EMPTY = '<span class="empty">The annotated video appears here.</span>'
KEY = (
    '<ul><li><svg viewBox="0 0 22 14"><path d="M1 5V1H6M16 1H21V5M21 9V13H16M6 13H1V9" fill="none" '
    'stroke="#0d9488" stroke-width="2"/></svg><span>a track, with its number and score'
    '</span></li><li><svg viewBox="0 0 22 14"><path d="M1 12C8 12 12 4 21 3" fill="none" '
    'stroke="#0d9488" stroke-width="2"/></svg><span>the path of the track</span></li>'
    '<li><svg viewBox="0 0 22 14"><circle cx="11" cy="7" r="6.5" fill="#fca50a"/>'
    '<circle cx="11" cy="7" r="3" fill="#fff3b0"/></svg>'
    "<span>heat map: where the network detects an object</span></li></ul>"
)
"""Legend of the overlay."""


def track_tab(store: ModelStore[TrackModel], jobs: Jobs, *, uploads: Path, storage: Path) -> None:
    """Build the tab.

    uploads: folder that uploaded files arrive in. storage: folder for the files of running jobs.
    """
    with gr.Row(elem_id="track-layout"):
        with gr.Column(elem_id="controls"):
            model = model_picker(
                store, uploads=uploads, train="canton track train --out track.safetensors", prefix="track"
            )
            video_file = gr.File(
                label="Video", file_types=["video", ".mkv", ".avi", ".mpg", ".ts"], show_label=False,
                height=92, elem_id="video",
            )  # fmt: skip
            gr.HTML(
                f"A video of up to {MAX_VIDEO_BYTES >> 20} MB; the first {MAX_FRAMES:,} frames are used.",
                elem_classes="fine",
                padding=False,
            )
            with gr.Row(elem_classes="two"):
                kind = gr.Dropdown(
                    list(SCENES), label="Or a synthetic scene", elem_id="scene-kind", scale=3, min_width=170
                )
                number = seed_field("Scene seed", elem_id="scene-seed")
            threshold = gr.Slider(
                0.01, 1, 0.5, step=0.01, label="Threshold", info="Detection threshold on the heat map.",
                elem_id="threshold", buttons=[],
            )  # fmt: skip
            buttons = JobButtons("watch", "Track", jobs)
        with gr.Column(elem_id="screen"):
            with gr.Column(elem_id="stage"):
                live = gr.HTML(EMPTY, elem_id="live", padding=False)
                result = gr.Video(
                    visible=False, autoplay=True, loop=True, elem_id="result", show_label=False, buttons=[],
                )  # fmt: skip
            line = gr.HTML(BLANK, elem_id="timeline", padding=False)
        with gr.Column(elem_id="track-info"):
            stats = gr.Markdown(" ", elem_id="track-stats", elem_classes="fine")
            with gr.Row():
                mp4 = gr.DownloadButton(
                    "Video, mp4", elem_id="get-mp4", size="sm", min_width=120, interactive=False
                )
                lines = gr.DownloadButton(
                    "Tracks, JSON lines", elem_id="get-json", size="sm", min_width=120, interactive=False
                )
            gr.HTML(KEY, elem_id="key", padding=False)

    def set_threshold(name: str | None, request: gr.Request) -> Any:
        with show_errors():
            return default_threshold(store.open(name, visitor(request))) if name else gr.skip()

    model.change(set_threshold, model, threshold, show_progress="hidden")

    def watch_job(
        name: str | None,
        upload: str | None,
        sort: str,
        seed: str,
        chosen_threshold: float,
        request: gr.Request,
    ) -> Iterator[Updates]:
        with show_errors(), tempfile.TemporaryDirectory(dir=storage) as folder, ExitStack() as stack:
            loaded = store.open(name, visitor(request))
            chosen = parse_seed(seed)
            prefix = "" if upload else f"scene {chosen} · "
            frames, fps, seconds, video = _open(upload, sort, chosen, Path(folder), uploads, stack)
            prefix += _advice(name, SCENES[sort] != "thermal" if video is None else video.has_colour)
            stop = jobs.start(f"watch {visitor(request)}")
            yield {
                live: gr.update(value='<span class="empty">Starting…</span>', visible=True),
                result: gr.update(value=None, visible=False),
                line: BLANK,
                stats: " ",
                mp4: gr.update(interactive=False),
                lines: gr.update(interactive=False),
            }
            try:
                for shown in watch_video(
                    loaded, frames, Path(folder), stop, fps=fps, seconds=seconds, threshold=chosen_threshold
                ):
                    if shown.video is None:
                        yield {
                            live: f'<img alt="the current frame" src="{shown.image}">',
                            line: shown.timeline,
                            stats: prefix + _stats(shown),
                        }
            except UserError:
                yield {live: EMPTY}
                raise
            problem = _problem(video, shown, stop)
            yield {
                live: gr.update(visible=False),
                result: gr.update(value=str(shown.video), visible=True),
                line: shown.timeline,
                stats: prefix + _stats(shown) + problem,
                mp4: gr.update(value=str(shown.video), interactive=True),
                lines: gr.update(value=str(shown.json_lines), interactive=True),
            }

    buttons.on_start(
        watch_job,
        [model, video_file, kind, number, threshold],
        [live, result, line, stats, mp4, lines],
        limit=MAX_JOBS,
    )


def _open(
    upload: str | None, sort: str, seed: int, folder: Path, uploads: Path, stack: ExitStack
) -> tuple[Iterator[Frame], float, float, Video | None]:
    """Return the frames, frames per second, duration in seconds, and the video unless it is a scene.

    Raises: UserError if the upload is not a video or too large, or the scene is unknown.
    """
    if upload is None:
        if sort not in SCENES:
            raise UserError(f"scene must be one of {', '.join(SCENES)}, got {sort!r}")
        return synthetic_video(SCENES[sort], seed), SCENE_FPS, SCENE_FRAMES / SCENE_FPS, None
    copy = save_upload(upload, folder, uploads=uploads, max_bytes=MAX_VIDEO_BYTES)
    check_video_type(copy)
    try:
        video = stack.enter_context(open_video(copy))
    except UserError as error:
        raise UserError(str(error).replace(str(copy), "the file")) from error
    check_frame_size(video.width, video.height)
    fps = video.fps or DEFAULT_FPS
    return iter(video), fps, min(video.frames or 0, MAX_FRAMES) / fps, video


def _advice(model: str | None, coloured: bool) -> str:
    """Return a hint if the other pretrained model suits the video better."""
    fitting, other = ("visible", "infrared") if coloured else ("infrared", "visible")
    return f"the {fitting} model suits this video better · " if model == f"{other} (pretrained)" else ""


def _stats(shown: WatchProgress) -> str:
    tracks = "1 track" if shown.tracks == 1 else f"{shown.tracks} tracks"
    return f"{shown.frames:,} frames · {tracks} · {shown.milliseconds:.1f} ms per frame"


def _problem(video: Video | None, shown: WatchProgress, stop: threading.Event) -> str:
    """Return why the video ended early, if it did."""
    if stop.is_set():
        return " · stopped"
    if shown.frames == MAX_FRAMES:
        return " · the first frames only; `canton track watch` has no limit"
    if video is not None and video.problem:
        return " · the video is damaged from here on"
    return ""

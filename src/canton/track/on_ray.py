"""Watching of many films on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from canton.errors import UserError, require
from canton.track.checkpoint import load_model
from canton.track.pipeline import track_video
from canton.track.tracker import Track
from canton.track.video.reader import Frame, open_video
from canton.track.video.source import DEFAULT_FPS

NO_TRACK = -1
"""Frame and id of the only row of a film without tracks."""


def watch_films(
    paths: Sequence[str | Path],
    model: str | Path,
    out: str | Path,
    *,
    workers: int = 2,
    gpus_per_worker: float = 0.0,
    threshold: float | None = None,
    width: int | None = None,
) -> None:
    """Watch films with Ray Data and write their tracks as Parquet.

    `ray.init` chooses the cluster. Each worker is an actor that loads the model once and takes one film at a
    time. Ray starts a film again if its worker dies. `paths`, `model` and `out` must be visible on every
    machine of the cluster.

    The columns are film, frame (from 0), seconds, id, x, y, width, height (px), score, frames (number of
    frames of the film) and error ("" if there is none), one row per track and frame. A film without tracks
    has one row, with frame and id -1; so every film has a row.

    Args:
        paths: the films; see `canton.track.video.reader.open_video`.
        model: model file.
        out: folder of the Parquet files; it must be empty or missing.
        workers: number of actors.
        gpus_per_worker: GPUs of each actor, such as 1 or 0.25. 0: the actors use the CPU.
        threshold: detection threshold, in [0.01, 1]. None: the model's own.
        width: resize wider frames to this width in px; 0: never. None: training width.

    Raises:
        UserError: an argument is invalid, or the model cannot be loaded.
    """
    require("ray", extra="ray")
    from ray.data import ActorPoolStrategy, from_items

    if not paths:
        raise UserError("paths must name at least one film, got none")
    if workers < 1:
        raise UserError(f"workers must be >= 1, got {workers}")
    if threshold is not None and not 0.01 <= threshold <= 1:
        raise UserError(f"threshold must be in [0.01, 1], got {threshold}")
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"out must be an empty or a new folder, got {out}")
    load_model(Path(model))  # its error is clearer here than from an actor
    films = from_items([{"film": str(path)} for path in paths], override_num_blocks=len(paths))
    rows = films.flat_map(
        _Watcher,
        fn_constructor_args=(str(model), "cuda" if gpus_per_worker else "cpu", threshold, width),
        compute=ActorPoolStrategy(size=min(workers, len(paths))),
        num_gpus=gpus_per_worker or None,
        num_cpus=None if gpus_per_worker else 1,
    )
    rows.write_parquet(str(out))


class _Watcher:
    """An actor: a loaded model and how films are watched."""

    def __init__(self, model: str, device: str, threshold: float | None, width: int | None) -> None:
        loaded = load_model(Path(model))
        header = loaded.header
        self._network = loaded.model.to(device)
        self._threshold = threshold or float(header.get("threshold", 0.5))
        self._width = int(header.get("training", {}).get("width", 0)) if width is None else width

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of a film. An error is in every row of its film."""
        film, tracks, frames, error = row["film"], list[dict[str, Any]](), 0, ""
        try:
            with open_video(film) as video:
                results = track_video(
                    self._network,
                    video,
                    fps=video.fps or DEFAULT_FPS,
                    threshold=self._threshold,
                    width=self._width or None,
                )
                for result in results:
                    frames += 1
                    tracks += [_row(film, result.frame, track) for track in result.tracks]
                error = video.problem or ""
        except Exception as problem:  # of one film: the others go on
            error = f"{type(problem).__name__}: {problem}"
        tracks = tracks or [_row(film, None, None)]
        return [{**track, "frames": frames, "error": error} for track in tracks]


def _row(film: str, frame: Frame | None, track: Track | None) -> dict[str, Any]:
    """Return the row of a track, or that of a film without one."""
    nan = float("nan")
    x, y, width, height = track.box if track is not None else (nan, nan, nan, nan)
    return {
        "film": film,
        "frame": NO_TRACK if frame is None else frame.index,
        "seconds": nan if frame is None else float(frame.seconds),
        "id": NO_TRACK if track is None else track.id,
        "x": float(x),
        "y": float(y),
        "width": float(width),
        "height": float(height),
        "score": nan if track is None else float(track.score),
    }

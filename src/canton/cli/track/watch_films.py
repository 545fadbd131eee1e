"""Watching of many films, in several processes and on several machines."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import typer

from canton.cli.jobs import run_jobs
from canton.cli.shard import choose_shard
from canton.cli.track.watch_film import FilmWatcher, Outputs, Watched, WatchOptions
from canton.errors import UserError
from canton.io.atomic import atomic_write, check_writable, os_error_reason

RESULTS = ("csv", "json", "video")
SUFFIXES = {"csv": ".csv", "json": ".jsonl", "video": ".mp4"}


@dataclass(frozen=True)
class Batch:
    """How many films are watched.

    Args:
        folder: of the results.
        kinds: of results, from `RESULTS`.
        workers: processes; 1: this process alone.
        shard: "i/n"; None: as the environment says.
        skip_done: leave out films whose results exist.
        quiet: print no progress.

    Raises:
        UserError: workers is out of range.
    """

    folder: Path
    kinds: tuple[str, ...] = RESULTS[:1]
    workers: int = 1
    shard: str | None = None
    skip_done: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"--workers must be >= 1, got {self.workers}")


class FilmJob(NamedTuple):
    """One film and its results by kind. The results are written under hidden names and renamed at the end."""

    source: str
    name: str
    results: dict[str, Path]

    @property
    def unfinished(self) -> dict[str, Path]:
        """Path of each result until the film is done."""
        return {
            k: path.with_name(f".{self.name}.unfinished{path.suffix}") for k, path in self.results.items()
        }

    @property
    def done(self) -> bool:
        """Whether every result exists."""
        return all(path.exists() for path in self.results.values())

    def error_file(self) -> Path:
        """Return the path of the file that says why the film failed."""
        folder = next(iter(self.results.values())).parent
        return folder / f"{self.name}.error"

    def discard(self) -> None:
        """Remove what an earlier attempt left."""
        for path in self.unfinished.values():
            path.unlink(missing_ok=True)


def expand_films(words: Sequence[str], list_file: Path | None = None) -> list[str]:
    """Return the films that arguments and a list name; a folder of videos gives each video.

    Raises:
        UserError: there are none, or the list cannot be read.
    """
    from canton.track.video.ffmpeg import VIDEO_SUFFIXES
    from canton.track.video.pictures import image_files, natural_order

    named = [*words, *(_read_list(list_file) if list_file is not None else [])]
    films: list[str] = []
    for word in named:
        folder = Path(word)
        videos: list[Path] = []
        if word and folder.is_dir() and not image_files(folder):
            found = (p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
            videos = sorted((p for p in found if not p.name.startswith(".")), key=natural_order)
        films += [str(path) for path in videos] or [word]
    if not films:
        raise UserError("got no films: give a video, a folder, a camera, a URL or --list FILE")
    return films


def _read_list(path: Path) -> list[str]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read --list {path}: {os_error_reason(error)}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--list {path} must be UTF-8 text: {error.reason}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def film_names(films: Sequence[str]) -> list[str]:
    """Return a different name for the results of each film, the same on every machine.

    It is the file's stem, or the last two, three and so on parts of its path where films share the stem.
    """
    parts = [
        [part for part in film.replace("\\", "/").split("/") if part not in ("", ".", "..")] for film in films
    ]
    names = [_clean(Path(part[-1]).stem if part else "film") for part in parts]
    for depth in range(1, 1 + max(map(len, parts), default=0)):
        counts = Counter(names)
        names = [
            name if counts[name] == 1 else _clean("_".join(part[-depth:]))
            for name, part in zip(names, parts, strict=True)
        ]
    counts = Counter(names)
    repeated = Counter[str]()
    for k, name in enumerate(names):
        if counts[name] > 1:
            repeated[name] += 1
            names[k] = f"{name}_{repeated[name]}"
    return names


def _clean(name: str) -> str:
    kept = "".join(c if c.isalnum() or c in "-_. " else "_" for c in name)
    return kept.lstrip(".")[-100:] or "film"


def watch_films(options: WatchOptions, films: Sequence[str], batch: Batch) -> int:
    """Watch every film of this shard, and return the exit status: 1 if a film failed.

    Raises:
        UserError: the folder cannot be written, or the model cannot be loaded.
    """
    try:
        batch.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write --out-dir {batch.folder}: {os_error_reason(error)}") from error
    check_writable(batch.folder / "results")
    jobs = [
        FilmJob(film, name, {kind: batch.folder / f"{name}{SUFFIXES[kind]}" for kind in batch.kinds})
        for film, name in zip(films, film_names(films), strict=True)
    ]
    inputs = {Path(film).resolve() for film in films}
    for job in jobs:
        if any(path.resolve() in inputs for path in job.results.values()):
            raise UserError(f"--out-dir must not hold the films, got {batch.folder}")
    jobs = choose_shard(batch.shard).take(jobs)
    waiting = [job for job in jobs if not (batch.skip_done and job.done)]
    failed = watched = 0
    setup = partial(_setup, options)
    try:
        with closing(run_jobs(setup, waiting, workers=0 if batch.workers == 1 else batch.workers)) as ended:
            for finished in ended:
                watched += 1
                line, problem = finished.error, finished.error
                if finished.result is not None:
                    line, problem, stopped = finished.result
                    if stopped:
                        return 130
                failed += problem is not None
                _record(finished.job, problem)
                if not batch.quiet or problem:
                    kind = "failed: " if problem else ""
                    shown = problem or line
                    typer.echo(f"[{watched}/{len(waiting)}] {finished.job.name}: {kind}{shown}", err=True)
    finally:
        for job in waiting:
            job.discard()
    skipped = len(jobs) - len(waiting)
    typer.echo(
        f"{watched - failed} films done, {failed} failed, {skipped} skipped; results in {batch.folder}"
    )
    return 1 if failed else 0


def _record(job: FilmJob, problem: str | None) -> None:
    """Write NAME.error, or remove that of an earlier attempt."""
    if problem is None:
        job.error_file().unlink(missing_ok=True)
        return
    job.discard()
    with atomic_write(job.error_file()) as file:
        file.write(f"{job.source}: {problem}\n".encode(errors="surrogateescape"))


def _setup(options: WatchOptions) -> Callable[[FilmJob], Watched]:
    """Load the model, and return the function that watches a film."""
    return partial(_watch_one, FilmWatcher(options))


def _watch_one(watcher: FilmWatcher, job: FilmJob) -> Watched:
    """Watch a film. A film that ends early keeps the results of the frames before."""
    job.discard()
    paths = job.unfinished
    watched = watcher.watch(
        job.source, Outputs(paths.get("video"), paths.get("json"), paths.get("csv")), quiet=True
    )
    if watched.stopped:
        job.discard()
        return watched
    for kind, path in paths.items():
        path.replace(job.results[kind])
    return watched

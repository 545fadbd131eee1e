"""The command `canton track watch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from canton.cli.models import model_and_films
from canton.errors import UserError

FLAGS_WITH_OUT_DIR = {"--json": "--each-json", "--csv": "--each-csv"}
"""Options that name a file for one film, and are flags with --out-dir."""


class WatchCommand(TyperCommand):
    """A command whose --json and --csv take a file, or nothing if there is --out-dir."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments."""
        end = args.index("--") if "--" in args else len(args)
        options = args[:end]
        if any(word.split("=")[0] == "--out-dir" for word in options):
            args = [FLAGS_WITH_OUT_DIR.get(word, word) for word in options] + args[end:]
        return super().parse_args(ctx, args)


def watch(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] FILM...",
            help="Video file, folder of images or of videos, pattern (img%05d.png), camera number or device, "
            "URL such as rtsp://, or -, standard input. A model file or a pretrained model (visible, "
            "infrared) may come first. Several films need --out-dir.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model file, or pretrained model (visible, infrared). Default: infrared if the first frame "
            "is gray, else visible."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write an annotated video (mp4).")] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            help="Write one line of JSON per frame; -: standard output. With --out-dir a flag: "
            "write NAME.jsonl."
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            help="Write the tracks as MOT challenge rows; -: standard output. With --out-dir a flag: write "
            "NAME.csv, which is the default."
        ),
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option(help="Write the results of every film into this folder, as NAME.csv.")
    ] = None,
    video: Annotated[bool, typer.Option("--video", help="With --out-dir: write annotated NAME.mp4.")] = False,
    each_json: Annotated[bool, typer.Option("--each-json", hidden=True)] = False,
    each_csv: Annotated[bool, typer.Option("--each-csv", hidden=True)] = False,
    list_file: Annotated[
        Path | None, typer.Option("--list", help="Text file with one film per line; -: standard input.")
    ] = None,
    workers: Annotated[
        int, typer.Option(help="With --out-dir: processes, each with its own model and one film at a time.")
    ] = 1,
    shard: Annotated[
        str | None,
        typer.Option(
            help="With --out-dir: watch part i of n of the films, such as 2/8 (default: from SLURM, RANK and "
            "WORLD_SIZE, or JOB_COMPLETION_INDEX and JOB_COMPLETIONS; else all)."
        ),
    ] = None,
    skip_done: Annotated[
        bool, typer.Option("--skip-done", help="With --out-dir: leave out films whose results exist.")
    ] = False,
    live: Annotated[bool, typer.Option("--live", help="Show scores and tracks in the terminal.")] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Detection threshold, 0.01-1 (default: the model's own).")
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames per second to process (default: all). For pictures: their frame rate (default: 30)."
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            help="Resize wider frames to this width in px before inference (default: training width; "
            "0: never)."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Device of the network, such as cpu or cuda.")] = "cpu",
    deinterlace: Annotated[
        bool | None,
        typer.Option(
            "--deinterlace/--no-deinterlace", help="Deinterlace (default: frames flagged as interlaced)."
        ),
    ] = None,
    reconnect: Annotated[
        int,
        typer.Option(
            help="Attempts in a row to connect again when a camera or stream is lost, after 1 s, 2 s, 4 s "
            "and so on, at most 30 s; 0: end."
        ),
    ] = 10,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> int:
    """Detect and track small moving objects in films. Ctrl-C stops it and keeps the output."""
    from canton.cli.outputs import check_outputs
    from canton.cli.track.watch_film import FilmWatcher, Outputs, WatchOptions
    from canton.cli.track.watch_films import RESULTS, Batch, expand_films, watch_films

    chosen, films = model_and_films(what or [], model)
    options = WatchOptions(chosen, threshold, fps, width, device, deinterlace, reconnect)
    if out_dir is not None:
        if out or json or csv or live:
            raise UserError("--out-dir names the outputs: use --csv, --json and --video without a file")
        kinds = [kind for kind, asked in zip(RESULTS, (each_csv, each_json, video), strict=True) if asked]
        batch = Batch(out_dir, tuple(kinds or RESULTS[:1]), workers, shard, skip_done, quiet)
        return watch_films(options, expand_films(films, list_file), batch)
    for option, value in (("--video", video), ("--shard", shard), ("--skip-done", skip_done)):
        if value:
            raise UserError(f"{option} needs --out-dir")
    if workers != 1:
        raise UserError("--workers needs --out-dir")
    films = expand_films(films, list_file)
    if len(films) > 1:
        count = f"{len(films)} films, the first {films[0]}"
        raise UserError(f"got {count}: several films need --out-dir DIR, and a model comes first")
    check_outputs({"out": out, "json": json, "csv": csv}, inputs=[*films, *([str(chosen)] if chosen else [])])
    watched = FilmWatcher(options).watch(films[0], Outputs(out, json, csv), live=live, quiet=quiet)
    typer.echo(watched.summary, err="-" in (str(json), str(csv)))
    if watched.stopped:
        return 130
    if watched.problem:
        raise UserError(f"{watched.problem}; the frames before it were processed")
    return 0

"""Time Canton beside its peers on this machine, in one interleaved run: ``make bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .runner import CONTESTANTS, Timing, check, compare, report
from .workloads import WORKLOADS


def bench(
    workloads: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(WORKLOADS)}; all if none.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads for everyone.")] = 1,
    repetitions: Annotated[int, typer.Option(min=1, help="Timed repetitions of each.")] = 7,
    contestant: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(CONTESTANTS)}.")] = None,
    python: Annotated[
        str, typer.Option(help="Interpreter that has Keras and Flax, if this one has not.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Write all figures here, as JSON.")] = None,
) -> None:
    """Time Canton beside its peers: medians, ratios, and the share of this machine's peak."""
    from .floor import measure

    names = workloads or list(WORKLOADS)
    chosen = tuple(contestant or CONTESTANTS)
    try:
        check(names, chosen)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    peak = measure(threads)
    typer.echo(
        f"{threads} thread(s): product {peak['gflop_per_s']:.0f} GF/s, copy {peak['gb_per_s']:.0f} GB/s, "
        f"cache {peak['cached_gb_per_s']:.0f} GB/s"
    )
    timings: list[Timing] = []
    for name in names:
        found = list(
            compare(name, threads=threads, repetitions=repetitions, contestants=chosen, python=python)
        )
        timings += found
        _show(name, found, WORKLOADS[name].floor_s(peak))
    if out is not None:
        out.write_text(json.dumps(report(timings, peak), indent=1) + "\n")


def _show(name: str, timings: list[Timing], floor_s: float) -> None:
    work = WORKLOADS[name]
    typer.echo(f"\n{name}  {work.what}")
    ours = next((t for t in timings if t.contestant == "canton" and t.seconds), None)
    for timing in timings:
        if not timing.seconds:
            typer.echo(f"  {timing.contestant:11} -          {timing.refused}")
            continue
        line = f"  {timing.contestant:11} {timing.median_s * 1e3:9.2f} ms"
        if timing is ours:
            line += f"   {floor_s / timing.median_s:.0%} of the floor's speed"
        elif ours is not None and timing is not ours:
            line += f"   canton is {timing.median_s / ours.median_s:.2f} x as fast"
        typer.echo(line)


if __name__ == "__main__":
    typer.run(bench)

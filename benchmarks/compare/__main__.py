"""Command line of the comparison: ``make bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .runner import IMPLEMENTATIONS, Timing, check, compare, report
from .workloads import WORKLOADS


def bench(
    workloads: Annotated[
        list[str] | None, typer.Argument(help=f"Any of {', '.join(WORKLOADS)} (default: all).")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of every implementation.")] = 1,
    repetitions: Annotated[int, typer.Option(min=1, help="Timed repetitions of each.")] = 7,
    implementation: Annotated[
        list[str] | None, typer.Option(help=f"Any of {', '.join(IMPLEMENTATIONS)} (default: all).")
    ] = None,
    python: Annotated[
        str, typer.Option(help="Interpreter with Keras and Flax (default: the current one).")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="JSON file for all results.")] = None,
) -> None:
    """Time Canton and other implementations: medians, speedups, and the share of the roofline."""
    from .roofline import measure_peak

    names = workloads or list(WORKLOADS)
    chosen = tuple(implementation or IMPLEMENTATIONS)
    try:
        check(names, chosen)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    peak = measure_peak(threads)
    typer.echo(
        f"{threads} thread(s): matrix product {peak['gflop_per_s']:.0f} GFLOP/s, "
        f"copy {peak['gb_per_s']:.0f} GB/s, cache {peak['cached_gb_per_s']:.0f} GB/s"
    )
    timings: list[Timing] = []
    for name in names:
        found = list(
            compare(name, threads=threads, repetitions=repetitions, implementations=chosen, python=python)
        )
        timings += found
        _print(name, found, WORKLOADS[name].roofline_s(peak))
    if out is not None:
        out.write_text(json.dumps(report(timings, peak), indent=1) + "\n")


def _print(name: str, timings: list[Timing], roofline_s: float) -> None:
    typer.echo(f"\n{name}  {WORKLOADS[name].description}")
    ours = next((t for t in timings if t.implementation == "canton" and t.seconds), None)
    for timing in timings:
        if not timing.seconds:
            typer.echo(f"  {timing.implementation:11} -          {timing.skip_reason}")
            continue
        line = f"  {timing.implementation:11} {timing.median_s * 1e3:9.2f} ms"
        if timing is ours:
            line += f"   {roofline_s / timing.median_s:.0%} of the roofline"
        elif ours is not None:
            line += f"   canton is {timing.median_s / ours.median_s:.2f} times as fast"
        typer.echo(line)


if __name__ == "__main__":
    typer.run(bench)

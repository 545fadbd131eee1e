"""The motion model that ships, taught again: two runs, the second from what the first left.

    python benchmarks/track_shipped.py FOOTAGE OUT [--no-memory] [--accelerator cuda]
        [--workers N] [--share X]

The runs are counted in steps, those that the shipped model took in 205 seconds on an NVIDIA H200 and then in
22 minutes on one thread of a processor; by its frames the first would take a processor about 70 minutes. A
command that was stopped goes on where it was; what the first run leaves lies beside OUT. --share X does a
share of the steps, to try it out. --no-memory does the same steps, which are a little cheaper.
`track_rows.py` measures what comes out. With --accelerator cuda both runs are in float32; the shipped model's
second was in bfloat16, on a processor.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from track_runs import say

from canton.motion import Architecture, load_model, train


class Run(NamedTuple):
    """Settings of `train`; what is None is the recipe's."""

    steps: int
    batch: int | None = None
    length: int | None = None
    pieces: int | None = None
    singles: int | None = None
    rate: float | None = None


RUNS = (
    Run(7582, batch=16, length=16, pieces=1, singles=1000),
    Run(8497, rate=0.002),
)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("footage", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare windows")
    parser.add_argument("--share", type=float, default=1.0)
    a = parser.parse_args(argv)
    torch.set_num_threads(1)
    last: Path | None = None
    for k, run in enumerate(RUNS, 1):
        out = a.out if k == len(RUNS) else a.out.with_suffix(f".{k}{a.out.suffix}")
        begun = out.exists()
        if not begun or load_model(out).checkpoint is not None:
            print(f"run {k} of {len(RUNS)}: {out}", flush=True)
            trained = train(
                out,
                footage=a.footage,
                architecture=None if last else replace(Architecture(), recurrent=not a.no_memory),
                start=last,
                steps=max(1, round(run.steps * a.share)),
                batch=run.batch,
                length=run.length,
                pieces=run.pieces,
                singles=None if run.singles is None else round(run.singles * a.share),
                rate=run.rate,
                workers=a.workers,
                accelerator=a.accelerator,
                precision="bf16-mixed" if a.accelerator == "cpu" else "32-true",
                resume=begun,
                show=say,
                show_seconds=20.0,
            )
            if trained is None or not trained.finished:
                raise SystemExit("stopped: the same command goes on with it")
        last = out


if __name__ == "__main__":
    main()

"""The default network from scratch, on all train clips of both lights, with its memory or without.

    python benchmarks/track_scratch.py FOOTAGE OUT [--no-memory] [--accelerator cuda] [--workers N]
        [--share X]

An hour and a half on one thread of a processor, counted in steps, in bfloat16 there, else in float32. A
command that was stopped goes on where it was. --share X does a share of the steps, to try it out. --no-memory
does the same steps with the memories emptied at every frame. `track_rows.py` measures what comes out; what
came out once lies in results/, and its figures in results/track_scratch.json.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from track_runs import say

from canton.motion import Architecture, train

STEPS, BATCH, SINGLES = 11_500, 16, 700


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
    trained = train(
        a.out,
        footage=a.footage,
        architecture=replace(Architecture(), recurrent=not a.no_memory),
        steps=max(1, round(STEPS * a.share)),
        batch=BATCH,
        singles=round(SINGLES * a.share),
        workers=a.workers,
        accelerator=a.accelerator,
        precision="bf16-mixed" if a.accelerator == "cpu" else "32-true",
        resume=a.out.exists(),
        show=say,
        show_seconds=20.0,
    )
    if trained is None or not trained.finished:
        raise SystemExit("stopped: the same command goes on with it")


if __name__ == "__main__":
    main()

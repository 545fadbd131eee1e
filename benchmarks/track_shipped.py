"""One of the two motion models that ship, taught again: runs that learn on from each other, and the mean of
the weights of the last ones. `both` is the default network, early memory and all, from scratch for both
lights; it does not ship, its weights and figures lie in results/track_scratch*.

    python benchmarks/track_shipped.py {infrared,visible,both} FOOTAGE OUT [--no-memory] [--accelerator cuda]
        [--workers N] [--share X]

The runs are counted in steps, those that the shipped models took. infrared: 225 and then 150 seconds on an
NVIDIA H200, 14 minutes on one thread of a processor, and the mean of the last two. visible: 205 seconds on an
NVIDIA H200, 22 minutes on one thread. By its frames the first run of infrared would take a processor an hour
and a half, as long as both took. All learn from all train clips; the light is that of the validation clips on
which the threshold is chosen. A command that was stopped goes on where it was; what each run leaves lies
beside OUT. --share X does a share of the steps, to try it out. --no-memory does the same steps, which are a
little cheaper. `track_rows.py` measures what comes out. With --accelerator cuda all runs are in float32; the
shipped models' last ones were in bfloat16, on a processor.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from track_mean import mean
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
    seed: int | None = None


class Recipe(NamedTuple):
    """Runs of a network, each from what the last one left; of so many last ones the mean; measured on such
    footage, None: on all.
    """

    network: Architecture
    runs: tuple[Run, ...]
    kept: int
    modality: str | None


NO_EARLY = replace(Architecture(), early=0)
"""Of those that ship: they are older than the default's early memory."""

RECIPES = {
    "infrared": Recipe(
        NO_EARLY,
        (
            Run(10090, batch=16, length=16, pieces=1, singles=1000),
            Run(7321, batch=16, length=16, pieces=1, rate=0.002, seed=1),
            Run(5213, rate=0.002, seed=3),
        ),
        kept=2,
        modality="IR",
    ),
    "visible": Recipe(
        NO_EARLY,
        (Run(7582, batch=16, length=16, pieces=1, singles=1000), Run(8497, rate=0.002)),
        kept=1,
        modality="V",
    ),
    "both": Recipe(Architecture(), (Run(11500, batch=16, singles=700),), kept=1, modality=None),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("light", choices=RECIPES)
    parser.add_argument("footage", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare windows")
    parser.add_argument("--share", type=float, default=1.0)
    a = parser.parse_args(argv)
    torch.set_num_threads(1)
    recipe, left = RECIPES[a.light], list[Path]()
    for k, run in enumerate(recipe.runs, 1):
        out = a.out.with_suffix(f".{k}{a.out.suffix}")
        begun = out.exists()
        if not begun or load_model(out).checkpoint is not None:
            print(f"run {k} of {len(recipe.runs)}: {out}", flush=True)
            trained = train(
                out,
                footage=a.footage,
                architecture=None if left else replace(recipe.network, recurrent=not a.no_memory),
                start=left[-1] if left else None,
                steps=max(1, round(run.steps * a.share)),
                batch=run.batch,
                length=run.length,
                pieces=run.pieces,
                singles=None if run.singles is None else round(run.singles * a.share),
                rate=run.rate,
                seed=run.seed,
                workers=a.workers,
                accelerator=a.accelerator,
                precision="bf16-mixed" if a.accelerator == "cpu" else "32-true",
                resume=begun,
                show=say,
                show_seconds=20.0,
            )
            if trained is None or not trained.finished:
                raise SystemExit("stopped: the same command goes on with it")
        left.append(out)
    mean(a.footage, a.out, left[-recipe.kept :], modality=recipe.modality)


if __name__ == "__main__":
    main()

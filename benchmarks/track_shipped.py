"""The motion models that ship, taught again: one network for both lights, in two runs, the second of which
learns on from the first. The infrared model is the mean of both, the visible one is the second; each has the
threshold that the validation clips of its light choose.

    python benchmarks/track_shipped.py FOOTAGE FOLDER [--no-memory] [--accelerator cuda] [--workers N]
        [--share X]

Leaves infrared.safetensors and visible.safetensors in FOLDER. The runs are counted in steps: 91 and 59
minutes on one thread of a processor. Both learn from all train clips. A command that was stopped goes on
where it was; what each run leaves lies beside the models. --share X does a share of the steps, to try it out.
--no-memory does the same steps with the memories emptied at every frame. `track_rows.py` measures what comes
out, `track_compared.py` both. When the first run of those that ship was made, sizes weighed 0.3 of what they
do now in the loss, and wide film was not shown larger than 1.4 times; its weights are
results/track_scratch_memory.safetensors, and from a copy of them, FOLDER/run.1.safetensors, the command goes
on to the models that ship.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from canton.track import Architecture, load_model, train
from track_mean import mean
from track_runs import say


class Run(NamedTuple):
    """Settings of `train`; what is None is the recipe's."""

    steps: int
    batch: int
    singles: int | None = None
    rate: float | None = None
    seed: int | None = None


RUNS = (Run(11500, batch=16, singles=700), Run(8000, batch=16, rate=0.002, seed=1))
LIGHTS = {"infrared": ("IR", 2), "visible": ("V", 1)}
"""The models: on which footage each one's threshold is chosen, and of how many last runs it is the mean."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("footage", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare windows")
    parser.add_argument("--share", type=float, default=1.0)
    a = parser.parse_args(argv)
    torch.set_num_threads(1)
    a.folder.mkdir(parents=True, exist_ok=True)
    left: list[Path] = []
    for k, run in enumerate(RUNS, 1):
        out = a.folder / f"run.{k}.safetensors"
        steps = max(1, round(run.steps * a.share))
        held = load_model(out) if out.exists() else None
        asked = (not a.no_memory, steps)
        if held and (held.model.architecture.recurrent, held.header["training"]["steps"]) != asked:
            raise SystemExit(f"{out} is of another network or other steps: name another folder")
        if held is None or held.checkpoint is not None:
            print(f"run {k} of {len(RUNS)}: {out}", flush=True)
            trained = train(
                out,
                footage=a.footage,
                architecture=None if left else replace(Architecture(), recurrent=not a.no_memory),
                start=left[-1] if left else None,
                steps=steps,
                batch=run.batch,
                singles=None if run.singles is None else round(run.singles * a.share),
                rate=run.rate,
                seed=run.seed,
                workers=a.workers,
                accelerator=a.accelerator,
                precision="bf16-mixed" if a.accelerator == "cpu" else "32-true",
                resume=held is not None,
                show=say,
                show_seconds=20.0,
            )
            if trained is None or not trained.finished:
                raise SystemExit("stopped: the same command goes on with it")
        left.append(out)
    for name, (modality, kept) in LIGHTS.items():
        mean(a.footage, a.folder / f"{name}.safetensors", left[-kept:], modality=modality)


if __name__ == "__main__":
    main()

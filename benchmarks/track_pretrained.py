"""Train the pretrained models `infrared` and `visible`: one network, in two runs.

    python benchmarks/track_pretrained.py FOOTAGE FOLDER [--no-recurrent] [--accelerator cuda] [--workers N]
        [--share X]

The second run fine-tunes the first. Writes infrared.safetensors (the mean of both runs) and
visible.safetensors (the second run) to FOLDER. Each has the threshold chosen on the validation clips of its
modality. Both runs train on all train clips; they take 91 and 59 minutes on one CPU thread. To
resume a stopped run, start the command again.
--share X trains for a share of the steps, to test the script. --no-recurrent trains the network without
memory.
`track_test_results.py` measures a model, `track_compare.py` compares two.

In the first run of the models in the package the size loss had 0.3 of the current weight, and wide footage
was enlarged at most 1.4 times. Its weights are results/track_scratch_memory.safetensors. To reproduce
the models in the package, copy it to FOLDER/run.1.safetensors.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from canton.track import Architecture, TrainConfig, load_model, train
from track_average_weights import mean
from track_training import print_progress

RUNS = (
    TrainConfig(steps=11500, batch_size=16, single_frame_steps=1400),
    TrainConfig(steps=8000, batch_size=16, learning_rate=0.002, seed=1),
)
MODELS = {"infrared": ("IR", 2), "visible": ("V", 1)}
"""By model: the modality of the clips for its threshold, and the number of last runs in its mean."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("footage", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-recurrent", action="store_true")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare windows")
    parser.add_argument("--share", type=float, default=1.0)
    a = parser.parse_args(argv)
    torch.set_num_threads(1)
    a.folder.mkdir(parents=True, exist_ok=True)
    left: list[Path] = []
    for k, run in enumerate(RUNS, 1):
        out = a.folder / f"run.{k}.safetensors"
        steps = max(1, round((run.steps or 0) * a.share))
        loaded = load_model(out) if out.exists() else None
        expected = (not a.no_recurrent, steps)
        if loaded and (loaded.model.architecture.recurrent, loaded.header["training"]["steps"]) != expected:
            raise SystemExit(f"{out} must have the same network and steps: choose another folder")
        if loaded is None or loaded.checkpoint is not None:
            print(f"run {k} of {len(RUNS)}: {out}", flush=True)
            config = replace(
                run,
                footage=a.footage,
                shared_val=True,
                model=None if left else replace(Architecture(), recurrent=not a.no_recurrent),
                start=left[-1] if left else None,
                steps=steps,
                single_frame_steps=round(run.single_frame_steps * a.share),
                workers=a.workers,
                device=a.accelerator,
                precision="bf16-mixed" if a.accelerator == "cpu" else "32-true",
            )
            trained = train(
                config, out=out, resume=loaded is not None, on_progress=print_progress, progress_seconds=20.0
            )
            if trained is None or not trained.finished:
                raise SystemExit("stopped: run the same command to resume")
        left.append(out)
    for name, (modality, kept) in MODELS.items():
        mean(a.footage, a.folder / f"{name}.safetensors", left[-kept:], modality=modality)


if __name__ == "__main__":
    main()

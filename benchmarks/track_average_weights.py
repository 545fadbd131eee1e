"""Mean of the weights of models fine-tuned from one model, with its own threshold and scores.

    python benchmarks/track_average_weights.py FOOTAGE OUT MODEL [MODEL ...] [--modality IR]

With one model and --modality, it measures the threshold and scores on footage of that modality.

Source: Wortsman et al. 2022, "Model soups", arXiv:2203.05482.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from canton.track import TrainConfig, load_model
from canton.track.checkpoint import save_model
from canton.track.train import measure
from canton.track.train_sources import open_source


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("footage", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--modality", help="modality of the footage to measure on, such as IR (default: all)")
    a = parser.parse_args(argv)
    torch.set_num_threads(1)
    mean(a.footage, a.out, a.models, modality=a.modality)


def mean(footage: Path, out: Path, models: list[Path], *, modality: str | None = None) -> None:
    """Write the mean of `models` to `out`, with its scores on the held-out clips."""
    loaded = [load_model(path) for path in models]
    for path, one in zip(models, loaded, strict=True):
        if one.model.architecture != loaded[0].model.architecture:
            raise SystemExit(f"models must have the architecture of {models[0]}, got another in {path}")
    weights = [one.model.state_dict() for one in loaded]
    model, last = loaded[-1].model, loaded[-1].header
    model.load_state_dict(
        {
            name: torch.stack([each[name] for each in weights]).mean(0)
            if value.is_floating_point()
            else value
            for name, value in weights[-1].items()
        }
    )
    config = TrainConfig.from_header(last)
    clips = open_source(replace(config, footage=footage, modality=modality, shared_val=True)).held_out()
    figures = measure(model, clips, target_class=config.target_class)
    origin = {"mean_of": [path.name for path in models], "measured_on": modality or "all"}
    kept = {name: last[name] for name in ("training", "curve", "steps_done", "seconds")}
    save_model(out, model, {**kept, **origin, **figures})
    print(f"{out}: {figures['held_out']}")


if __name__ == "__main__":
    main()

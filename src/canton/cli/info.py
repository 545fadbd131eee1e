"""`canton info`: what is installed, or what a model file is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from canton.text.model import ByteModel
    from canton.track.model import TrackModel
    from canton.training.model_file import ModelFile

TRACK = ("av", "opencv-python", "trackers")


def info(
    model: Annotated[
        Path | None,
        typer.Argument(help="A model file, or visible or infrared, which ship.", metavar="[MODEL]"),
    ] = None,
) -> None:
    """Say what MODEL is; without one, what this installation can do."""
    from canton.cli.models import track_model

    path = track_model(model)
    for name, value in (_installation() if path is None else _model(path)).items():
        plain = value if isinstance(value, str) else json.dumps(value)
        typer.echo(f"{name:24} {plain}")


def _installation() -> dict[str, object]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from canton import __version__, kernels
    from canton.cli.models import SHIPPED, describe_shipped
    from canton.kernels import cpu

    def found(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    devices = ["cpu", *(torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count()))]
    return {
        "canton": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "devices": ", ".join(devices),
        "kernels": ", ".join(kernels.NAMES[1:]),
        "C++ kernels": cpu.why_not() or f"built, runs {cpu.instruction_set()}",
        **{f"shipped {name} model": describe_shipped(name) for name in SHIPPED},
        **{name: found(name) for name in ("lightning-fabric", "safetensors", "rich", "tensorboard", *TRACK)},
    }


def _load(path: Path) -> ModelFile[ByteModel] | ModelFile[TrackModel]:
    from canton.io.tensor_file import read_header
    from canton.text import checkpoint as text
    from canton.track import checkpoint as motion

    of_motion = read_header(path).get("format") == motion.FORMAT
    return motion.load_model(path) if of_motion else text.load_model(path)


def _model(path: Path) -> dict[str, object]:
    from canton.cli.console.training_bar import sparkline

    held = _load(path)
    count = sum(parameter.numel() for parameter in held.model.parameters())
    left = "" if held.checkpoint is None else f"unfinished, at step {held.checkpoint.step}"
    order = ("format", "version", "architecture", "training", "corpus", "corpus_files")
    rest = {name: value for name, value in held.header.items() if name not in order}
    if "curve" in rest:
        losses = [loss for *_, loss in rest["curve"]["points"]]
        rest["curve"] = sparkline(losses[:: max(1, len(losses) // 40)])
    return {
        "file": str(path),
        **{name: held.header[name] for name in order if name in held.header},
        "parameters": f"{count:,}",
        "run": left or "finished",
        **rest,
    }

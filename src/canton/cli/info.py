"""`canton info`: describe the installation or a model file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from canton.text.model import ByteModel
    from canton.track.model import TrackModel
    from canton.training.model_file import ModelFile

PACKAGES = (
    "lightning-fabric", "safetensors", "rich", "tensorboard", "av", "opencv-python", "trackers",
)  # fmt: skip
"""Optional packages whose versions are printed."""


def info(
    model: Annotated[
        Path | None,
        typer.Argument(help="Model file, or a pretrained model: visible, infrared.", metavar="[MODEL]"),
    ] = None,
) -> None:
    """Describe MODEL, or this installation."""
    from canton.cli.models import track_model

    path = track_model(model)
    for name, value in (_installation() if path is None else _model(path)).items():
        typer.echo(f"{name:24} {value if isinstance(value, str) else json.dumps(value)}")


def _installation() -> dict[str, object]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from canton import __version__, kernels
    from canton.cli.models import PRETRAINED, describe_pretrained
    from canton.kernels import cpu

    def installed(package: str) -> str:
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
        **{f"pretrained {name}": describe_pretrained(name) for name in PRETRAINED},
        **{name: installed(name) for name in PACKAGES},
    }


def _load(path: Path) -> ModelFile[ByteModel] | ModelFile[TrackModel]:
    from canton.io.tensor_file import read_header
    from canton.text import checkpoint as text
    from canton.track import checkpoint as track

    is_track = read_header(path).get("format") == track.FORMAT
    return track.load_model(path) if is_track else text.load_model(path)


def _model(path: Path) -> dict[str, object]:
    from canton.cli.console.training_bar import sparkline

    held = _load(path)
    count = sum(parameter.numel() for parameter in held.model.parameters())
    run = "finished" if held.checkpoint is None else f"unfinished (step {held.checkpoint.step})"
    order = ("format", "version", "architecture", "training", "corpus", "corpus_files")
    rest = {name: value for name, value in held.header.items() if name not in order}
    if "curve" in rest:
        losses = [loss for *_, loss in rest["curve"]["points"]]
        rest["curve"] = sparkline(losses[:: max(1, len(losses) // 40)])
    return {
        "file": str(path),
        **{name: held.header[name] for name in order if name in held.header},
        "parameters": f"{count:,}",
        "run": run,
        **rest,
    }

"""The settings of a training run of the tracker."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from canton.errors import UserError
from canton.track.data.formats.labels import normalise_class
from canton.track.model import Architecture
from canton.training.settings import check_settings, documented, from_json, setting, to_json

PATHS = ("footage", "backgrounds", "start")
"""Fields that name a file or a folder."""
DEFAULT_MINUTES = 10.0
DEFAULT_SCENE_KIND = "mixed"
DEFAULT_SCENE_SHARE = 0.5


@documented
@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training run; the model file stores them.

    Raises:
        UserError: a field is out of range, or has no effect together with the others.
    """

    footage: Path | None = setting(
        None, "Folder of annotated clips: trains on its train split, scores on its val split.",
        default_help="none",
    )  # fmt: skip
    shared_val: bool = setting(
        False, "Allow places (scene in splits.csv) that are in train and val: held-out scores are too high.",
        resumable=True,
    )  # fmt: skip
    scenes: bool | None = setting(None, "Train on synthetic scenes.", default_help="only without --footage")
    scene_share: float | None = setting(
        None, "Share of synthetic scenes among the windows, beside footage.", ge=0, le=1,
        default_help=f"{DEFAULT_SCENE_SHARE}",
    )  # fmt: skip
    scene_kind: str | None = setting(
        None, "Kind of synthetic scene: article, camouflage, thermal or mixed.",
        default_help=DEFAULT_SCENE_KIND,
    )  # fmt: skip
    backgrounds: Path | None = setting(
        None, "Folder of photographs for the backgrounds of synthetic scenes.", default_help="none"
    )
    target_class: str = setting("drone", "Class of object to detect.")
    modality: str | None = setting(
        None, "Train only on footage of this modality, such as IR.", default_help="all"
    )
    fps: float = setting(10.0, "Frame rate of the footage, in frames per second.", gt=0)
    width: int = setting(640, "Resize wider footage to this width, in pixels.", ge=32, le=1 << 16)
    model: Architecture | None = setting(
        None, "Architecture of the network. None: the default one, or that of `start`.", option=False
    )
    start: Path | None = setting(
        None, "Finished model to fine-tune: a file, or the pretrained visible or infrared.",
        default_help="none",
    )  # fmt: skip
    minutes: float | None = setting(
        None, "Training time in minutes.", gt=0, default_help=f"{DEFAULT_MINUTES:g}, if there is no --steps"
    )
    steps: int | None = setting(
        None, "Training steps, in place of a time.", ge=1, default_help="no limit but the time"
    )
    batch_size: int = setting(8, "Windows per step, over all processes.", ge=1, le=4096)
    frames_per_step: int = setting(8, "Frames of each window per step.", ge=1, le=1024)
    tbptt_chunks: int = setting(
        2, "Steps per window. The state is carried from one to the next; gradients are not.", ge=1, le=1024
    )
    single_frame_steps: int = setting(
        0, "Steps at the start in which every frame is a window of its own, rounded up to whole windows.",
        ge=0,
    )  # fmt: skip
    crop_size: int = setting(128, "Side of a training window, in pixels.", ge=32, le=4096)
    learning_rate: float = setting(5e-3, "Peak learning rate.", gt=0)
    weight_decay: float = setting(0.01, "Weight decay of AdamW.", ge=0)
    grad_clip: float = setting(1.0, "Gradient clipping norm.", gt=0)
    ema_decay: float = setting(
        0.998, "Decay of the moving average of the weights, which the run keeps. 0: keep the last weights.",
        ge=0, lt=1,
    )  # fmt: skip
    seed: int = setting(0, "Random seed.", ge=0, le=2**63 - 1)
    workers: int = setting(
        1, "Processes that prepare windows. 0: the training process does.", ge=0, le=1024, resumable=True
    )
    device: str = setting("cpu", "Device: cpu, cuda, mps or auto.", resumable=True)
    processes: int = setting(1, "Number of processes, each with its own device.", ge=1, resumable=True)
    precision: str = setting(
        "32-true", "Precision: 32-true, bf16-mixed, 16-mixed or 64-true.", resumable=True
    )
    save_seconds: float = setting(60.0, "Seconds between saves.", ge=0, resumable=True)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.steps is not None and self.minutes is not None:
            raise UserError(f"minutes must be omitted if steps is given, got {self.minutes}")
        if self.batch_size % self.processes:
            raise UserError(
                f"batch_size must be a multiple of processes ({self.processes}), got {self.batch_size}"
            )
        if self.footage is None and not self.uses_scenes:
            raise UserError("footage must be given if scenes is False: there is no other data to train on")
        for name in ("scene_share", "scene_kind", "backgrounds"):
            if getattr(self, name) is not None and not self.uses_scenes:
                raise UserError(f"{name} has no effect without synthetic scenes: omit it, or add scenes")
        for name in ("scene_share", "modality"):
            if getattr(self, name) is not None and self.footage is None:
                raise UserError(f"{name} has no effect without footage: omit it, or add footage")

    @property
    def uses_scenes(self) -> bool:
        """Whether the run trains on synthetic scenes."""
        return self.footage is None if self.scenes is None else self.scenes

    @property
    def budget_minutes(self) -> float | None:
        """Minutes to train: 10 if neither `minutes` nor `steps` is given; None if `steps` is."""
        return DEFAULT_MINUTES if self.minutes is None and self.steps is None else self.minutes

    @property
    def window_frames(self) -> int:
        """Frames of a window."""
        return self.frames_per_step * self.tbptt_chunks

    def resolve(self) -> TrainConfig:
        """Return the same settings with absolute paths and every default filled in but the budget."""
        paths = {name: getattr(self, name) for name in PATHS}
        kind, share = self.scene_kind, self.scene_share
        if self.uses_scenes:
            kind = kind or DEFAULT_SCENE_KIND
            if share is None and self.footage is not None:
                share = DEFAULT_SCENE_SHARE
        return replace(
            self,
            **{name: path.resolve() for name, path in paths.items() if path is not None},
            scenes=self.uses_scenes,
            scene_kind=kind,
            scene_share=share,
            target_class=normalise_class(self.target_class),
        )

    def to_json(self) -> dict[str, Any]:
        """Return what a model file stores: all but the architecture and the settings of the machine."""
        table = {name: value for name, value in to_json(self).items() if name not in _not_stored()}
        return {name: str(value) if isinstance(value, Path) else value for name, value in table.items()}

    @classmethod
    def from_header(cls, header: dict[str, Any]) -> TrainConfig:
        """Return the settings that a model file's header stores, with its architecture.

        Raises:
            UserError: the fields are not those of this version of Canton, or are out of range.
        """
        table = header.get("training")
        if not isinstance(table, dict):
            raise UserError("the header has no training settings")
        paths = {name: Path(table[name]) for name in PATHS if isinstance(table.get(name), str)}
        config = from_json(cls, {**_not_stored(), **table, **paths})
        return replace(config, model=Architecture.from_json(header.get("architecture")))


def _not_stored() -> dict[str, Any]:
    """Return the fields that a model file does not store, with their defaults."""
    return {
        each.name: each.default
        for each in fields(TrainConfig)
        if each.metadata["resumable"] or each.name == "model"
    }

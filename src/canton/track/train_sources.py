"""Sources of training windows: footage, synthetic scenes, or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from canton.errors import UserError
from canton.track.data.augment import Window, sample_window
from canton.track.data.dataset import Footage
from canton.track.data.frame_cache import CachedClip, cache_frames, clip_problems
from canton.track.metrics import WINDOW, clips_too_short
from canton.track.train_config import TrainConfig

if TYPE_CHECKING:
    from canton.track.synthetic import Scene

HELD_OUT_SCENES = 96
FIRST_HELD_OUT = 1 << 40
"""Seed of the first held-out scene. Those of training are smaller."""


class Source(Protocol):
    """A source of training windows and held-out clips."""

    @property
    def problems(self) -> Sequence[str]:
        """One line for each problem with the clips."""

    def sample(self, rng: np.random.Generator, steps: int, size: int) -> Window:
        """Return a random window of `steps` frames of `size` x `size` px."""

    def held_out(self) -> list[CachedClip]:
        """Return the clips to score on."""


class FootageSource:
    """Footage: training windows come from its train split; its val split is held out.

    Args:
        config: the settings, with `footage`.
        on_decode: called with the number of clips decoded and their total.

    Raises:
        UserError: the folder or its labels are invalid, or its clips are too short.
    """

    def __init__(self, config: TrainConfig, on_decode: Callable[[int, int], None] | None = None) -> None:
        folder = config.footage
        if folder is None:
            raise UserError("footage must name a folder, got None")
        self.target_class = config.target_class
        train, val = (
            Footage(folder, split=split, modality=config.modality, shared_val=config.shared_val)
            for split in ("train", "val")
        )
        train.check_labelled(config.target_class)
        train.check()
        val.check()
        clips = cache_frames([*train, *val], fps=config.fps, width=config.width, on_decode=on_decode)
        self.clips, self.val = clips[: len(train)], clips[len(train) :]
        longest = max(len(clip.frames) for clip in self.clips)
        if longest < config.window_frames:
            raise UserError(
                f"frames_per_step * tbptt_chunks must be <= {longest}, the longest train clip of "
                f"{folder} at {config.fps:g} frames/s, got {config.window_frames}"
            )
        short = clips_too_short(self.val)
        if len(short) == len(self.val):
            raise UserError(
                f"{folder} must have a val clip of >= {WINDOW} frames at {config.fps:g} frames/s, got none: "
                "put a longer one into the val split"
            )
        self.problems = clip_problems(clips)
        if short:
            count = "1 val clip is" if len(short) == 1 else f"{len(short)} val clips are"
            self.problems.append(f"{count} left out: shorter than {WINDOW} frames, such as {short[0]}")

    def sample(self, rng: np.random.Generator, steps: int, size: int) -> Window:
        """Return a random window of the train split."""
        return sample_window(self.clips, rng, target_class=self.target_class, steps=steps, size=size)

    def held_out(self) -> list[CachedClip]:
        """Return the val split."""
        return self.val


class SceneSource:
    """Synthetic scenes, generated on demand; see `canton.track.synthetic`.

    Args:
        kind: article, camouflage, thermal or mixed.
        target_class: class to detect.
        backgrounds: folder of photographs.

    Raises:
        UserError: no scene can be generated from these arguments.
    """

    problems = ()

    def __init__(self, *, kind: str, target_class: str, backgrounds: Path | None = None) -> None:
        self.kind, self.target_class, self.backgrounds = kind, target_class, backgrounds
        try:
            self._scene(0, 1, 32)  # fails here rather than in a worker
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"cannot generate scenes: {error}") from error

    def sample(self, rng: np.random.Generator, steps: int, size: int) -> Window:
        """Return a new scene as a window."""
        scene = self._scene(int(rng.integers(FIRST_HELD_OUT)), steps, size)
        return Window(scene.frames, scene.labelled_boxes(self.target_class), np.zeros(steps, bool))

    def held_out(self) -> list[CachedClip]:
        """Return the first held-out scenes."""
        return [self.held_out_scene(k) for k in range(HELD_OUT_SCENES)]

    def held_out_scene(self, k: int, *, frames: int = WINDOW, size: int = 128) -> CachedClip:
        """Return the k-th scene that is never used for training."""
        scene = self._scene(FIRST_HELD_OUT + k, frames, size)
        labelled = scene.labelled_boxes(self.target_class)
        boxes = tuple(tuple(box for _, box in frame) for frame in labelled)
        classes = tuple(tuple(name for name, _ in frame) for frame in labelled)
        class_name = self.target_class if scene.present else "none"
        return CachedClip(f"scene {k}", class_name, scene.frames, boxes, np.zeros(frames, bool), classes)

    def _scene(self, seed: int, frames: int, size: int) -> Scene:
        from canton.track.synthetic import make_scene  # imported only if scenes are used

        return make_scene(
            seed,
            frames=frames,
            size=size,
            kind=self.kind,
            backgrounds=self.backgrounds,
            target_class=self.target_class,
        )


class MixedSource:
    """Footage and synthetic scenes; the footage's val split is held out.

    Args:
        footage: source of real footage.
        scenes: source of synthetic scenes.
        scene_share: probability that a window is a scene.
    """

    def __init__(self, footage: FootageSource, scenes: SceneSource, scene_share: float) -> None:
        self.footage, self.scenes, self.scene_share = footage, scenes, scene_share
        self.problems = footage.problems

    def sample(self, rng: np.random.Generator, steps: int, size: int) -> Window:
        """Return a random window of one of the sources."""
        source = self.scenes if rng.random() < self.scene_share else self.footage
        return source.sample(rng, steps, size)

    def held_out(self) -> list[CachedClip]:
        """Return the footage's val split."""
        return self.footage.held_out()


def open_source(config: TrainConfig, on_decode: Callable[[int, int], None] | None = None) -> Source:
    """Return the source that resolved settings ask for.

    Raises:
        UserError: a folder or a kind of scene is invalid.
    """
    scenes = None
    if config.scene_kind is not None:
        scenes = SceneSource(
            kind=config.scene_kind, target_class=config.target_class, backgrounds=config.backgrounds
        )
        if config.footage is None:
            return scenes
    footage = FootageSource(config, on_decode)
    return footage if scenes is None else MixedSource(footage, scenes, config.scene_share or 0.0)

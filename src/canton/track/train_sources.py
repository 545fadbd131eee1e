"""Where the windows of a training run come from: footage, made scenes, or both."""

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
"""Seeds of the held-out scenes begin here; those of training stay below."""


class Source(Protocol):
    """Draws windows to learn from, and has clips held out to score on."""

    @property
    def problems(self) -> Sequence[str]:
        """A line each of what is wrong with some of the clips."""

    def draw(self, rng: np.random.Generator, steps: int, size: int) -> Window: ...

    def held_out(self) -> list[CachedClip]: ...


class FootageSource:
    """Annotated clips: of the train split windows of `steps` frames are drawn, the val split is held out."""

    def __init__(
        self,
        folder: Path,
        *,
        target_class: str,
        modality: str | None,
        fps: float,
        width: int,
        steps: int,
        show: Callable[[int, int], None] | None = None,
    ) -> None:
        train, val = (Footage(folder, split=split, modality=modality) for split in ("train", "val"))
        train.check_labelled(target_class)
        clips = cache_frames([*train, *val], fps=fps, width=width, show=show)
        self.target_class, self.clips, self.val = target_class, clips[: len(train)], clips[len(train) :]
        longest = max(len(clip.frames) for clip in self.clips)
        if longest < steps:
            raise UserError(
                f"{folder}: the longest train clip has {longest} frames at {fps:g} a second, but a window "
                f"needs {steps} (frames_per_step * tbptt_chunks)"
            )
        short = clips_too_short(self.val)
        if len(short) == len(self.val):
            raise UserError(
                f"{folder}: no val clip has {WINDOW} frames at {fps:g} a second, the least that the model is "
                "measured on: put a longer one into the val split"
            )
        self.problems = clip_problems([*self.clips, *self.val])
        if short:
            many = "1 val clip is" if len(short) == 1 else f"{len(short)} val clips are"
            self.problems += [f"{many} left out: shorter than {WINDOW} frames, such as {short[0]}"]

    def draw(self, rng: np.random.Generator, steps: int, size: int) -> Window:
        return sample_window(self.clips, rng, target_class=self.target_class, steps=steps, size=size)

    def held_out(self) -> list[CachedClip]:
        return self.val


class SceneSource:
    """Scenes made as they are needed; see `canton.track.synthetic`."""

    problems = ()

    def __init__(self, *, kind: str, target_class: str, backgrounds: Path | None = None) -> None:
        self.kind, self.target_class, self.backgrounds = kind, target_class, backgrounds
        try:
            self._scene(0, 1, 32)  # what is wrong is said now, not by a worker later
        except ValueError as error:
            raise UserError(f"no such scenes can be made: {error}") from error

    def draw(self, rng: np.random.Generator, steps: int, size: int) -> Window:
        scene = self._scene(int(rng.integers(FIRST_HELD_OUT)), steps, size)
        return Window(scene.frames, scene.things(self.target_class), np.zeros(steps, bool))

    def held_out(self) -> list[CachedClip]:
        return [self.held_out_scene(k) for k in range(HELD_OUT_SCENES)]

    def held_out_scene(self, k: int, *, frames: int = WINDOW, size: int = 128) -> CachedClip:
        """The k-th scene that training never sees."""
        scene = self._scene(FIRST_HELD_OUT + k, frames, size)
        things = scene.things(self.target_class)
        boxes = tuple(tuple(box for _, box in here) for here in things)
        kinds = tuple(tuple(kind for kind, _ in here) for here in things)
        kind = self.target_class if scene.present else "none"
        return CachedClip(f"scene {k}", kind, scene.frames, boxes, np.zeros(frames, bool), kinds)

    def _scene(self, seed: int, frames: int, size: int) -> Scene:
        from canton.track.synthetic import make_scene  # its drawings are loaded by those who ask for scenes

        return make_scene(
            seed,
            frames=frames,
            size=size,
            kind=self.kind,
            backgrounds=self.backgrounds,
            target=self.target_class,
        )


class MixedSource:
    """Some windows of the one, some of the other; the footage is scored on."""

    def __init__(self, footage: FootageSource, scenes: SceneSource, scene_share: float) -> None:
        self.footage, self.scenes, self.scene_share = footage, scenes, scene_share
        self.problems = footage.problems

    def draw(self, rng: np.random.Generator, steps: int, size: int) -> Window:
        made = rng.random() < self.scene_share
        return (self.scenes if made else self.footage).draw(rng, steps, size)

    def held_out(self) -> list[CachedClip]:
        return self.footage.held_out()


def open_source(config: TrainConfig, on_decode: Callable[[int, int], None] | None = None) -> Source:
    """Return the source that a run's resolved settings ask for.

    Raises:
        UserError: a folder or a kind of scene is invalid.
    """
    scenes = None
    if config.scene_kind is not None:
        scenes = SceneSource(
            kind=config.scene_kind, target_class=config.target_class, backgrounds=config.backgrounds
        )
    if config.footage is None:
        assert scenes is not None
        return scenes
    footage = FootageSource(
        config.footage,
        target_class=config.target_class,
        modality=config.modality,
        fps=config.fps,
        width=config.width,
        steps=config.window_frames,
        show=on_decode,
    )
    return footage if scenes is None else MixedSource(footage, scenes, config.scene_share or 0.0)

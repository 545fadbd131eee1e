"""Watching of several films at once, on the batch axis of the network."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor

from canton.track.model import State, TrackModel
from canton.track.pipeline import FrameResult, Postprocessor, prefetched
from canton.track.video.preprocess import check_frame_size
from canton.track.video.reader import Frame, Video
from canton.track.video.source import DEFAULT_FPS


class FilmResult(NamedTuple):
    """The result of one frame of one of several films.

    Args:
        film: position of the film, from 0.
        result: as `track_video` gives it. `latency_ms` is that of the whole batch.
    """

    film: int
    result: FrameResult


def watch_many(
    model: TrackModel,
    films: Sequence[Video],
    *,
    threshold: float = 0.5,
    width: int | None = None,
    prefetch: int = 4,
) -> Generator[FilmResult, None, None]:
    """Yield the result of every frame of several films, which are processed side by side.

    The n-th frames of all films that have the same size are one batch, which uses a GPU better than one film.
    The results are those of `track_video` for each film. A film that ends leaves the batch.

    Args:
        model: a model in eval mode, on any device.
        films: from `open_video`. Other threads iterate over them, so they must stay open until the generator
            ends.
        threshold: detection threshold, in [0.01, 1].
        width: resize wider frames to this width in px. None: never.
        prefetch: frames to decode ahead, per film.

    Raises:
        ValueError: an argument is out of range.
        UserError: frames are too small for the model.
    """
    device = next(model.parameters()).device
    after = [
        Postprocessor(model, fps=film.fps or DEFAULT_FPS, threshold=threshold, width=width) for film in films
    ]
    batches: dict[torch.Size, _Batch] = {}
    with ExitStack() as stack:
        readers: dict[int, Iterator[tuple[Frame, Tensor, int]]] = {
            film: stack.enter_context(prefetched(video, prefetch, width)) for film, video in enumerate(films)
        }
        while readers:
            frames: dict[torch.Size, dict[int, tuple[Frame, Tensor]]] = {}
            for film, reader in list(readers.items()):
                item = next(reader, None)
                if item is None:
                    del readers[film]
                else:
                    frames.setdefault(item[1].shape[2:], {})[film] = item[:2]
            for size in batches.keys() - frames.keys():
                del batches[size]
            for size, rows in frames.items():
                start = time.perf_counter()
                batch = batches.setdefault(size, _Batch(model))
                check_frame_size(model.architecture, *size)
                maps = batch.step(
                    {film: tensor.to(device) for film, (_, tensor) in rows.items()},
                    {film for film, (frame, _) in rows.items() if frame.cut},
                )
                for row, (film, (frame, _)) in enumerate(rows.items()):
                    yield FilmResult(film, after[film].result(frame, maps[row], start))


class _Batch:
    """The films whose frames have one size, and their states."""

    def __init__(self, model: TrackModel) -> None:
        self._model = model
        self._films: list[int] = []
        self._state: State | None = None

    def step(self, frames: dict[int, Tensor], restarted: set[int]) -> Tensor:
        """Return the maps (B, maps, h, w) of one frame per film, and keep the states."""
        films = list(frames)
        new = set(films) - set(self._films)
        with torch.inference_mode():
            if films != self._films and self._state is not None:
                # A film that is new takes any row: its state is reset.
                rows = [self._films.index(film) if film not in new else 0 for film in films]
                self._state = tuple(part[:, rows] for part in self._state)
            self._films = films
            reset = torch.tensor([[film in restarted or film in new for film in films]])
            images = torch.cat(list(frames.values()))
            maps: Tensor
            maps, self._state = self._model(images[None], self._state, reset.to(images.device))
        return maps[0]

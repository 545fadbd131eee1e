"""A model that detects bright pixels, and a video of bright squares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from canton.track.video.reader import Frame

WIDTH, HEIGHT, SIDE = 96, 64, 8


class Bright:
    """Score brightness. The state counts frames since its reset; `empty` lists the steps with a reset."""

    stride = 4
    offset = 2.0

    def __init__(self, side: float = SIDE) -> None:
        self.side = side
        self.steps = 0
        self.empty: list[int] = []

    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        if state is None:
            self.empty.append(self.steps)
            state = 0
        self.steps += 1
        heat = F.avg_pool2d(frame.mean(1, keepdim=True), 4)
        sizes = torch.full_like(heat, math.log(self.side))
        return torch.cat([(heat.clamp(1e-4, 1 - 1e-4)).logit(), sizes, sizes], 1), state + 1


def square_frame(centres: Iterable[tuple[float, float]] = (), bright: int = 255) -> np.ndarray:
    """Return a black frame with squares of 8 px."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for x, y in centres:
        left, top = round(x - SIDE / 2), round(y - SIDE / 2)
        pixels[max(top, 0) : top + SIDE, max(left, 0) : left + SIDE] = bright
    return pixels


def flight(frames: int, *, fps: float = 10, cuts: tuple[int, ...] = (0,)) -> Iterator[Frame]:
    """Yield frames of a square that moves right by 2 px per frame and starts again."""
    for k in range(frames):
        yield Frame(k, k / fps, square_frame([(8 + 2 * k % 80, 30)]), k in cuts)

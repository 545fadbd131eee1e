"""A small labelled clip for the training tests."""

from __future__ import annotations

import numpy as np

from canton.track.boxes import Box
from canton.track.data.frame_cache import CachedClip


def clip(name: str, kind: str, seed: int, frames: int = 14) -> CachedClip:
    """Return a clip of a bright spot (drone) or a dark one (bird) on gray."""
    draw = np.random.default_rng(seed)
    images = draw.normal(110, 4, (frames, 64, 80, 1))
    place, speed = draw.uniform(16, 44, 2), draw.uniform(-1.5, 1.5, 2)
    boxes = []
    for t in range(frames):
        x, y = (place + speed * t).clip(8, 54).round().astype(int)
        images[t, y - 3 : y + 3, x - 4 : x + 4] += 90 if kind == "drone" else -90
        boxes.append((Box(float(x - 4), float(y - 3), 8.0, 6.0),))
    return CachedClip(name, kind, images.clip(0, 255).astype(np.uint8), tuple(boxes), np.zeros(frames, bool))

"""The article's figure: what comes out, what is true and what goes in, frame by frame."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from canton.errors import require
from canton.motion.evaluation import to_frames
from canton.motion.model import MotionModel
from canton.motion.store import Stored
from canton.motion.targets import Named, make_target

GAP = 4
"""Px between pictures."""


def draw_figure(model: MotionModel, clip: Stored, *, frames: int = 8, scale: int = 1) -> NDArray[np.uint8]:
    """Three rows of `frames` pictures each, t0, t1 ... from left to right: output, truth and input.

    Returns (3 H + ..., frames W + ..., 3) uint8.
    """
    cv2 = require("cv2", extra="track")
    pictures = np.array(clip.frames[:frames])
    with torch.inference_mode():
        maps, _ = model(to_frames(pictures[:, None]))
    heat = maps[:, 0, 0].sigmoid().numpy()
    named = [[Named(clip.kind, box) for box in boxes] for boxes in clip.boxes[:frames]]
    truth = make_target(named, heat.shape[1:], model.architecture, sought=clip.kind).heat[:, 0].numpy()
    height, width = (side * scale for side in pictures.shape[1:3])
    shift = (model.offset / model.stride - 0.5) * model.stride * scale  # where cell (0, 0) begins, in px

    def spread(cells: NDArray[np.float32]) -> NDArray[np.uint8]:
        step = model.stride * scale
        move = np.array([[step, 0, shift + step / 2 - 0.5], [0, step, shift + step / 2 - 0.5]], np.float32)
        grey = cv2.warpAffine(cells, move, (width, height), flags=cv2.INTER_LINEAR)
        return np.repeat((grey.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, 2)

    rows = [
        [spread(cells) for cells in heat],
        [spread(cells) for cells in truth],
        [
            np.repeat(
                cv2.resize(p, (width, height), interpolation=cv2.INTER_NEAREST).reshape(height, width, -1),
                3 // p.shape[2],
                2,
            )
            for p in pictures
        ],
    ]
    sheet = np.full((3 * (height + GAP) - GAP, frames * (width + GAP) - GAP, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            y, x = r * (height + GAP), c * (width + GAP)
            sheet[y : y + height, x : x + width] = picture
    return sheet

"""The article's figure: what comes out, what is true and what goes in, frame by frame."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from canton.errors import require
from canton.track.boxes import LabelledBox
from canton.track.data.frame_cache import CachedClip
from canton.track.metrics import frames_to_tensor
from canton.track.model import TrackModel
from canton.track.targets import make_target

GAP = 4
"""Px between pictures."""
TOP, LEFT = 22, 62
"""Px for the words above and beside them."""
INK = (63, 63, 70)


def draw_figure(model: TrackModel, clip: CachedClip, *, frames: int = 8, scale: int = 1) -> NDArray[np.uint8]:
    """Three rows of `frames` pictures each, t0, t1 ... from left to right: output, truth and input, and words
    beside them that say so.

    Returns (TOP + 3 H + ..., LEFT + frames W + ..., 3) uint8.
    """
    cv2 = require("cv2", extra="track")
    pictures = np.array(clip.frames[:frames])
    with torch.inference_mode():
        maps, _ = model(frames_to_tensor(pictures[:, None]))
    heat = maps[:, 0, 0].sigmoid().numpy()
    named = [list(map(LabelledBox, clip.kinds_at(t), clip.boxes[t])) for t in range(len(pictures))]
    network = model.architecture.for_target(clip.kind)
    truth = make_target(named, heat.shape[1:], network, target_class=clip.kind).heat[:, 0].numpy()
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
    size = TOP + 3 * (height + GAP), LEFT + frames * (width + GAP)
    sheet: NDArray[np.uint8] = np.full((*size, 3), 255, np.uint8)
    for r, (name, row) in enumerate(zip(("output", "truth", "input"), rows, strict=True)):
        y = TOP + r * (height + GAP)
        _write(sheet, name, LEFT - GAP - 4, y + height // 2 + 4, anchor=1.0)
        for c, picture in enumerate(row):
            x = LEFT + c * (width + GAP)
            sheet[y : y + height, x : x + width] = picture
            if r == 0:
                _write(sheet, f"t{c}", x + width // 2, TOP - 7, anchor=0.5)
    return sheet


def _write(sheet: NDArray[np.uint8], words: str, x: int, y: int, *, anchor: float) -> None:
    """Words on the line y; x: where their share `anchor` lies, px."""
    cv2 = require("cv2", extra="track")
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    (wide, _), _ = cv2.getTextSize(words, font, scale, 1)
    cv2.putText(sheet, words, (round(x - anchor * wide), y), font, scale, INK, 1, cv2.LINE_AA)

"""The figure of the 2017 article: output, truth and input of consecutive frames."""

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
"""Space between images, in px."""
TOP, LEFT = 22, 62
"""Space for labels, in px."""
TEXT_COLOUR = (63, 63, 70)

Image = NDArray[np.uint8]


def draw_figure(model: TrackModel, clip: CachedClip, *, frames: int = 8, scale: int = 1) -> Image:
    """Draw rows of output, truth and input with `frames` columns t0, t1 ...

    Args:
        scale: enlargement of the frames.

    Returns:
        (TOP + 3 * (H + GAP), LEFT + frames * (W + GAP), 3) uint8 RGB.
    """
    cv2 = require("cv2", extra="track")
    inputs = np.array(clip.frames[:frames])
    with torch.inference_mode():
        maps, _ = model(frames_to_tensor(inputs[:, None]))
    output = maps[:, 0, 0].sigmoid().numpy()
    boxes = [list(map(LabelledBox, clip.classes_at(t), clip.boxes[t])) for t in range(len(inputs))]
    architecture = model.architecture.for_target(clip.class_name)
    truth = (
        make_target(boxes, output.shape[1:], architecture, target_class=clip.class_name).heatmap[:, 0].numpy()
    )
    height, width = (side * scale for side in inputs.shape[1:3])
    stride = model.stride * scale
    offset = model.offset * scale - 0.5  # of the centre of cell (0, 0)

    def from_heatmap(heatmap: NDArray[np.float32]) -> Image:
        affine = np.array([[stride, 0, offset], [0, stride, offset]], np.float32)
        gray = cv2.warpAffine(heatmap, affine, (width, height), flags=cv2.INTER_LINEAR)
        return np.repeat((gray.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, 2)

    def from_pixels(pixels: Image) -> Image:
        resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST)
        return np.repeat(resized.reshape(height, width, -1), 3 // pixels.shape[2], 2)

    rows = {
        "output": [from_heatmap(heatmap) for heatmap in output],
        "truth": [from_heatmap(heatmap) for heatmap in truth],
        "input": [from_pixels(pixels) for pixels in inputs],
    }
    size = TOP + 3 * (height + GAP), LEFT + frames * (width + GAP)
    sheet: Image = np.full((*size, 3), 255, np.uint8)
    for r, (name, row) in enumerate(rows.items()):
        y = TOP + r * (height + GAP)
        _write(sheet, name, LEFT - GAP - 4, y + height // 2 + 4, anchor=1.0)
        for c, image in enumerate(row):
            x = LEFT + c * (width + GAP)
            sheet[y : y + height, x : x + width] = image
            if r == 0:
                _write(sheet, f"t{c}", x + width // 2, TOP - 7, anchor=0.5)
    return sheet


def _write(sheet: Image, text: str, x: int, y: int, *, anchor: float) -> None:
    """Write text with its baseline at y; `anchor` is the share of its width that lies left of x."""
    cv2 = require("cv2", extra="track")
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    (width, _), _ = cv2.getTextSize(text, font, scale, 1)
    cv2.putText(sheet, text, (round(x - anchor * width), y), font, scale, TEXT_COLOUR, 1, cv2.LINE_AA)

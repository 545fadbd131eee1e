"""Contact sheet of test clips, from the worst to the best F1.

    python benchmarks/track_contact_sheet.py MODEL FOOTAGE OUT.png [--modality IR] [--count 10] [--hard]

Every row shows six frames of a window. True boxes of drones are white, of other classes gray. True positives
are green circles, false positives red ones. The heat map is orange.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from canton.track import (
    CachedClip,
    Footage,
    FramePrediction,
    TrackModel,
    cache_frames,
    load_model,
    predict_windows,
    score,
)
from canton.track.data.degrade import degrade
from canton.track.metrics import WINDOW, centre_in_box, frames_to_tensor

SHOWN = (0, 2, 4, 6, 8, 11)


def row(
    model: TrackModel, clip: CachedClip, predictions: list[FramePrediction], threshold: float, hard: bool
) -> np.ndarray:
    """Return six frames of the clip's middle window, enlarged by 2."""
    start = len(predictions) // WINDOW // 2 * WINDOW
    frames = np.array(clip.frames[start : start + WINDOW])
    if hard:
        frames = degrade(frames, clip.boxes[start : start + WINDOW], np.random.default_rng(0))
    with torch.inference_mode():
        maps, _ = model(frames_to_tensor(frames[:, None]))
    images = []
    for t in SHOWN:
        gray = np.repeat(frames[t], 3 // frames.shape[-1], -1)
        image = cv2.resize(np.ascontiguousarray(gray[..., ::-1]), None, fx=2, fy=2)
        heatmap = cv2.resize(maps[t, 0, 0].sigmoid().numpy(), image.shape[1::-1])[..., None]
        image = (image * (1 - 0.5 * heatmap) + 0.5 * heatmap * np.array([0, 160, 255])).astype(np.uint8)
        one = predictions[start + t]
        drones = one.boxes_of("drone")
        for box in one.truth:
            left, top, right, bottom = (round(2 * edge) for edge in box.xyxy)
            cv2.rectangle(image, (left, top), (right, bottom), (255,) * 3 if box in drones else (128,) * 3, 1)
        for peak in one.peaks:
            if peak.score >= threshold:
                hit = any(centre_in_box(one.frame_width)(peak.box, box) for box in drones)
                colour = (80, 255, 80) if hit else (60, 60, 255)
                x, y = peak.box.centre
                cv2.circle(image, (round(2 * x), round(2 * y)), 12, colour, 2)
        images.append(image)
    return np.hstack(images)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("footage", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--modality")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--hard", action="store_true")
    a = parser.parse_args(argv)
    loaded = load_model(a.model)
    training = loaded.header["training"]
    threshold = float(loaded.header["threshold"])
    clips = cache_frames(
        list(Footage(a.footage, split="test", modality=a.modality)),
        fps=training["fps"],
        width=training["width"],
    )
    predictions: dict[str, list[FramePrediction]] = {}
    for one in predict_windows(loaded.model, clips, hard=a.hard):
        predictions.setdefault(one.clip, []).append(one)

    def quality(clip: CachedClip) -> float:
        scores = score(predictions[clip.name], threshold, target_class="drone")
        return scores.f1 if clip.class_name == "drone" else 1 - scores.false_alarms

    order = sorted((clip for clip in clips if clip.name in predictions), key=quality)
    selected = [order[round(k)] for k in np.linspace(0, len(order) - 1, a.count)]
    for clip in order:
        print(f"{clip.name:24} {quality(clip):.3f}")
    rows = []
    for clip in selected:
        images = row(loaded.model, clip, predictions[clip.name], threshold, a.hard)
        cv2.putText(images, f"{clip.name} {quality(clip):.2f}", (8, 24), 0, 0.7, (255, 255, 255), 2)
        rows.append(images)
    cv2.imwrite(str(a.out), np.vstack(rows))


if __name__ == "__main__":
    main()

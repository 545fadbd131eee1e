"""Comparison of trackers on the labels of real clips, with noise, missed boxes and false positives.

    python benchmarks/track_linking.py --footage FOLDER [--write benchmarks/results/track_linking.json]

Needs the extra canton-torch[track] and a folder with labels.csv. Uses the first object of the clip's class in
60 clips outside the test split. A box is missed with the given probability. Its centre gets Gaussian noise,
its sides noise of 15%. Every tenth frame has a false positive. The script reports id switches, the share
of boxes with an id, the share of false positives with an id, and the time per frame.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import supervision
from trackers import ByteTrackTracker, CBIoUTracker, OCSORTTracker
from trackers.utils.iou import BIoU, DIoU, IoU

from canton.track import tracker
from canton.track.boxes import Box
from canton.track.data.formats.csv import read_csv
from canton.track.data.formats.labels import ClipLabels

CLIPS, FALSE_POSITIVE_RATE, SIDE_NOISE = 60, 0.1, 0.15
SETTINGS = {
    "10 fps": {"every": 3, "miss_rate": 0.15, "noise_px": 1.0},
    "10 fps, hard": {"every": 3, "miss_rate": 0.4, "noise_px": 2.0},
    "30 fps": {"every": 1, "miss_rate": 0.15, "noise_px": 1.0},
    "30 fps, hard": {"every": 1, "miss_rate": 0.4, "noise_px": 2.0},
}


class Detection(NamedTuple):
    """A box, and whether it is the labelled object and not a false positive."""

    box: Box
    true: bool


def frames(
    clip: ClipLabels, every: int, miss_rate: float, noise_px: float, seed: int
) -> Iterator[list[Detection]]:
    """Yield the detections of every frame."""
    rng = np.random.default_rng(seed)
    boxes = {label.frame: label.box for label in reversed(clip.labels) if label.class_name == clip.class_name}
    for frame in range(0, max(boxes) + 1, every):
        detections = []
        if frame in boxes and rng.random() >= miss_rate:
            detections.append(Detection(add_noise(boxes[frame], noise_px, rng), True))
        if rng.random() < FALSE_POSITIVE_RATE:
            x, y = rng.uniform(0, 320), rng.uniform(0, 256)
            detections.append(Detection(Box.from_centre(x, y, 8, 8), False))
        yield detections


def add_noise(box: Box, px: float, rng: np.random.Generator) -> Box:
    """Return the box with noise on its centre and its sides."""
    width, height = np.exp(rng.normal(0, SIDE_NOISE, 2)) * (box.width, box.height)
    x, y = rng.normal(box.centre, px)
    return Box.from_centre(float(x), float(y), float(width), float(height))


def make_trackers() -> dict[str, Callable[[float], Any]]:
    """Return a factory of each tracker by name, a function of the frame rate.

    Each tracker starts a track at the second box and keeps it for a second.
    """
    all_count = {"track_activation_threshold": 0.0, "high_conf_det_threshold": 0.0}

    def byte(iou: Any, least: float) -> Callable[[float], Any]:
        return lambda fps: ByteTrackTracker(
            frame_rate=fps, iou=iou, minimum_iou_threshold=least, minimum_consecutive_frames=2, **all_count
        )

    def ocsort(iou: Any, least: float) -> Callable[[float], Any]:
        return lambda fps: OCSORTTracker(
            frame_rate=fps,
            iou=iou,
            minimum_iou_threshold=least,
            minimum_consecutive_frames=2,
            high_conf_det_threshold=0.0,
        )

    def cbiou(first: float, second: float) -> Callable[[float], Any]:
        return lambda fps: CBIoUTracker(
            frame_rate=fps,
            buffer_ratio_first=first,
            buffer_ratio_second=second,
            minimum_iou_threshold_first_assoc=tracker.MIN_IOU,
            minimum_iou_threshold_unconfirmed_assoc=tracker.MIN_IOU,
            instant_first_frame_activation=False,
            **all_count,
        )

    return {
        "ByteTrack, IoU": byte(IoU(), 0.1),
        "ByteTrack, BIoU 0.5": byte(BIoU(0.5), 0.1),
        "ByteTrack, BIoU 1": byte(BIoU(1.0), 0.05),
        "ByteTrack, BIoU 1.5": byte(BIoU(1.5), 0.1),
        "ByteTrack, BIoU 2": byte(BIoU(2.0), 0.05),
        "ByteTrack, DIoU -0.5": byte(DIoU(), -0.5),
        "ByteTrack, DIoU -0.7": byte(DIoU(), -0.7),
        "OC-SORT, IoU": ocsort(IoU(), 0.1),
        "OC-SORT, BIoU 1.5": ocsort(BIoU(1.5), 0.05),
        "OC-SORT, DIoU -0.7": ocsort(DIoU(), -0.7),
        "C-BIoU 0.5, 1": cbiou(0.5, 1.0),
        "C-BIoU 1, 2 (canton)": cbiou(*tracker.BUFFER_RATIOS),
    }


def measure(make: Callable[[float], Any], clips: list[ClipLabels], setting: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a tracker."""
    switches, true, true_with_id, false, false_with_id, seconds, count = 0, 0, 0, 0, 0, 0.0, 0
    for seed, clip in enumerate(clips):
        linker, last = make(30 / setting["every"]), None
        for detections in frames(clip, **setting, seed=seed):
            boxes = supervision.Detections(
                xyxy=np.array([one.box.xyxy for one in detections]).reshape(-1, 4),
                confidence=np.ones(len(detections)),
                class_id=np.arange(len(detections)),
            )
            start = time.perf_counter()
            linked = linker.update(boxes)
            seconds += time.perf_counter() - start
            count += 1
            for index, number in zip(linked.class_id if len(linked) else (), linked.tracker_id, strict=True):
                if not detections[index].true:
                    false += 1
                    false_with_id += int(number >= 0)
                    continue
                true += 1
                if number >= 0:
                    true_with_id += 1
                    switches += int(last is not None and last != number)
                    last = number
    return {
        "id_switches": switches,
        "boxes_with_id": round(true_with_id / true, 3),
        "false_positives_with_id": round(false_with_id / false, 3),
        "ms_per_frame": round(seconds / count * 1e3, 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--footage", type=Path, required=True)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    labelled = read_csv(given.footage / "labels.csv").values()
    known = sorted((c for c in labelled if c.split != "test" and c.labels), key=lambda c: c.name)
    clips = random.Random(0).sample(known, CLIPS)
    results: dict[str, dict[str, Any]] = {}
    for name, make in make_trackers().items():
        results[name] = {}
        for setting, how in SETTINGS.items():
            r = results[name][setting] = measure(make, clips, how)
            print(f"{name:32} {setting:14}", *(f"{k} {v}" for k, v in r.items()), sep="  ", flush=True)
    if given.write:
        versions = {package: version(package) for package in ("trackers", "supervision", "numpy")}
        machine = {"processor": platform.machine(), "python": platform.python_version()}
        table = {"clips": [clip.name for clip in clips], "settings": SETTINGS, "results": results}
        given.write.write_text(
            json.dumps({**table, "versions": versions, "machine": machine}, indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Speed of synthetic scenes: frames generated per second and core, for scenes of 8 frames of 128 x 128 px.

    python benchmarks/scenes_speed.py

"cold" is the first scenes of a process, which also generate the shared backgrounds and shapes. "warm" is all
later ones. Measured in processor time.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import cv2

import canton
from canton.track.synthetic import KINDS, make_scene
from compare.runner import machine

FRAMES, COLD, WARM = 8, 400, 200


def frames_per_second(kind: str, first: int, count: int) -> float:
    start = time.process_time()
    for seed in range(first, first + count):
        make_scene(seed, frames=FRAMES, size=128, kind=kind)
    return FRAMES * count / (time.process_time() - start)


def main() -> None:
    cv2.setNumThreads(0)
    speed = {}
    for kind in KINDS:
        cold = frames_per_second(kind, 0, COLD)
        speed[kind] = {"cold": round(cold, 1), "warm": round(frames_per_second(kind, COLD, WARM), 1)}
        print(f"{kind:11} {speed[kind]['cold']:7.0f} cold {speed[kind]['warm']:7.0f} warm, frames/s a core")
    result = {
        "machine": machine(),
        "versions": {"canton": canton.__version__, "cv2": cv2.__version__},
        "scene": {"frames": FRAMES, "size_px": 128, "cold_scenes": COLD, "warm_scenes": WARM},
        "frames_per_second_per_core": speed,
    }
    target = Path(__file__).parent / "results" / "scenes_speed.json"
    target.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

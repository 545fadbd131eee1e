"""Frames per second and memory of `track_video`, with decoding and tracking, without rendering.

    python benchmarks/track_speed.py MODEL OUT.json VIDEO [VIDEO ...] [--minutes 10]

Each video is processed seven times, interleaved with the others. The memory is measured on one video that
repeats for the given number of minutes, and must not grow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from canton.track import Frame, load_model, open_video, track_video


def frames_per_second(path: Path, model: torch.nn.Module, threshold: float, width: int) -> float:
    """Return the frames per second over a whole video."""
    start = time.perf_counter()
    with open_video(path) as video:
        count = sum(
            1 for _ in track_video(model, video, fps=video.fps or 30.0, threshold=threshold, width=width)
        )
    return count / (time.perf_counter() - start)


def resident_mib() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def repeat(path: Path, count: int) -> Iterator[Frame]:
    """Yield `count` frames of a video that repeats."""
    index = 0
    while index < count:
        with open_video(path) as video:
            for frame in video:
                yield frame._replace(index=index, seconds=index / 30)
                index += 1


def memory(path: Path, model: torch.nn.Module, threshold: float, width: int, minutes: float) -> list[float]:
    """Return ten measurements of the resident memory in MiB."""
    count, measurements = round(minutes * 60 * 30), []
    frames = repeat(path, count)
    for k, _ in enumerate(track_video(model, frames, fps=30.0, threshold=threshold, width=width)):
        if k % (count // 10) == count // 20:
            measurements.append(round(resident_mib(), 1))
    return measurements


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=10.0)
    a = parser.parse_args(argv)
    loaded = load_model(a.model)
    threshold, width = float(loaded.header["threshold"]), int(loaded.header["training"]["width"])
    speeds: dict[str, list[float]] = {path.name: [] for path in a.videos}
    for _ in range(7):
        for path in a.videos:
            speeds[path.name].append(frames_per_second(path, loaded.model, threshold, width))
    sizes = {}
    for path in a.videos:
        with open_video(path) as video:
            sizes[path.name] = f"{video.width} x {video.height}"
    figures = {
        "command": "benchmarks/track_speed.py MODEL OUT VIDEO ...",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "frames_per_second": {
            name: {
                "size": sizes[name],
                "median": statistics.median(runs),
                "least": min(runs),
                "most": max(runs),
            }
            for name, runs in speeds.items()
        },
        "resident_mib_over_minutes": {
            "minutes": a.minutes,
            "mib": memory(a.videos[0], loaded.model, threshold, width, a.minutes),
        },
    }
    a.out.write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

"""Frames a second of the whole of watching, decoding and tracking included, drawing not, and the memory it
takes.

    python benchmarks/track_speed.py MODEL OUT.json VIDEO [VIDEO ...] [--minutes 10]

Every video is watched from file to tracks, seven times in turn; the last figure is of one video played over
and over for so many minutes of film, whose memory must not grow.
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
    began = time.perf_counter()
    with open_video(path) as video:
        count = sum(
            1 for _ in track_video(model, video, fps=video.fps or 30.0, threshold=threshold, width=width)
        )
    return count / (time.perf_counter() - began)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def over_and_over(path: Path, count: int) -> Iterator[Frame]:
    index = 0
    while index < count:
        with open_video(path) as video:
            for frame in video:
                yield frame._replace(index=index, seconds=index / 30)
                index += 1


def memory(path: Path, model: torch.nn.Module, threshold: float, width: int, minutes: float) -> list[float]:
    count, seen = round(minutes * 60 * 30), []
    frames = over_and_over(path, count)
    for k, _ in enumerate(track_video(model, frames, fps=30.0, threshold=threshold, width=width)):
        if k % (count // 10) == count // 20:
            seen.append(round(resident_mib(), 1))
    return seen


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=10.0)
    a = parser.parse_args(argv)
    held = load_model(a.model)
    threshold, width = float(held.header["threshold"]), int(held.header["training"]["width"])
    speeds: dict[str, list[float]] = {path.name: [] for path in a.videos}
    for _ in range(7):
        for path in a.videos:
            speeds[path.name].append(frames_per_second(path, held.model, threshold, width))
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
                "median": statistics.median(all_),
                "least": min(all_),
                "most": max(all_),
            }
            for name, all_ in speeds.items()
        },
        "resident_mib_over_minutes": {
            "minutes": a.minutes,
            "mib": memory(a.videos[0], held.model, threshold, width, a.minutes),
        },
    }
    a.out.write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

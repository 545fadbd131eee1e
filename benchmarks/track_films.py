"""Many films, the cost of drawing, and memory over ten minutes, of `canton track watch` as a user runs it.

    python benchmarks/track_films.py OUT.json [--films 12] [--seconds 10] [--minutes 10] [--size 320x256]

The films are written here: a bright spot over noise, 30 frames/s. The memory of a mode is that of its process
and its workers, in MiB, at ten times.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from canton.track import VideoWriter

WATCH = [sys.executable, "-m", "canton", "track", "watch", "visible"]
MODES = {
    "csv": ["--csv", "seen.csv"],
    "json": ["--json", "seen.jsonl"],
    "annotated video": ["--out", "seen.mp4"],
    "live view": ["--live"],
    "out-dir": ["--out-dir", "results", "--csv", "--json", "--video"],
}


def frames(count: int, width: int, height: int) -> Iterator[np.ndarray]:
    """Yield frames of a spot that moves over a noisy landscape."""
    rng = np.random.default_rng(0)
    land = cv2.resize(rng.integers(60, 180, (height // 8, width // 8, 3), np.uint8), (width, height))
    noise = rng.integers(0, 12, (8, height, width, 3), np.uint8)
    for k in range(count):
        image = cv2.add(land, noise[k % 8])
        cv2.circle(image, (10 + 3 * k % (width - 20), height // 2), 4, (255, 255, 255), -1)
        yield image


def write_film(path: Path, seconds: float, width: int, height: int) -> None:
    """Write a film of 30 frames/s."""
    with VideoWriter(path, width, height, 30) as writer:
        for image in frames(round(30 * seconds), width, height):
            writer.write(image)


def seconds_of(command: list[str], folder: Path) -> float:
    """Return the wall-clock time of a command."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def throughput(folder: Path, count: int, length: float) -> dict[str, dict[str, float]]:
    """Return films a minute and processor hours per hour of film, by way of running."""
    names = [f"film{k}.mp4" for k in range(count)]
    shell = " ".join(f"'{word}'" for word in WATCH)
    ways = {
        "1 worker": [*WATCH, *names, "--out-dir", "results", "-q"],
        "2 workers": [*WATCH, *names, "--out-dir", "results", "-q", "--workers", "2"],
        "xargs -P 2": ["sh", "-c", f"ls film*.mp4 | xargs -P 2 -I F {shell} F --csv results/F.csv -q"],
    }
    figures = {}
    for name, command in ways.items():
        shutil.rmtree(folder / "results", ignore_errors=True)
        (folder / "results").mkdir()
        before = os.times()
        seconds = seconds_of(command, folder)
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        figures[name] = {
            "films_per_minute": round(60 * count / seconds, 2),
            "cpu_hours_per_film_hour": round(used / (count * length), 3),
        }
    return figures


def drawing(folder: Path, runs: int = 3) -> dict[str, float]:
    """Return the shortest times of watching one film, without and with an annotated video."""
    film = [*WATCH, "film0.mp4", "-q"]
    plain = min(seconds_of(film, folder) for _ in range(runs))
    drawn = min(seconds_of([*film, "--out", "seen.mp4"], folder) for _ in range(runs))
    start = min(seconds_of([*WATCH, "short.mp4", "-q"], folder) for _ in range(runs))
    return {
        "watch_s": round(plain, 2),
        "watch_and_draw_s": round(drawn, 2),
        "ratio": round(drawn / plain, 3),
        "ratio_without_start": round((drawn - start) / (plain - start), 3),
    }


def resident_mib(process: int) -> float:
    """Return the resident memory of a process and its descendants."""
    total, waiting = 0.0, [process]
    while waiting:
        pid = waiting.pop()
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (OSError, IndexError):
            continue
        total += pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return round(total, 1)


def memory(folder: Path, options: list[str]) -> list[float]:
    """Return ten measurements of the memory, over one run."""
    with subprocess.Popen(
        [*WATCH, "long.mp4", *options],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        measured = []
        while process.poll() is None:
            measured.append(resident_mib(process.pid))
            time.sleep(0.5)
    measured = measured[len(measured) // 20 : -1]
    return [measured[round(k * (len(measured) - 1) / 9)] for k in range(10)]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--films", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--minutes", type=float, default=10.0, help="0: do not measure the memory")
    parser.add_argument("--size", default="320x256")
    a = parser.parse_args(argv)
    width, height = map(int, a.size.split("x"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_film(folder / "film0.mp4", a.seconds, width, height)
        write_film(folder / "short.mp4", 0.1, width, height)
        for k in range(1, a.films):
            shutil.copy(folder / "film0.mp4", folder / f"film{k}.mp4")
        figures = {
            "command": "benchmarks/track_films.py OUT",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
            "torch": torch.__version__,
            "size": a.size,
            "film_seconds": a.seconds,
            "films": a.films,
            "drawing": drawing(folder),
            "throughput": throughput(folder, a.films, a.seconds),
        }
        if a.minutes:
            write_film(folder / "long.mp4", 60 * a.minutes, width, height)
            modes = {mode: memory(folder, options) for mode, options in MODES.items()}
            figures["resident_mib"] = {"minutes": a.minutes, **modes}
    a.out.write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

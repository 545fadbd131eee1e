"""Interleaved timing of contestants, each in its own process; medians and ratios."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .workloads import WORKLOADS

CONTESTANTS = ("canton", "canton_int8", "torch_nn", "torch_loop", "onnx", "keras", "flax")
"""Module names in `compare.peers`; the first one is Canton itself, the others are held against it."""

SETTLING_S = 0.3
"""Before each repetition: a pool of threads, as onnxruntime has one, spins on for a while after its work, and
would take a processor from whoever comes next."""

FOREIGN = ("keras", "flax")
"""Contestants that may live in an interpreter of their own."""


@dataclass
class Timing:
    """One contestant at one workload: seconds per repetition, or why it did not run."""

    contestant: str
    workload: str
    threads: int
    versions: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    refused: str = ""

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


class Worker:
    """A contestant's process; `repeat` runs its work once more."""

    def __init__(self, contestant: str, workload: str, threads: int, python: str) -> None:
        self.timing = Timing(contestant, workload, threads)
        here = Path(__file__).resolve().parent
        path = os.pathsep.join(filter(None, [str(here.parent), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [python, "-m", "compare.worker", contestant, workload, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        answer = self._answer()
        self.timing.versions = answer.get("ready", {})
        self.timing.refused = str(answer.get("refused", ""))

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            return {"refused": f"its process ended with status {self.process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def repeat(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self._answer()
        if "refused" in answer:
            self.timing.refused = str(answer["refused"])
        else:
            self.timing.seconds.append(float(str(answer["seconds"])))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


def check(workloads: Sequence[str], contestants: Sequence[str]) -> None:
    """Raises: ValueError if one of them is unknown."""
    for workload in workloads:
        if workload not in WORKLOADS:
            raise ValueError(f"workload is {workload!r}: it is one of {', '.join(WORKLOADS)}")
    if unknown := set(contestants) - set(CONTESTANTS):
        raise ValueError(f"contestants has {sorted(unknown)}: they are {', '.join(CONTESTANTS)}")


def compare(
    workload: str,
    *,
    threads: int = 1,
    repetitions: int = 7,
    contestants: tuple[str, ...] = CONTESTANTS,
    python: str = "",
) -> Iterator[Timing]:
    """Time the contestants at one workload, in turn: A B C A B C ...

    Args:
        workload: a key of `WORKLOADS`.
        threads: processor threads for everyone.
        repetitions: timed repetitions of each, after two that are not.
        contestants: which of `CONTESTANTS`.
        python: the interpreter for `FOREIGN` contestants, this one if empty.

    Raises:
        ValueError: an unknown workload or contestant.
    """
    check([workload], contestants)
    workers = [
        Worker(name, workload, threads, python if python and name in FOREIGN else sys.executable)
        for name in contestants
    ]
    try:
        for _ in range(repetitions):
            for worker in workers:
                if not worker.timing.refused:
                    time.sleep(SETTLING_S)
                    worker.repeat()
    finally:
        for worker in workers:
            worker.close()
    yield from (worker.timing for worker in workers)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def report(timings: list[Timing], peak: dict[str, float]) -> dict[str, object]:
    """Medians, ratios to Canton's and the share of the floor, as plain data for JSON.

    `peak` is what `floor.measure` gave.
    """
    rows = []
    ours = {(t.workload, t.threads): t.median_s for t in timings if t.contestant == "canton" and t.seconds}
    for timing in timings:
        row: dict[str, object] = asdict(timing)
        if timing.seconds:
            row["median_s"] = timing.median_s
            own = ours.get((timing.workload, timing.threads))
            row["canton_is_faster_by"] = timing.median_s / own if own else None
            if timing.contestant == "canton":
                row["floor_s"] = WORKLOADS[timing.workload].floor_s(peak)
                row["share_of_floor"] = WORKLOADS[timing.workload].floor_s(peak) / timing.median_s
        rows.append(row)
    return {"machine": machine(), "peak": peak, "rows": rows}

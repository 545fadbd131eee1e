"""Interleaved timing of implementations, each in its own process; medians and ratios."""

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

IMPLEMENTATIONS = ("canton", "canton_int8", "torch_nn", "torch_loop", "onnx", "keras", "flax")
"""Module names in `compare.implementations`. The others are compared with the first, Canton."""

PAUSE_S = 0.3
"""Pause before each repetition: the thread pool of onnxruntime keeps spinning after its work."""

MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""glibc settings of every process: reuse freed memory. By default that depends on what was freed before."""

OTHER_INTERPRETER = ("keras", "flax")
"""Implementations that can use another interpreter."""


@dataclass
class Timing:
    """Times of one implementation at one workload: seconds per repetition, or why it did not run."""

    implementation: str
    workload: str
    threads: int
    versions: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    skip_reason: str = ""

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


class Worker:
    """Process of an implementation."""

    def __init__(self, implementation: str, workload: str, threads: int, python: str) -> None:
        self.timing = Timing(implementation, workload, threads)
        here = Path(__file__).resolve().parent
        path = os.pathsep.join(filter(None, [str(here.parent), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [python, "-m", "compare.worker", implementation, workload, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **MALLOC, "PYTHONPATH": path},
        )
        answer = self._answer()
        self.timing.versions = answer.get("versions", {})
        self.timing.skip_reason = str(answer.get("skip_reason", ""))

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            return {"skip_reason": f"the process exited with status {self.process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def repeat(self) -> None:
        """Time one more repetition."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self._answer()
        if "skip_reason" in answer:
            self.timing.skip_reason = str(answer["skip_reason"])
        else:
            self.timing.seconds.append(float(str(answer["seconds"])))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


def check(workloads: Sequence[str], implementations: Sequence[str]) -> None:
    """Raise ValueError if a workload or implementation is unknown."""
    for workload in workloads:
        if workload not in WORKLOADS:
            raise ValueError(f"workload must be one of {', '.join(WORKLOADS)}, got {workload!r}")
    if unknown := set(implementations) - set(IMPLEMENTATIONS):
        raise ValueError(
            f"implementations must be from {', '.join(IMPLEMENTATIONS)}, got {', '.join(sorted(unknown))}"
        )


def compare(
    workload: str,
    *,
    threads: int = 1,
    repetitions: int = 7,
    implementations: tuple[str, ...] = IMPLEMENTATIONS,
    python: str = "",
) -> Iterator[Timing]:
    """Time the implementations at one workload, interleaved: A B C A B C ...

    Args:
        workload: a key of `WORKLOADS`.
        threads: CPU threads of every implementation.
        repetitions: timed repetitions of each, after two warm-up runs.
        implementations: names from `IMPLEMENTATIONS`.
        python: interpreter for `OTHER_INTERPRETER`; the current one if empty.

    Raises:
        ValueError: unknown workload or implementation.
    """
    check([workload], implementations)
    workers = [
        Worker(name, workload, threads, python if python and name in OTHER_INTERPRETER else sys.executable)
        for name in implementations
    ]
    try:
        for _ in range(repetitions):
            for worker in workers:
                if not worker.timing.skip_reason:
                    time.sleep(PAUSE_S)
                    worker.repeat()
    finally:
        for worker in workers:
            worker.close()
    yield from (worker.timing for worker in workers)


def machine() -> dict[str, str]:
    """Return a description of this machine."""
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
    """Return times, medians, speedups of Canton and the share of the roofline, for JSON.

    Args:
        peak: the result of `roofline.measure_peak`.
    """
    rows = []
    ours = {
        (t.workload, t.threads): t.median_s for t in timings if t.implementation == "canton" and t.seconds
    }
    for timing in timings:
        row: dict[str, object] = asdict(timing)
        if timing.seconds:
            row["median_s"] = timing.median_s
            own = ours.get((timing.workload, timing.threads))
            row["canton_speedup"] = timing.median_s / own if own else None
            if timing.implementation == "canton":
                row["roofline_s"] = WORKLOADS[timing.workload].roofline_s(peak)
                row["roofline_share"] = WORKLOADS[timing.workload].roofline_s(peak) / timing.median_s
        rows.append(row)
    return {"machine": machine(), "peak": peak, "rows": rows}

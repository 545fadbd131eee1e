"""The machine's own limits, measured beside the workloads: a matrix product's rate and a copy's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def _median_s(run: Callable[[], object], repetitions: int = 7) -> float:
    run()
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(threads: int) -> dict[str, float]:
    """GF/s of a 1024^3 float32 matrix product and GB/s (read + written) of a 128 MB copy."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
        out = torch.empty(1024, 1024)
        product = _median_s(lambda: torch.mm(a, b, out=out))
        source = torch.randn(32 * 2**20)
        target = torch.empty_like(source)
        copy = _median_s(lambda: target.copy_(source))
    finally:
        torch.set_num_threads(before)
    return {"gflop_per_s": 2 * 1024**3 / product / 1e9, "gb_per_s": 2 * source.nbytes / copy / 1e9}

"""Peak rates of the machine: matrix product, memory and cache."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from canton.kernels.cpu import gemm


def _median_s(run: Callable[[], object], repetitions: int = 7) -> float:
    run()
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure_peak(threads: int) -> dict[str, float]:
    """Measure the peak rates.

    Returns:
        gflop_per_s: GFLOP/s of a 1024^3 float32 matrix product, the faster of torch's and Canton's.
        gb_per_s: GB/s, read and written, of a 128 MB copy.
        cached_gb_per_s: GB/s of repeated reads of 3 MB, which fit into the cache.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
        out = torch.empty(1024, 1024)
        product = _median_s(lambda: torch.mm(a, b, out=out))
        if gemm.is_quicker(1024, 1024, 1024):
            product = min(product, _median_s(lambda: gemm.multiply(a, b)))
        source = torch.randn(32 * 2**20)
        target = torch.empty_like(source)
        copy = _median_s(lambda: target.copy_(source))
        cached_part = source[: 3 * 2**18]
        cached = _median_s(lambda: [cached_part.sum() for _ in range(100)]) / 100
    finally:
        torch.set_num_threads(before)
    return {
        "gflop_per_s": 2 * 1024**3 / product / 1e9,
        "gb_per_s": 2 * source.nbytes / copy / 1e9,
        "cached_gb_per_s": cached_part.nbytes / cached / 1e9,
    }

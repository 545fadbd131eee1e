"""The machine's own limits, measured beside the workloads: of products, of memory, of a cache."""

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


def measure(threads: int) -> dict[str, float]:
    """GF/s of a 1024^3 float32 matrix product, torch's or Canton's own plain one, whichever is faster; GB/s
    (read + written) of a 128 MB copy, and GB/s read over and over from 3 MB, which a cache holds.
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
        near = source[: 3 * 2**18]
        cached = _median_s(lambda: [near.sum() for _ in range(100)]) / 100
    finally:
        torch.set_num_threads(before)
    return {
        "gflop_per_s": 2 * 1024**3 / product / 1e9,
        "gb_per_s": 2 * source.nbytes / copy / 1e9,
        "cached_gb_per_s": near.nbytes / cached / 1e9,
    }

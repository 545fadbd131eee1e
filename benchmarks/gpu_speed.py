"""Speed of the GPU kernels, of cuDNN's GRU, of Python loops and of cells with torch.compile.

    python benchmarks/gpu_speed.py [--out FILE] [--budget SECONDS] [--compile] [--training]

All implementations run interleaved in one process. A time is that of several calls between two CUDA events,
starting with an idle GPU, divided by their number. Rows contain medians, and are printed and written one by
one. The error of an implementation that fails is written to its row.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import canton
from canton import kernels
from compare.implementations.shared_torch import Detector, detector_run
from compare.implementations.torch_loop import LoopConvGRU
from compare.workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results" / "gpu.json"
DEVICE = "cuda"
MIN_TIMINGS, MAX_TIMINGS = 7, 25
"""Number of timings in a median."""
MIN_SLOW_TIMINGS = 3
"""Number of timings of an implementation that exceeds its share of the row's budget."""
TIMING_MS, MAX_CALLS = 5.0, 20
"""A timing has as many calls as take `TIMING_MS`, at most `MAX_CALLS`."""

Call = Callable[[], object]


class Row(NamedTuple):
    """One row of the results table."""

    kind: str  # dense, conv or detector
    steps: int
    batch: int
    size: int  # channels of the input and of the state
    space: tuple[int, ...] = ()
    kernel_size: int = 1
    dtype: str = "float32"
    tf32: bool = False
    backward: bool = True
    compiled: bool = False


DENSE = (
    *((128, 1, 256), (128, 16, 256), (128, 64, 256), (128, 256, 256), (128, 16, 512), (128, 64, 1024)),
    *((128, 256, 1024), (1024, 1, 512), (1024, 16, 1024)),
)
WITH_TF32 = ((128, 64, 256), (128, 64, 1024), (128, 256, 1024))
COMPILED = ((128, 16, 256), (128, 64, 1024))
CONV = ((8, 4, 16, (25, 25), 5), (16, 2, 16, (64, 64), 5), (16, 8, 32, (64, 64), 3))
DETECTOR = Row("detector", 16, 4, 16, (128, 128), 5)


def rows(compiled: bool) -> Iterator[Row]:
    """Yield the rows, the most important first; the last are missing if the budget is too small."""
    for backward in (True, False):
        for dtype in ("float32", "bfloat16"):
            for shape in CONV:
                yield Row("conv", *shape, dtype=dtype, backward=backward)
            if backward and dtype == "float32":
                yield DETECTOR
            for shape in DENSE:
                yield Row("dense", *shape, dtype=dtype, backward=backward)
    for shape in WITH_TF32:
        yield Row("dense", *shape, tf32=True)
    for shape in CONV[1:]:
        yield Row("conv", *shape, tf32=True)
    yield DETECTOR._replace(tf32=True)
    for shape in COMPILED if compiled else ():
        yield Row("dense", *shape, compiled=True)


class CompiledCell(nn.Module):
    """GRU that resets before the map, as a Python loop over a compiled cell; one product of all inputs."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.x = nn.Linear(size, 3 * size)
        self.gates = nn.Linear(size, 2 * size, bias=False)
        self.candidate = nn.Linear(size, size, bias=False)
        self.compiled = torch.compile(self.cell)

    def cell(self, gx: Tensor, h: Tensor) -> Tensor:
        zr, c = gx.split((2 * h.shape[1], h.shape[1]), 1)
        z, r = torch.sigmoid(zr + self.gates(h)).chunk(2, 1)
        return torch.lerp(h, torch.tanh(c + self.candidate(r * h)), z)

    def forward(self, xs: Tensor) -> tuple[Tensor, Tensor]:
        h, outputs = xs.new_zeros(xs.shape[1:]), []
        for gx in self.x(xs).unbind(0):
            h = self.compiled(gx, h)
            outputs.append(h)
        return torch.stack(outputs), h


def run_layer(layer: nn.Module, xs: Tensor, weight: Tensor, backward: bool) -> None:
    """Run a layer once, with the gradients of input and weights if `backward`."""
    if not backward:
        with torch.no_grad():
            layer(xs)
        return
    layer.zero_grad(set_to_none=True)
    xs.grad = None
    layer(xs)[0].backward(weight)


def layers(row: Row) -> dict[str, Callable[[], nn.Module]]:
    """Return functions that make the layers: Canton's kernels, with the same weights, and the others."""
    torch.manual_seed(0)
    dense, sizes = row.kind == "dense", (row.size, row.size)
    first = canton.GRU(*sizes) if dense else canton.ConvGRU2d(*sizes, row.kernel_size)

    def ours(kernel: str) -> nn.Module:
        layer = copy.deepcopy(first)
        layer.kernel = kernel
        return layer

    names = ["auto", "cuda_graphs", "manual", "loop", *(["triton"] if dense else [])]
    found: dict[str, Callable[[], nn.Module]] = {name: partial(ours, name) for name in names}
    if dense:
        found["cudnn"] = lambda: nn.GRU(*sizes)
    else:
        found["loop of two convolutions"] = lambda: LoopConvGRU(*sizes, row.kernel_size)
    if row.compiled:
        found["compiled cell"] = lambda: CompiledCell(row.size)
    return found


def implementations(row: Row, result: dict[str, Any]) -> dict[str, Callable[[], Call]]:
    """Return functions that prepare what a row times.

    They add to `result` the kernel of "auto" and the difference of each kernel from the loop.
    """
    if row.kind == "detector":
        return {name: partial(detector, make, name) for name, make in layers(row).items()}
    dtype = getattr(torch, row.dtype)
    shape = (row.steps, row.batch, row.size, *row.space)
    xs = torch.randn(shape, device=DEVICE, dtype=dtype, requires_grad=row.backward)
    weight = torch.randn(shape, device=DEVICE, dtype=dtype)

    def build(make: Callable[[], nn.Module], name: str) -> Call:
        layer = make().to(DEVICE, dtype)
        if name == "auto":
            result["auto_is"] = layer.which(xs)
        if isinstance(layer, canton.Recurrent):
            with torch.no_grad():
                ys = layer(xs)[0].double()
                layer.kernel = "loop"
                error = (ys - layer(xs)[0].double()).abs().max().item()
            result.setdefault("largest_difference_from_the_loop", {})[name] = float(f"{error:.2g}")
            layer.kernel = name
        return partial(run_layer, layer, xs, weight, row.backward)

    return {name: partial(build, make, name) for name, make in layers(row).items()}


def detector(make: Callable[[], nn.Module], name: str) -> Call:
    """Return a training step of the article's detector."""
    with torch.device(DEVICE):
        return detector_run(Detector(make()), WORKLOADS["W5"])


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def timed_ms(call: Call, calls: int) -> float:
    """Return the milliseconds of one call, from `calls` calls that start with an idle GPU."""
    wait()
    if DEVICE != "cuda":
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) * 1e3 / calls
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(calls):
        call()
    last.record()
    wait()
    return float(first.elapsed_time(last)) / calls


def measure(row: Row, budget_s: float) -> dict[str, Any]:
    """Return the medians of one row, in about `budget_s` seconds."""
    found: dict[str, Any] = {**row._asdict(), "ms": {}, "fastest_ms": {}, "repeats": {}, "errors": {}}
    start = time.perf_counter()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = row.tf32
    kernels.cuda_graphs.clear()
    ready: dict[str, tuple[Call, int]] = {}
    times: dict[str, list[float]] = {}

    def attempt(name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # of any type: the others are still timed
            found["errors"][name] = f"{type(error).__name__}: {error}"[:500]
            ready.pop(name, None)
            times.pop(name, None)

    def prepare(name: str, build: Callable[[], Call]) -> None:
        call = build()
        for _ in range(3):  # a CUDA graph runs, captures and replays
            call()
        call_ms = timed_ms(call, 1)
        ready[name] = call, max(1, min(MAX_CALLS, int(TIMING_MS / max(call_ms, 1e-3))))
        times[name] = []

    def time_once(name: str) -> None:
        call, calls = ready[name]
        times[name].append(timed_ms(call, calls))

    for name, build in implementations(row, found).items():
        attempt(name, partial(prepare, name, build))
    spent = dict.fromkeys(ready, 0.0)
    share = max(0.0, budget_s - (time.perf_counter() - start)) / max(1, len(ready))
    for turn in range(MAX_TIMINGS):
        for name in list(ready):
            enough = turn >= MIN_TIMINGS or (turn >= MIN_SLOW_TIMINGS and spent[name] > 2 * share)
            if enough and (spent[name] > share or len(times[name]) < turn):
                continue
            before = time.perf_counter()
            attempt(name, partial(time_once, name))
            spent[name] += time.perf_counter() - before
    for name, ms in times.items():
        found["ms"][name] = round(statistics.median(ms), 4)
        found["fastest_ms"][name] = round(min(ms), 4)
        found["repeats"][name] = len(ms)
    found["times_as_fast"] = {
        ours: {other: round(ms / found["ms"][ours], 2) for other, ms in found["ms"].items() if other != ours}
        for ours in ("auto", "cuda_graphs", "triton")
        if ours in found["ms"]
    }
    return found | {"seconds": round(time.perf_counter() - start, 2)}


def format_row(found: dict[str, Any]) -> str:
    """Return a row as one line of text."""
    space = "x".join(map(str, found["space"]))
    shape = f"{found['kind']} T{found['steps']} B{found['batch']} {found['size']} {space}"
    mode = f"{found['dtype']}{' tf32' if found['tf32'] else ''} {'both' if found['backward'] else 'forward'}"
    times = "  ".join(f"{name} {ms:.3f}" for name, ms in found["ms"].items())
    errors = "".join(f"\n    {name}: {text[:160]}" for name, text in found["errors"].items())
    return f"{shape:32} {mode:18} ms: {times}  (auto is {found.get('auto_is')}){errors}"


def environment() -> dict[str, Any]:
    """Return the device and the versions."""
    return {
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else DEVICE,
        "canton": canton.__version__,
        "torch": torch.__version__,
        "triton": next((found.version for found in distributions(name="triton")), None),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if DEVICE == "cuda" else None,
        "settings": "TF32 off for products and convolutions, except in rows with tf32; cudnn.benchmark off",
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--budget", type=float, default=100.0, help="seconds (default: 100)")
    parser.add_argument("--compile", action="store_true", help="also time a compiled cell, at two sizes")
    parser.add_argument("--training", action="store_true", help="only rows with gradients")
    options = parser.parse_args(argv)
    start, results = time.perf_counter(), []
    selected = [row for row in rows(options.compile) if row.backward or not options.training]
    weights = [3 if row.steps > 500 else 1 for row in selected]
    for k, row in enumerate(selected):
        left = options.budget - (time.perf_counter() - start)
        if left <= 0:
            print(f"out of time: {len(selected) - k} rows skipped", flush=True)
            break
        try:
            found = measure(row, left * weights[k] / sum(weights[k:]))
        except Exception as error:  # such as out of memory for the input
            found = {**row._asdict(), "errors": {"all": f"{type(error).__name__}: {error}"[:500]}}
            print(found, flush=True)
        else:
            print(format_row(found), flush=True)
        results.append(found)
        result = {**environment(), "rows_skipped": len(selected) - k - 1, "rows": results}
        (partial_file := options.out.with_suffix(".part")).write_text(
            json.dumps(result, indent=1) + "\n", "utf-8"
        )
        partial_file.replace(options.out)


if __name__ == "__main__":
    main()

"""Speed of every dense cell and its counterpart in torch.nn, forward and with all gradients, on one thread.

    python benchmarks/cells_speed.py [--out FILE]

Interleaved, medians of seven, in processor time. The sizes are those of W3a of `make bench`: 128 steps,
batch 64, 256 -> 256.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import canton
from compare.runner import machine

STEPS, BATCH, SIZE = 128, 64, 256
RESULTS = Path(__file__).parent / "results" / "cells_speed.json"


def layers() -> dict[str, tuple[nn.Module, nn.Module, dict[str, Tensor]]]:
    """Return Canton's layer, torch.nn's layer, and the call options of Canton's."""
    lengths = torch.randint(1, STEPS + 1, (BATCH,))
    reset = torch.rand(STEPS, BATCH) < 0.01
    return {
        "GRU": (canton.GRU(SIZE, SIZE), nn.GRU(SIZE, SIZE), {}),
        "GRU, reset after": (canton.GRU(SIZE, SIZE, reset="after"), nn.GRU(SIZE, SIZE), {}),
        "LSTM": (canton.LSTM(SIZE, SIZE), nn.LSTM(SIZE, SIZE), {}),
        "RNN": (canton.RNN(SIZE, SIZE), nn.RNN(SIZE, SIZE), {}),
        "MGU, torch.nn: GRU": (canton.MGU(SIZE, SIZE), nn.GRU(SIZE, SIZE), {}),
        "GRU with lengths": (canton.GRU(SIZE, SIZE), nn.GRU(SIZE, SIZE), {"lengths": lengths}),
        "GRU with reset": (canton.GRU(SIZE, SIZE), nn.GRU(SIZE, SIZE), {"reset": reset}),
    }


def measure_s(
    layer: nn.Module, xs: Tensor, options: dict[str, Tensor], weight: Tensor, backward: bool
) -> float:
    layer.zero_grad(set_to_none=True)
    xs.grad = None
    start = time.process_time()
    with torch.set_grad_enabled(backward):
        ys = layer(xs, **options)[0]
        if backward:
            ys.backward(weight)
    return time.process_time() - start


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    out = parser.parse_args(argv).out
    torch.set_num_threads(1)
    xs = torch.randn(STEPS, BATCH, SIZE, requires_grad=True)
    weight, rows = torch.randn(STEPS, BATCH, SIZE), []
    for name, (ours, theirs, call_options) in layers().items():
        for backward in (False, True):
            runs: list[list[float]] = [[], []]
            for k in range(8):
                for seconds, layer, options in zip(runs, (ours, theirs), (call_options, {}), strict=True):
                    seconds += [measure_s(layer, xs, options, weight, backward)] if k else []
            canton_s, torch_s = map(statistics.median, runs)
            rows.append({"cell": name, "backward": backward, "canton_s": canton_s, "torch_s": torch_s})
            direction = "both" if backward else "forward"
            print(f"{name:20} {direction:8} {canton_s * 1e3:6.0f} ms  {torch_s / canton_s:.2f} x")
    versions = {"canton": canton.__version__, "torch": torch.__version__}
    out.write_text(json.dumps({"machine": machine(), "versions": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

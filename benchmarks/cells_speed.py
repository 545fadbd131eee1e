"""Every dense cell beside its nearest in torch.nn, forward and with all gradients, on one thread.

Interleaved, medians of seven, in processor time, so that other work on the machine tells less. The sizes are
those of W3a of `make bench`: 128 steps, batch 64, 256 -> 256.
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


def contestants() -> dict[str, tuple[nn.Module, nn.Module, dict[str, Tensor]]]:
    """Canton's layer, torch.nn's, and the options of a call of the first."""
    lengths = torch.randint(1, STEPS + 1, (BATCH,))
    reset = torch.rand(STEPS, BATCH) < 0.01
    return {
        "GRU": (canton.GRU(SIZE, SIZE), nn.GRU(SIZE, SIZE), {}),
        "GRU, reset after": (canton.GRU(SIZE, SIZE, reset="after"), nn.GRU(SIZE, SIZE), {}),
        "LSTM": (canton.LSTM(SIZE, SIZE), nn.LSTM(SIZE, SIZE), {}),
        "RNN": (canton.RNN(SIZE, SIZE), nn.RNN(SIZE, SIZE), {}),
        "MGU, beside a GRU": (canton.MGU(SIZE, SIZE), nn.GRU(SIZE, SIZE), {}),
        "GRU with lengths": (canton.GRU(SIZE, SIZE), nn.GRU(SIZE, SIZE), {"lengths": lengths}),
        "GRU with restarts": (canton.GRU(SIZE, SIZE), nn.GRU(SIZE, SIZE), {"reset": reset}),
    }


def once_s(layer: nn.Module, xs: Tensor, options: dict[str, Tensor], weigh: Tensor, backward: bool) -> float:
    layer.zero_grad(set_to_none=True)
    xs.grad = None
    start = time.process_time()
    with torch.set_grad_enabled(backward):
        ys = layer(xs, **options)[0]
        if backward:
            ys.backward(weigh)
    return time.process_time() - start


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    out = parser.parse_args(argv).out
    torch.set_num_threads(1)
    xs = torch.randn(STEPS, BATCH, SIZE, requires_grad=True)
    weigh, rows = torch.randn(STEPS, BATCH, SIZE), []
    for name, (ours, theirs, options) in contestants().items():
        for backward in (False, True):
            runs: list[list[float]] = [[], []]
            for k in range(8):
                for seconds, layer, given in zip(runs, (ours, theirs), (options, {}), strict=True):
                    seconds += [once_s(layer, xs, given, weigh, backward)] if k else []
            mine, other = map(statistics.median, runs)
            rows.append({"cell": name, "backward": backward, "canton_s": mine, "torch_s": other})
            print(
                f"{name:20} {'both' if backward else 'forward':8} {mine * 1e3:6.0f} ms  {other / mine:.2f} x"
            )
    versions = {"canton": canton.__version__, "torch": torch.__version__}
    out.write_text(json.dumps({"machine": machine(), "versions": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

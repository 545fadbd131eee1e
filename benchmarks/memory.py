"""Measure memory and time per step of a sequence, forward and backward, by its length.

python benchmarks/memory.py

Memory: bytes of the storages that autograd saves in forward, without parameters and input; the cost of a step
is the slope between two lengths. Time: processor time of forward and backward, lengths interleaved.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import canton
from canton.core.recurrent import Recurrent
from compare.runner import machine

BATCH, HIDDEN = 8, 64
LENGTHS = (128, 512, 2048)
LAYERS: dict[str, tuple[Callable[..., Recurrent], tuple[int, ...]]] = {
    "GRU": (lambda **o: canton.GRU(HIDDEN, HIDDEN, **o), ()),
    "GRU, reset after": (lambda **o: canton.GRU(HIDDEN, HIDDEN, reset="after", **o), ()),
    "LSTM": (lambda **o: canton.LSTM(HIDDEN, HIDDEN, **o), ()),
    "MGU": (lambda **o: canton.MGU(HIDDEN, HIDDEN, **o), ()),
    "RNN": (lambda **o: canton.RNN(HIDDEN, HIDDEN, **o), ()),
    "minGRU": (lambda **o: canton.MinGRU(HIDDEN, HIDDEN, **o), ()),
    "ConvGRU2d, k5, 5 x 5": (lambda **o: canton.ConvGRU2d(16, 16, 5, **o), (5, 5)),
}


def saved_bytes(layer: Recurrent, xs: Tensor) -> int:
    """Return the bytes of the storages that a forward run saves for backward."""
    known = {t.untyped_storage().data_ptr() for t in (xs, *layer.parameters())}
    found: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(t)  # keep its address from being reused
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        layer(xs)
    return sum(found.values())


def seconds(layer: Recurrent, xs: Tensor) -> float:
    layer.zero_grad()
    start = time.process_time()
    layer(xs)[0].sum().backward()
    return time.process_time() - start


def main(repetitions: int = 5) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for name, (make, space) in LAYERS.items():
        for options in ({}, {"recompute": True}, {"kernel": "loop"}):
            layer = make(**options)
            inputs = {n: torch.randn(n, BATCH, layer.input_size, *space, requires_grad=True) for n in LENGTHS}
            unit = BATCH * layer.state_sizes[0] * (space[0] * space[1] if space else 1)  # numbers of one gate
            short, long = (saved_bytes(layer, inputs[n]) for n in (512, 2048))
            slope = (long - short) / (2048 - 512)
            times: dict[int, list[float]] = {n: [] for n in LENGTHS}
            for k in range(repetitions + 1):
                for n, xs in inputs.items():
                    elapsed = seconds(layer, xs)
                    if k:
                        times[n].append(elapsed)
            per_step_us = {n: statistics.median(v) / n * 1e6 for n, v in times.items()}
            row = {
                "layer": name,
                "options": options,
                "ran": layer.which(inputs[128]),
                "saved_bytes_per_step": slope,
                "numbers_per_hidden_unit": slope / 4 / unit,
                "us_per_step": per_step_us,
                "us_per_step_2048_over_128": per_step_us[2048] / per_step_us[128],
            }
            rows.append(row)
            print(
                f"{name:22} {options!s:22} {row['ran']:7} {slope:9.0f} bytes a step "
                f"({slope / 4 / unit:4.1f} per unit)   {per_step_us[128]:7.1f} us a step at 128, "
                f"{per_step_us[2048]:7.1f} at 2048",
                flush=True,
            )
    versions = {"canton": canton.__version__, "torch": torch.__version__}
    out = Path(__file__).parent / "results" / "memory.json"
    out.write_text(json.dumps({"machine": machine(), "versions": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

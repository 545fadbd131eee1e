"""A convolutional GRU of few channels, most of them no multiple of a vector, on one thread.

    python benchmarks/thin_speed.py [--out FILE]

frames: one frame at a time without gradients: along the lines of the picture (gru_planar.h) beside the way
    that vectors run across channels, which a run with lengths takes, and beside the reference loop of torch's
    convolutions. windows: four frames of four rows forward and back, across channels beside the ways in
    torch.

Interleaved, medians of 15, in processor time. The input half is done before: the steps are what is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from canton import ConvGRU2d
from canton.core.recurrent import loop
from canton.kernels import Result, Run, cpu
from canton.kernels import steps as manual
from compare.runner import machine

RESULTS = Path(__file__).parent / "results" / "thin_speed.json"
SPACE = (128, 160)
WINDOW = (4, 4, 64, 64)
"""Steps, rows, height and width."""


def run_of(layer: ConvGRU2d, lengths: Tensor | None = None) -> Run:
    hidden = layer.state_sizes[0]
    gx = torch.randn(1, 1, *SPACE, 3 * hidden).movedim(-1, 2)  # as the input's convolution leaves it
    state = (torch.rand(1, *SPACE, hidden).movedim(-1, 1),)
    return Run(layer.cells[0].spec(), gx, state, state, lengths=lengths)


def milliseconds(hidden: int, kernel: int) -> dict[str, float]:
    layer = ConvGRU2d(hidden, hidden, kernel)
    run, across = run_of(layer), run_of(layer, torch.tensor([1]))
    with torch.no_grad():
        assert cpu.is_quick(run)
    ways = {
        "along_lines": lambda: cpu.execute(run, loop),
        "across_channels": lambda: cpu.execute(across, loop),
        "loop": lambda: loop(run, layer.cells[0]),
    }
    with torch.inference_mode():
        return medians(ways)


def milliseconds_of_training(hidden: int) -> dict[str, float]:
    layer = ConvGRU2d(hidden, hidden, 3)
    steps, rows, *space = WINDOW
    gx = torch.randn(steps, rows, *space, 3 * hidden).movedim(-1, 2).requires_grad_()
    state = (torch.rand(rows, *space, hidden).movedim(-1, 1),)
    run = Run(layer.cells[0].spec(), gx, state, state)
    plain = partial(loop, cell=layer.cells[0])
    assert cpu.unsupported_reason(run) is None

    def back(execute: Callable[[], Result]) -> None:
        ys, _ = execute()
        ys.backward(torch.ones_like(ys))

    return medians(
        {
            "cpp": lambda: back(lambda: cpu.execute(run, plain)),
            "manual": lambda: back(lambda: manual.execute(run, plain)),
            "loop": lambda: back(lambda: plain(run)),
        }
    )


def medians(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(17):
        for name, run in ways.items():
            begun = time.process_time()
            run()
            taken[name].append(1000 * (time.process_time() - begun))
    return {f"{name}_ms": round(statistics.median(each[2:]), 3) for name, each in taken.items()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    out = parser.parse_args(argv).out
    torch.set_num_threads(1)
    frames, windows = [], []
    best = cpu.instruction_set()
    for name, lanes in cpu.LANES.items():
        if lanes > cpu.LANES[best]:
            continue
        cpu.use_instruction_set(name)
        for hidden in (1, 2, 4, 7):
            for kernel in (3, 5):
                if 2 * hidden <= lanes:
                    row = {"instructions": name, "channels": hidden, "kernel": kernel}
                    frames.append({**row, **milliseconds(hidden, kernel)})
                    print(frames[-1], flush=True)
        for hidden in (4, 8, 12, 15, 16, 20):
            windows.append({"instructions": name, "channels": hidden, **milliseconds_of_training(hidden)})
            print(windows[-1], flush=True)
    cpu.use_instruction_set(best)
    figures = {"machine": machine(), "torch": torch.__version__, "picture": SPACE, "window": WINDOW}
    out.write_text(json.dumps({**figures, "frames": frames, "windows": windows}, indent=1))


if __name__ == "__main__":
    main()

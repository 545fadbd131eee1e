"""Speed of a ConvGRU with few channels, on one thread.

    python benchmarks/gru_planar_speed.py [--out FILE]

frames: one frame without gradients. "planar" is the kernel with vectors along the rows of the image
(gru_planar.h); "channels_last" is the kernel with vectors over the channels, which a run with lengths takes;
"loop" is the reference loop.

windows: four frames of a batch of four, forward and backward, with the kernels "cpp", "manual" and "loop".

Interleaved, medians of 15, in processor time. The convolution of the input is not timed.
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

RESULTS = Path(__file__).parent / "results" / "gru_planar_speed.json"
SPACE = (128, 160)
WINDOW = (4, 4, 64, 64)
"""Steps, batch, height and width."""


def make_run(layer: ConvGRU2d, lengths: Tensor | None = None) -> Run:
    """Return a run of one frame."""
    hidden = layer.state_sizes[0]
    gx = torch.randn(1, 1, *SPACE, 3 * hidden).movedim(-1, 2)  # the layout of the input's convolution
    state = (torch.rand(1, *SPACE, hidden).movedim(-1, 1),)
    return Run(layer.cells[0].spec(), gx, state, state, lengths=lengths)


def measure_frame(hidden: int, kernel: int) -> dict[str, float]:
    """Return the milliseconds of one frame."""
    layer = ConvGRU2d(hidden, hidden, kernel)
    planar, channels_last = make_run(layer), make_run(layer, torch.tensor([1]))
    with torch.no_grad():
        assert cpu.is_quick(planar)
    functions = {
        "planar": lambda: cpu.execute(planar, loop),
        "channels_last": lambda: cpu.execute(channels_last, loop),
        "loop": lambda: loop(planar, layer.cells[0]),
    }
    with torch.inference_mode():
        return medians(functions)


def measure_training(hidden: int) -> dict[str, float]:
    """Return the milliseconds of a window, forward and backward."""
    layer = ConvGRU2d(hidden, hidden, 3)
    steps, batch, *space = WINDOW
    gx = torch.randn(steps, batch, *space, 3 * hidden).movedim(-1, 2).requires_grad_()
    state = (torch.rand(batch, *space, hidden).movedim(-1, 1),)
    run = Run(layer.cells[0].spec(), gx, state, state)
    reference = partial(loop, cell=layer.cells[0])
    assert cpu.unsupported_reason(run) is None

    def forward_backward(execute: Callable[[], Result]) -> None:
        ys, _ = execute()
        ys.backward(torch.ones_like(ys))

    return medians(
        {
            "cpp": lambda: forward_backward(lambda: cpu.execute(run, reference)),
            "manual": lambda: forward_backward(lambda: manual.execute(run, reference)),
            "loop": lambda: forward_backward(lambda: reference(run)),
        }
    )


def medians(functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median milliseconds of functions that run interleaved, after two warm-up rounds."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(17):
        for name, run in functions.items():
            start = time.process_time()
            run()
            times[name].append(1000 * (time.process_time() - start))
    return {f"{name}_ms": round(statistics.median(each[2:]), 3) for name, each in times.items()}


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
                    frames.append({**row, **measure_frame(hidden, kernel)})
                    print(frames[-1], flush=True)
        for hidden in (4, 8, 12, 15, 16, 20):
            windows.append({"instructions": name, "channels": hidden, **measure_training(hidden)})
            print(windows[-1], flush=True)
    cpu.use_instruction_set(best)
    figures = {"machine": machine(), "torch": torch.__version__, "image": SPACE, "window": WINDOW}
    out.write_text(json.dumps({**figures, "frames": frames, "windows": windows}, indent=1))


if __name__ == "__main__":
    main()

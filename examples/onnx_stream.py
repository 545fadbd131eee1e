"""Export one step of a ConvGRU and of the tracking model to ONNX, and run them with onnxruntime.

The state is an input and an output of the step. Prints the largest difference from Canton's numbers.
"""

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from canton import ConvGRU2d
from canton.interop.onnx.export import export_step
from canton.track import Architecture, TrackModel
from canton.track.onnx import export_model

FRAMES = 20


def layer() -> float:
    """Return the largest difference over a stream through two ConvGRU layers."""
    export_step(rnn := ConvGRU2d(3, 8, 3, num_layers=2), "step.onnx")
    session = onnxruntime.InferenceSession("step.onnx", providers=["CPUExecutionProvider"])
    (x_in, h_in), (y_out, h_out) = session.get_inputs(), session.get_outputs()
    state, theirs, worst = None, np.zeros((2, 1, 8, 24, 32), np.float32), 0.0
    with torch.no_grad():
        for x in torch.rand(FRAMES, 1, 3, 24, 32):
            ours, state = rnn.step(x, state)
            y, theirs = session.run([y_out.name, h_out.name], {x_in.name: x.numpy(), h_in.name: theirs})
            worst = max(worst, float(np.abs(y - ours.numpy()).max()))
    return worst


def tracker() -> float:
    """Return the same for the untrained network of `canton track`, whose first block halves the frame."""
    model = TrackModel(Architecture()).eval()
    export_model(model, "track.onnx")
    session = onnxruntime.InferenceSession("track.onnx", providers=["CPUExecutionProvider"])
    states = {"early_0": (model.architecture.early, 2), "h_0": (model.architecture.memory, model.stride)}
    theirs = {name: np.zeros((1, 1, c, 64 // s, 96 // s), np.float32) for name, (c, s) in states.items()}
    wanted, state, worst = [f"{name}_after" for name in theirs], None, 0.0
    with torch.no_grad():
        for frame in torch.rand(FRAMES, 1, 3, 64, 96):
            ours, state = model.step(frame, state)
            maps, *after = session.run(["maps", *wanted], {"frames": frame[None].numpy(), **theirs})
            theirs = dict(zip(theirs, after, strict=True))
            worst = max(worst, float(np.abs(maps[0] - ours.numpy()).max()))
    return worst


def main() -> None:
    torch.manual_seed(0)
    for name, worst in (("ConvGRU2d", layer()), ("tracking model", tracker())):
        size = Path("step.onnx" if name == "ConvGRU2d" else "track.onnx").stat().st_size
        print(f"{name}: {FRAMES} frames, largest difference {worst:.1e}; the file has {size:,} bytes")


if __name__ == "__main__":
    main()

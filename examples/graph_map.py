"""A map that Canton does not have: a graph convolution. Every cell of Canton runs over it as it stands.

Each node mixes its own channels and the mean of its neighbours' (Kipf & Welling 2017, arXiv:1609.02907). The
task: a pulse wanders along a ring of 12 stations; from what they show, tell where it will be next.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import canton


class GraphConvolution(nn.Module):
    """(B, c_in, nodes) -> (B, c_out, nodes), linear but for the bias."""

    def __init__(self, adjacency: Tensor, c_in: int, c_out: int, bias: bool) -> None:
        super().__init__()
        self.register_buffer("mean", adjacency / adjacency.sum(0).clamp(min=1))
        self.own = nn.Conv1d(c_in, c_out, 1, bias=bias)
        self.others = nn.Conv1d(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.own(x) + self.others(x @ self.mean)


def graph(adjacency: Tensor) -> Callable[[int, int, bool], nn.Module]:
    """The map over a graph; entry (i, j) of `adjacency` is the weight of i among j's neighbours."""
    return lambda c_in, c_out, bias: GraphConvolution(adjacency, c_in, c_out, bias)


def main() -> None:
    torch.manual_seed(0)
    ring = torch.eye(12).roll(1, 0) + torch.eye(12).roll(-1, 0)
    rnn = canton.GRU(1, 16, map=graph(ring))
    read = nn.Conv1d(16, 1, 1)
    optimizer = torch.optim.Adam([*rnn.parameters(), *read.parameters()], 1e-2)
    for _ in range(150):
        start, way = torch.randint(12, (32,)), torch.randint(2, (32,)) * 2 - 1
        place = (
            start + torch.arange(9)[:, None] * way
        ) % 12  # the way can be told only from two steps: memory
        xs = nn.functional.one_hot(place, 12).float().unsqueeze(2)
        ys, _ = rnn(xs[:-1])
        scores = read(ys.flatten(0, 1)).squeeze(1)
        loss = nn.functional.cross_entropy(scores[32:], place[2:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (scores[32:].argmax(1) == place[2:].flatten()).float().mean()
    print(f"next station told right: {100 * right:.1f} % (guessing the way: 50 %)")


if __name__ == "__main__":
    main()

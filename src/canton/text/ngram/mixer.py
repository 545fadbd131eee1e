"""What evidence is worth: a byte that was seen to follow gets a learned number added to its logit.

For the bytes b that table k saw follow the run at hand, n(k) times in all, b itself c(k, b) times::

    logit(b) = network(b) + sum over k of  gate(k) * vote[k, found, step(n(k)), step(c(k, b))]
    gate     = 2 sigmoid(W seen + a)

`found` is how many tables know the run: a short run says less where a longer one speaks. step() puts numbers
that differ little into one cell. So smoothing and discounting, which n-gram models take from theory (Chen &
Goodman 1999), are learned; and the network learns what the counts leave open. A sum of what many counts say,
weighed by what is at hand, is PAQ's logistic mixing (Mahoney 2005), over bytes in place of bits.

Of what was read just now (`canton.text.ngram.history`) c is the rank: 1 for the latest follower. A byte that
followed several times then gets several votes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from canton.text.types import Evidence

COUNT_STEPS = (1, 2, 3, 4, 5, 7, 10, 16, 32, 64, 128)
TOTAL_STEPS = (1, 2, 3, 4, 5, 7, 10, 16, 32, 64, 128, 256, 1024)
_COUNT_STEPS = torch.tensor(COUNT_STEPS, dtype=torch.int32)
_TOTAL_STEPS = torch.tensor(TOTAL_STEPS, dtype=torch.int32)


def counted() -> Tensor:
    """What a count is worth before training, (totals, counts): the more the better, and of few the better."""
    counts, totals = torch.tensor([0.0, *COUNT_STEPS]), torch.tensor([1.0, *TOTAL_STEPS])
    return torch.log1p(6 * counts / totals[:, None].sqrt())


def latest() -> Tensor:
    """What a rank is worth before training, (totals, ranks): the later the better."""
    ranks = torch.tensor([1.0, *COUNT_STEPS])
    return (0.5 / ranks).expand(len(TOTAL_STEPS) + 1, -1)


class Votes(nn.Module):
    """Adds what `tables` tables say to logits.

    Args:
        seen: how many channels the gate sees.
        start: what a count, or rank, is worth before training: `counted()` or `latest()`.
    """

    def __init__(self, tables: int, seen: int, start: Tensor) -> None:
        super().__init__()
        self.tables = tables
        strength = torch.full((tables, tables + 1), 0.15)
        strength[torch.arange(tables), torch.arange(tables) + 1] = 0.8  # the longest run that is known
        self.vote = nn.Embedding(strength.numel() * start.numel(), 1)
        with torch.no_grad():
            self.vote.weight.copy_((strength[:, :, None, None] * start).reshape(-1, 1))
        self.gate = nn.Linear(seen, tables)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, logits: Tensor, evidence: Evidence, seen: Tensor) -> Tensor:
        """Logits (T, B, 256) and what the head saw, (T, B, seen), to logits."""
        followers, counts, totals = evidence
        found = (totals > 0).sum(1, keepdim=True)
        cell = torch.arange(self.tables) * (self.tables + 1) + found
        cell = cell * (len(TOTAL_STEPS) + 1) + torch.bucketize(totals, _TOTAL_STEPS, right=True)
        cell = cell[..., None] * (len(COUNT_STEPS) + 1) + torch.bucketize(counts, _COUNT_STEPS, right=True)
        device = logits.device
        votes = self.vote(cell.to(device))[..., 0] * (counts > 0).to(device)
        gates = 2 * torch.sigmoid(self.gate(seen)).flatten(0, 1)
        added = (votes * gates[..., None]).flatten(1)
        total = logits.flatten(0, 1).to(added.dtype)
        return total.scatter_add(1, followers.flatten(1).long().to(device), added).view_as(logits)

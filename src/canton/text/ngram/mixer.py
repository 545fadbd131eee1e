"""Mixing of n-gram statistics into the network's logits.

In table k the current n-gram has n(k) occurrences, and byte b followed it c(k, b) times. Then::

    logit(b) = network(b) + sum over k of  gate(k) * score[k, known, bucket(n(k)), bucket(c(k, b))]
    gate     = 2 sigmoid(W features + a)

`known` is the number of tables that hold the current n-gram: a short n-gram counts less where a longer one
is known. bucket() maps similar numbers to one row. The scores learn the smoothing and discounting that
n-gram models set by hand (Chen & Goodman 1999). A gated sum of many models' statistics is the logistic mixing
of PAQ (Mahoney 2005), here over bytes instead of bits.

For the history (`canton.text.ngram.history`) c is a rank, 1 for the latest follower. A byte that followed
several times then gets several scores.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from canton.text.types import NgramStats

COUNT_EDGES = (1, 2, 3, 4, 5, 7, 10, 16, 32, 64, 128)
TOTAL_EDGES = (1, 2, 3, 4, 5, 7, 10, 16, 32, 64, 128, 256, 1024)
"""Lower edges of the buckets."""
_COUNT_EDGES = torch.tensor(COUNT_EDGES, dtype=torch.int32)
_TOTAL_EDGES = torch.tensor(TOTAL_EDGES, dtype=torch.int32)


def initial_count_scores() -> Tensor:
    """Return the scores of counts before training, (totals, counts): they rise with count / sqrt(total)."""
    counts = torch.tensor([0.0, *COUNT_EDGES], device="cpu")
    totals = torch.tensor([1.0, *TOTAL_EDGES], device="cpu")
    return torch.log1p(6 * counts / totals[:, None].sqrt())


def initial_rank_scores() -> Tensor:
    """Return the scores of ranks before training, (totals, ranks): the latest follower has the largest."""
    ranks = torch.tensor([1.0, *COUNT_EDGES], device="cpu")
    return (0.5 / ranks).expand(len(TOTAL_EDGES) + 1, -1)


class NgramMixer(nn.Module):
    """A layer that adds the scores of `tables` tables to logits.

    Args:
        tables: number of tables.
        features: channels that the gate reads.
        scores: scores before training, `initial_count_scores()` or `initial_rank_scores()`.
    """

    def __init__(self, tables: int, features: int, scores: Tensor) -> None:
        super().__init__()
        self.tables = tables
        # on the CPU also while the model is built on the meta device, whose arithmetic imports torch._dynamo
        strength = torch.full((tables, tables + 1), 0.15, device="cpu")
        strength.diagonal(1).fill_(0.8)  # the longest n-gram that is known
        self.scores = nn.Embedding(strength.numel() * scores.numel(), 1)
        with torch.no_grad():
            self.scores.weight.copy_((strength[:, :, None, None] * scores).reshape(-1, 1))
        self.gate = nn.Linear(features, tables)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, logits: Tensor, stats: NgramStats, features: Tensor) -> Tensor:
        """Return the logits (T, B, 256) with the scores added.

        Args:
            logits: (T, B, 256).
            stats: of the T * B positions.
            features: (T, B, features), what the output layer reads.
        """
        followers, counts, totals = stats
        known = (totals > 0).sum(1, keepdim=True)
        row = torch.arange(self.tables) * (self.tables + 1) + known
        row = row * (len(TOTAL_EDGES) + 1) + torch.bucketize(totals, _TOTAL_EDGES, right=True)
        row = row[..., None] * (len(COUNT_EDGES) + 1) + torch.bucketize(counts, _COUNT_EDGES, right=True)
        device = logits.device
        scores = self.scores(row.to(device))[..., 0] * (counts > 0).to(device)
        gates = 2 * torch.sigmoid(self.gate(features)).flatten(0, 1)
        added = (scores * gates[..., None]).flatten(1)
        total = logits.flatten(0, 1).to(added.dtype)
        return total.scatter_add(1, followers.flatten(1).long().to(device), added).view_as(logits)

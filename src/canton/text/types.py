"""The statistics that n-gram tables and the history give to the mixer."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

MAX_FOLLOWERS = 8
"""Followers that are kept for each n-gram."""


class NgramStats(NamedTuple):
    """What K tables know at N positions; zeros where a table does not hold the n-gram.

    Attributes:
        followers: uint8 (N, K, MAX_FOLLOWERS), bytes that followed.
        counts: int32 (N, K, MAX_FOLLOWERS), how often each did (`ngram.table`), or its rank from the latest,
            1 first (`ngram.history`).
        totals: int32 (N, K), how often the n-gram occurred.
    """

    followers: Tensor
    counts: Tensor
    totals: Tensor

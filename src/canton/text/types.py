"""The statistics that n-gram tables and the history give to the mixer."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

MAX_FOLLOWERS = 8
"""Followers stored for each n-gram."""


class NgramStats(NamedTuple):
    """Statistics of K tables at N positions; zeros where a table does not have the n-gram.

    Attributes:
        followers: uint8 (N, K, MAX_FOLLOWERS), bytes that followed.
        counts: int32 (N, K, MAX_FOLLOWERS), number of times that each followed (`ngram.table`), or its rank,
            1 for the latest (`ngram.history`).
        totals: int32 (N, K), occurrences of the n-gram.
    """

    followers: Tensor
    counts: Tensor
    totals: Tensor

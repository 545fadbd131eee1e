"""What is known of the bytes that may come: who followed before, and how often, or how long ago."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

SLOTS = 8
"""So many followers are told of each run."""


class Evidence(NamedTuple):
    """What K tables know of N places, zeros where a table does not know the run.

    followers uint8, counts int32 (N, K, SLOTS): which bytes followed, and how often
    (`canton.text.ngram.table`),
    or as which from the last (`canton.text.ngram.history`); totals int32 (N, K): how often the run was.
    """

    followers: Tensor
    counts: Tensor
    totals: Tensor

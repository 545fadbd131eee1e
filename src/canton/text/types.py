"""Results that modules of different layers exchange."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

Bytes = npt.NDArray[np.uint8]

MAX_FOLLOWERS = 8
"""Followers stored for each n-gram."""


START_BYTE = 0x0A
"""The byte before a text (a newline), from which its first byte is predicted."""


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


class SampledBytes(NamedTuple):
    """A block of sampled bytes.

    Attributes:
        text: its n bytes.
        bits: (n,) surprisal of each under the model's logits.
        logits, state, utf8_state: after the block, for the next call.
    """

    text: bytes
    bits: npt.NDArray[np.float32]
    logits: npt.NDArray[np.floating]
    state: tuple[Tensor, ...]
    utf8_state: int | None

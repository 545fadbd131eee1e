"""Which table row a place in a text belongs to: the last n bytes, or the last words, as one whole number.

All numbers stay within 0 .. 2**63 - 1, so that NumPy, torch, ONNX and C++ agree on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LONGEST = 7
"""A run of up to so many bytes is a number below 2**56, and no two runs share one."""

WORD_REACH = 23
"""Words are looked for in the last byte and this many before it; of what reaches further back the end counts.
"""

HASH_MASK = 0xFFFFFFFF
HASH_PRIME = 0x01000193  # FNV-1's, for 32 bits
HASH_MULTIPLIER = 0x2C1B3C6D
HASH_SHIFTS = (15, 13)
"""The 32-bit hash. engine/ngram.h has the same numbers and is checked against them."""

MAX_WORDS = 3
"""The most words before the one under way that a key covers."""


class Run(NamedTuple):
    """What a place is known by: its last `n` bytes or, with `words`, the word under way and `n` before it."""

    n: int
    words: bool = False

    @property
    def reach(self) -> int:
        """How many bytes before the last it looks at."""
        return WORD_REACH if self.words else self.n - 1


def numbers(window: Tensor, reach: int, runs: Sequence[Run]) -> list[Tensor]:
    """The numbers of the runs that end at each byte from `reach` on: int64 (reach + T, B) to (T, B) each."""
    most = max((run.n for run in runs if run.words), default=None)
    words = None if most is None else _words(window, reach, most)
    return [_joined(words, run.n) if run.words and words else _bytes(window, reach, run.n) for run in runs]


def finalize_hash(value: Tensor) -> Tensor:
    """Mix a 32-bit hash, so that one changed bit of `value` changes all bits of the result."""
    first, second = HASH_SHIFTS
    value = ((value ^ (value >> first)) * HASH_MULTIPLIER) & HASH_MASK
    return value ^ (value >> second)


def hash_rows(window: Tensor, n: int, rows: int) -> Tensor:
    """Return the table row, in [0, rows), of every run of `n` bytes in `window`: (T + n - 1, B) to (T, B)."""
    steps = len(window) - n + 1
    value = torch.zeros_like(window[:steps])
    for k in range(n):
        value = (value * HASH_PRIME + window[k : k + steps] + 1) & HASH_MASK
    return finalize_hash(value) % rows


def _bytes(window: Tensor, reach: int, n: int) -> Tensor:
    steps = len(window) - reach
    value = torch.zeros_like(window[:steps])
    for k in range(reach - n + 1, reach + 1):
        value = (value << 8) | window[k : k + steps]
    return value


class _Words(NamedTuple):
    """Numbers of the word under way (0: none), of the byte that ended the last one, if so, and of the words
    before.
    """

    under_way: Tensor
    end: Tensor
    before: list[Tensor]


def _words(window: Tensor, reach: int, most: int) -> _Words:
    """A word is a run of ASCII letters (case aside), digits, apostrophes and all bytes from 128 on."""
    steps = len(window) - reach
    small = torch.where((window >= 65) & (window <= 90), window + 32, window)
    inside = (small >= 97) & (small <= 122) | (small >= 128) | (small >= 48) & (small <= 57) | (small == 39)
    none = torch.zeros_like(window[:steps])
    under_way, before = none, [none] * most
    for k in range(reach - WORD_REACH, reach + 1):
        here = inside[k : k + steps]
        ended = ~here & (under_way != 0)
        for j in range(most - 1, -1, -1):
            before[j] = torch.where(ended, before[j - 1] if j else under_way, before[j])
        under_way = torch.where(here, (under_way * HASH_PRIME + small[k : k + steps] + 1) & HASH_MASK, none)
    last = slice(reach, reach + steps)
    return _Words(under_way, torch.where(inside[last], none, window[last] + 1), before)


def _joined(words: _Words, n: int) -> Tensor:
    value = words.under_way
    for part in (words.end, *words.before[:n]):
        value = (finalize_hash(value) * HASH_PRIME + part) & HASH_MASK
    return finalize_hash(value)

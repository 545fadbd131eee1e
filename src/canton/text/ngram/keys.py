"""N-gram keys: one integer for the last n bytes, or the last words, at a position of a text.

All integers stay in [0, 2**63), so that NumPy, torch, ONNX and C++ agree on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MAX_BYTES = 7
"""Largest number of bytes of an n-gram. Their key is the bytes themselves, below 2**56."""

WORD_LOOKBACK = 23
"""Words are read from the last byte and this many before it. A longer word is cut at its start."""

HASH_MASK = 0xFFFFFFFF
HASH_PRIME = 0x01000193  # FNV-1's, for 32 bits
HASH_MULTIPLIER = 0x2C1B3C6D
HASH_SHIFTS = (15, 13)
"""The 32-bit hash. The C++ engine repeats these numbers; the library is checked when it loads."""

MAX_WORDS = 3
"""Largest number of words before the current one that a key covers."""


class NgramKind(NamedTuple):
    """A kind of n-gram: the last `n` bytes or, with `words`, the current word and the `n` before it."""

    n: int
    words: bool = False

    @property
    def lookback(self) -> int:
        """Bytes before the last one that the key depends on."""
        return WORD_LOOKBACK if self.words else self.n - 1


NO_START = 1 << 40
"""The age of a byte whose text starts before the window."""


def ages(starts: Tensor) -> Tensor:
    """Return the number of bytes since the latest start, int64 (T, B), for booleans (T, B)."""
    at = torch.arange(len(starts), device=starts.device)[:, None].expand(starts.shape)
    latest = torch.where(starts, at, -NO_START).cummax(0).values
    return at - latest


def compute_keys(
    window: Tensor, lookback: int, kinds: Sequence[NgramKind], age: Tensor | None = None
) -> list[Tensor]:
    """Return the keys of each kind at every byte from `lookback` on: int64 (lookback + T, B) to (T, B).

    Args:
        window: int64 bytes.
        lookback: bytes before the first key.
        kinds: the kinds of n-gram.
        age: (T, B), bytes since the text's start; what is before the start counts as zeros. None: no start.
    """
    max_words = max((kind.n for kind in kinds if kind.words), default=None)
    words = None if max_words is None else _words(window, lookback, max_words, age)
    return [
        _word_key(words, kind.n) if kind.words and words else _byte_key(window, lookback, kind.n, age)
        for kind in kinds
    ]


def finalize_hash(value: Tensor) -> Tensor:
    """Mix a 32-bit hash, so that one changed bit of `value` changes all bits of the result."""
    first, second = HASH_SHIFTS
    value = ((value ^ (value >> first)) * HASH_MULTIPLIER) & HASH_MASK
    return value ^ (value >> second)


def hash_rows(window: Tensor, n: int, rows: int, age: Tensor | None = None) -> Tensor:
    """Return the table row, in [0, rows), of every `n` bytes in `window`: (T + n - 1, B) to (T, B).

    age: see `compute_keys`.
    """
    steps = len(window) - n + 1
    value = torch.zeros_like(window[:steps])
    for k in range(n):
        part = _visible(window[k : k + steps], n - 1 - k, age)
        value = (value * HASH_PRIME + part + 1) & HASH_MASK
    return finalize_hash(value) % rows


def _visible(part: Tensor, distance: int, age: Tensor | None) -> Tensor:
    """Return the bytes `distance` before the current ones, zero where they are before the text's start."""
    return part if age is None or not distance else part.masked_fill(age < distance, 0)


def _byte_key(window: Tensor, lookback: int, n: int, age: Tensor | None) -> Tensor:
    steps = len(window) - lookback
    key = torch.zeros_like(window[:steps])
    for k in range(lookback - n + 1, lookback + 1):
        key = (key << 8) | _visible(window[k : k + steps], lookback - k, age)
    return key


class _Words(NamedTuple):
    """Hashes of the current word (0: none) and of the words before it.

    `end` is 1 + the byte that ended the last word, or 0 within a word.
    """

    current: Tensor
    end: Tensor
    before: list[Tensor]


def _words(window: Tensor, lookback: int, max_words: int, age: Tensor | None) -> _Words:
    """Hash the words. A word is ASCII letters (case ignored), digits, apostrophes and bytes >= 128."""
    steps = len(window) - lookback
    lower = torch.where((window >= 65) & (window <= 90), window + 32, window)
    inside = (lower >= 97) & (lower <= 122) | (lower >= 128) | (lower >= 48) & (lower <= 57) | (lower == 39)
    none = torch.zeros_like(window[:steps])
    current, before = none, [none] * max_words
    for k in range(lookback - WORD_LOOKBACK, lookback + 1):
        here = _visible(inside[k : k + steps], lookback - k, age)
        ended = ~here & (current != 0)
        for j in range(max_words - 1, -1, -1):
            before[j] = torch.where(ended, before[j - 1] if j else current, before[j])
        current = torch.where(here, (current * HASH_PRIME + lower[k : k + steps] + 1) & HASH_MASK, none)
    last = slice(lookback, lookback + steps)
    return _Words(current, torch.where(inside[last], none, window[last] + 1), before)


def _word_key(words: _Words, n: int) -> Tensor:
    key = words.current
    for part in (words.end, *words.before[:n]):
        key = (finalize_hash(key) * HASH_PRIME + part) & HASH_MASK
    return finalize_hash(key)

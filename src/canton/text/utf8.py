"""A finite automaton of eight states for well-formed UTF-8.

A state is the number of bytes that the current character still needs. After four of the lead bytes the next
byte has a narrower range, which excludes overlong forms (E0, F0), surrogates (ED) and
characters beyond U+10FFFF (F4).

Source: The Unicode Standard 16.0, table 3-7, "Well-Formed UTF-8 Byte Sequences".
"""

from __future__ import annotations

import numpy as np

from canton.errors import UserError

START = 0
"""The state between characters."""

_RULES = [  # state, first byte, last byte, state after
    (START, 0x00, 0x7F, START),
    (START, 0xC2, 0xDF, 1),
    (START, 0xE0, 0xE0, 4),
    (START, 0xE1, 0xEC, 2),
    (START, 0xED, 0xED, 5),
    (START, 0xEE, 0xEF, 2),
    (START, 0xF0, 0xF0, 6),
    (START, 0xF1, 0xF3, 3),
    (START, 0xF4, 0xF4, 7),
    (1, 0x80, 0xBF, START),
    (2, 0x80, 0xBF, 1),
    (3, 0x80, 0xBF, 2),
    (4, 0xA0, 0xBF, 1),
    (5, 0x80, 0x9F, 1),
    (6, 0x90, 0xBF, 2),
    (7, 0x80, 0x8F, 2),
]

NEXT = np.full((8, 256), -1, np.int8)
"""The next state, by [state, byte]; -1: the byte is not well-formed UTF-8."""

for _state, _first, _last, _after in _RULES:
    NEXT[_state, _first : _last + 1] = _after

NEEDS = np.array([0, 1, 2, 3, 2, 2, 3, 3])
"""Bytes that each state needs to complete the character."""

FITS = np.stack([(NEXT >= 0) & (NEEDS[NEXT] <= room) for room in range(4)])  # NEEDS[-1] is masked
"""Whether a byte's character fits in the bytes left, by [min(bytes left - 1, 3), state, byte]."""


def allowed(state: int, remaining: int) -> np.ndarray:
    """Return the bytes that may come next, (256,) bool, if `remaining` bytes are left, this one included.

    A character that does not fit in `remaining` is not allowed, so the text ends with a whole character. If
    no byte fits (the current character needs more than `remaining`), any byte that continues it is allowed.
    """
    fits: np.ndarray = FITS[min(remaining - 1, 3), state]
    return fits if fits.any() else NEXT[state] >= 0


def advance(state: int, text: bytes) -> int:
    """Return the state after `text`.

    Raises:
        UserError: names the first byte that is not well-formed UTF-8.
    """
    for place, byte in enumerate(text):
        state = int(NEXT[state, byte])
        if state < 0:
            raise UserError(f"byte {place} (0x{byte:02x}) is not valid UTF-8")
    return state

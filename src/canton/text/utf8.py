"""Which byte may come next in well-formed UTF-8: a finite automaton of eight states.

A state says what the character under way still needs. Besides "one, two or three more", four lead bytes
narrow the range of the byte after them, which keeps out overlong forms (E0, F0), surrogates (ED) and what
lies beyond U+10FFFF (F4). Source: The Unicode Standard 16.0, table 3-7, "Well-Formed UTF-8 Byte Sequences".
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
"""State and byte to state; -1 where the byte would break UTF-8."""

for _state, _first, _last, _after in _RULES:
    NEXT[_state, _first : _last + 1] = _after

NEEDS = np.array([0, 1, 2, 3, 2, 2, 3, 3])
"""How many bytes each state needs until the character is whole."""

FITS = np.stack([(NEXT >= 0) & (NEEDS[NEXT] <= room) for room in range(4)])  # NEEDS[-1] is not looked at
"""By room - 1 (at most 3), state and byte: whether the byte leaves room for the rest of its character."""


def allowed(state: int, room: int) -> np.ndarray:
    """(256,) booleans: the bytes that may come next when `room` more bytes will be written, this one
    included.

    A character that would not be whole within `room` is not begun, so whoever follows this ends between
    characters. Where nothing fits (a character was already under way, and `room` is too small), what
    continues it is allowed.
    """
    fits: np.ndarray = FITS[min(room - 1, 3), state]
    return fits if fits.any() else NEXT[state] >= 0


def advance(state: int, text: bytes) -> int:
    """The state after `text`.

    Raises: UserError naming the first byte that breaks UTF-8.
    """
    for place, byte in enumerate(text):
        state = int(NEXT[state, byte])
        if state < 0:
            raise UserError(f"byte {place} (0x{byte:02x}) is not valid UTF-8")
    return state

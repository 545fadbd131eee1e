"""The UTF-8 automaton against Python's decoder and the number of well-formed strings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canton.errors import UserError
from canton.text import utf8


def well_formed(text: bytes) -> bool:
    try:
        return utf8.advance(utf8.START, text) == utf8.START
    except UserError:
        return False


def test_every_character_is_accepted() -> None:
    for point in [*range(0x3000), *range(0x3000, 0x110000, 61), 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]:
        if not 0xD800 <= point < 0xE000:
            assert well_formed(chr(point).encode()), hex(point)


def test_nothing_else_is_accepted() -> None:
    """The number of accepted strings of up to six bytes equals that of sequences of characters."""
    ways = (utf8.NEXT[:, :, None] == np.arange(8)).sum(1).astype(object)  # state x state: number of bytes
    characters = [128, 0x800 - 0x80, 0x10000 - 0x800 - 0x800, 0x110000 - 0x10000]  # by length; no surrogates
    reached = np.array([1, 0, 0, 0, 0, 0, 0, 0], dtype=object)
    strings = [1]
    for length in range(1, 7):
        reached = reached @ ways
        strings.append(sum(c * strings[length - k - 1] for k, c in enumerate(characters) if k < length))
        assert reached[utf8.START] == strings[length]


@pytest.mark.parametrize(
    "text", [b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"a\x80"]
)
def test_malformed_bytes_are_rejected(text: bytes) -> None:
    assert not well_formed(text)


@given(st.binary(max_size=8))
def test_it_agrees_with_pythons_decoder(text: bytes) -> None:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        assert not well_formed(text)
    else:
        assert well_formed(text)


@given(st.integers(0, 40), st.randoms(use_true_random=False))
def test_allowed_bytes_end_with_a_whole_character(length: int, random: object) -> None:
    state, text = utf8.START, b""
    for room in range(length, 0, -1):
        choices = np.flatnonzero(utf8.allowed(state, room))
        heavy = choices[choices >= 0x80]  # otherwise nearly all samples are ASCII
        byte = int(random.choice((heavy if len(heavy) else choices).tolist()))  # type: ignore[attr-defined]
        text += bytes([byte])
        state = int(utf8.NEXT[state, byte])
    assert len(text) == length
    assert text.decode("utf-8") is not None


def test_a_character_that_does_not_fit_may_be_continued() -> None:
    assert np.flatnonzero(utf8.allowed(2, 1)).tolist() == list(range(0x80, 0xC0))


def test_the_position_of_the_malformed_byte_is_named() -> None:
    with pytest.raises(UserError, match=r"byte 2 \(0xff\)"):
        utf8.advance(utf8.START, b"ab\xff")

"""The UTF-8 automaton against Python's decoder and the number of well-formed strings."""

from __future__ import annotations

from collections import defaultdict

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


LEADS: dict[int, list[int]] = {  # the first bytes of all characters, by the bytes that follow
    0: list(range(0x80)),
    1: list(range(0xC2, 0xE0)),
    2: list(range(0xE0, 0xF0)),
    3: list(range(0xF0, 0xF5)),
}
EDGES = (0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0xFFFFF, 0x10FFFF)


@pytest.fixture(scope="module")
def next_bytes() -> dict[bytes, set[int]]:
    """The bytes that follow each start of a character, from Python's encoder."""
    points = {*range(0, 0x110000, 64), *(edge // 64 * 64 + k for edge in EDGES for k in range(64))}
    found: dict[bytes, set[int]] = defaultdict(set)
    for text in (chr(point).encode() for point in points if not 0xD800 <= point < 0xE000):
        for k in range(1, len(text)):
            found[text[:k]].add(text[k])
    return found


@pytest.mark.parametrize("room", range(1, 7))
def test_a_character_starts_only_where_it_fits(next_bytes: dict[bytes, set[int]], room: int) -> None:
    """A character that has begun may always be continued, whether it fits or not."""
    expected = [lead for more, leads in LEADS.items() if more < room for lead in leads]
    assert np.flatnonzero(utf8.allowed(utf8.START, room)).tolist() == expected
    for text in (chr(edge).encode() for edge in EDGES):
        for start in (text[:k] for k in range(1, len(text))):
            state = utf8.advance(utf8.START, start)
            assert set(np.flatnonzero(utf8.allowed(state, room)).tolist()) == next_bytes[start]


def test_a_character_that_does_not_fit_may_be_continued() -> None:
    assert np.flatnonzero(utf8.allowed(2, 1)).tolist() == list(range(0x80, 0xC0))


def test_the_position_of_the_malformed_byte_is_named() -> None:
    with pytest.raises(UserError, match=r"byte 2 \(0xff\)"):
        utf8.advance(utf8.START, b"ab\xff")

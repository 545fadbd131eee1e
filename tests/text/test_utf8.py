"""The automaton against Python's own decoder, and against the count of all well-formed strings."""

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


def test_every_character_passes() -> None:
    for point in [*range(0x3000), *range(0x3000, 0x110000, 61), 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]:
        if not 0xD800 <= point < 0xE000:
            assert well_formed(chr(point).encode()), hex(point)


def test_and_nothing_else_does() -> None:
    """Strings of up to six bytes are as many as there are sequences of characters that make them up."""
    ways = (
        (utf8.NEXT[:, :, None] == np.arange(8)).sum(1).astype(object)
    )  # state x state: how many bytes lead there
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
def test_what_it_keeps_out(text: bytes) -> None:
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
def test_any_walk_through_what_is_allowed_ends_between_characters(length: int, random: object) -> None:
    state, text = utf8.START, b""
    for room in range(length, 0, -1):
        choices = np.flatnonzero(utf8.allowed(state, room))
        heavy = choices[choices >= 0x80]  # else almost all draws would be ASCII
        byte = int(random.choice((heavy if len(heavy) else choices).tolist()))  # type: ignore[attr-defined]
        text += bytes([byte])
        state = int(utf8.NEXT[state, byte])
    assert len(text) == length
    assert text.decode("utf-8") is not None


def test_a_character_under_way_may_outlive_the_room() -> None:
    assert np.flatnonzero(utf8.allowed(2, 1)).tolist() == list(range(0x80, 0xC0))


def test_the_place_of_the_fault_is_named() -> None:
    with pytest.raises(UserError, match=r"byte 2 \(0xff\)"):
        utf8.advance(utf8.START, b"ab\xff")

"""Prompts, escape sequences and logit biases as a user types them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from canton.errors import UserError
from canton.io.atomic import os_error_reason

ESCAPES = {
    b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\", b'"': b'"', b"'": b"'",
}  # fmt: skip
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.?))", re.DOTALL)


def encode(text: str, name: str, *, escape: bool) -> bytes:
    """Return the bytes of an argument, with its escape sequences replaced if `escape`.

    Args:
        text: the argument; bytes that are not UTF-8 are surrogates.
        name: what an error calls it.

    Raises:
        UserError: an unknown escape sequence.
    """
    return unescape(os.fsencode(text), name) if escape else os.fsencode(text)


def unescape(text: bytes, name: str) -> bytes:
    r"""Replace `\n`, `\r`, `\t`, `\0`, `\\`, `\"`, `\'` and `\xNN`, a byte in hexadecimal.

    Raises:
        UserError: another escape sequence.
    """

    def replace(match: re.Match[bytes]) -> bytes:
        if match[1] is not None:
            return bytes.fromhex(match[1].decode())
        if match[2] not in ESCAPES:
            found = match[0].decode(errors="replace")
            raise UserError(
                f"{name} must have only the escapes \\n \\r \\t \\0 \\\\ \\\" \\' \\xNN, got {found!r}"
            )
        return ESCAPES[match[2]]

    return _ESCAPE.sub(replace, text)


def read_prompts(file: Path, *, escape: bool) -> list[bytes]:
    """Return the lines of a file, without their line ends; `-`: of standard input.

    Raises:
        UserError: the file cannot be read or has no line.
    """
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}: {os_error_reason(error)}") from error
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    if not lines:
        raise UserError(f"prompts must have at least one line, got an empty file {file}")
    lines = [line.removesuffix(b"\r") for line in lines]
    return [unescape(line, f"prompts line {k}") for k, line in enumerate(lines, 1)] if escape else lines


def parse_logit_bias(words: list[str]) -> tuple[tuple[int, float], ...]:
    """Return the pairs (byte, bias) of `BYTE+BIAS` and `BYTE-BIAS`, the form of llama.cpp.

    Raises:
        UserError: a word of another form.
    """
    pairs = []
    for word in words:
        match = re.fullmatch(r"(0x[0-9A-Fa-f]+|\d+)([+-]\d+(?:\.\d*)?)", word)
        if match is None:
            raise UserError(
                f"logit_bias must be BYTE+BIAS or BYTE-BIAS, such as 10-5 or 0x41+2.5, got {word}"
            )
        pairs.append((int(match[1], 0 if match[1].startswith("0x") else 10), float(match[2])))
    return tuple(pairs)

"""Compression of a text with a byte model: an arithmetic coder over the model's probabilities.

The coder is the range coder of the package constriction (Bamler 2022, arXiv:2201.01741).
A compressed text is:

    4 bytes "CNTZ", 1 byte version, 16 bytes digest of the model, 8 bytes length of the text,
    8 bytes BLAKE2b of the text, the coder's 32-bit words, 8 bytes BLAKE2b of all before

Numbers are little-endian. The probabilities come from `canton.text.engine.exact`, so that any machine can
decompress what another compressed.
"""

from __future__ import annotations

import hashlib
import json
import struct

import numpy as np
import numpy.typing as npt

from canton.errors import UserError, require
from canton.text.engine.abi import FREQUENCY_BITS
from canton.text.engine.exact import ExactStream, Frequencies
from canton.text.model import ByteModel
from canton.text.ngram.table import pack_tables
from canton.text.types import START_BYTE

MAGIC, VERSION = b"CNTZ", 1
HEADER = struct.Struct("<4sB16sQ8s")
CHECKSUM_SIZE = 8

CHUNK = 4096
"""Bytes to compress at a time."""

MIN_BITS = 255 / 2**FREQUENCY_BITS
"""A lower bound of the bits of a byte: the other 255 bytes have a frequency of at least 1."""


def compress(model: ByteModel, text: bytes) -> bytes:
    """Return `text` compressed; `decompress` needs the same model.

    Its size is that of `canton.text.score` and 45 to 56 bytes.

    Args:
        model: a GRU model in float32.
        text: any bytes.

    Raises:
        UserError: the C++ engine cannot run the model.
        MissingExtra: constriction is not installed.
    """
    stream = require("constriction", extra="compress").stream
    exact, encoder = ExactStream(model), stream.queue.RangeEncoder()
    family = stream.model.Categorical(perfect=False)
    inputs = bytes([START_BYTE]) + text[:-1]
    for start in range(0, len(text), CHUNK):
        targets = np.frombuffer(text[start : start + CHUNK], np.uint8).astype(np.int32)
        frequencies = exact.predict(inputs[start : start + len(targets)])
        encoder.encode(targets, family, _probabilities(frequencies))
    words: bytes = encoder.get_compressed().astype("<u4").tobytes()
    header = HEADER.pack(MAGIC, VERSION, model_digest(model), len(text), _checksum(text))
    return header + words + _checksum(header + words)


def decompress(model: ByteModel, data: bytes) -> bytes:
    """Return the text that `compress` compressed.

    Args:
        model: the model it was compressed with.
        data: what `compress` returned.

    Raises:
        UserError: the data are damaged, or were compressed with another model.
        MissingExtra: constriction is not installed.
    """
    stream = require("constriction", extra="compress").stream
    if len(data) < HEADER.size + CHECKSUM_SIZE or data[: len(MAGIC)] != MAGIC:
        raise UserError("the file was not compressed by canton text compress")
    _, version, digest, size, checksum = HEADER.unpack_from(data)
    if version != VERSION:
        raise UserError(f"the file must be of version {VERSION}, got {version}: use a newer Canton")
    if _checksum(data[:-CHECKSUM_SIZE]) != data[-CHECKSUM_SIZE:]:
        raise UserError("the file was changed after it was compressed: its checksum does not match")
    expected = model_digest(model)
    if digest != expected:
        raise UserError(
            f"the file was compressed with another model, digest {digest.hex()}, got {expected.hex()}: "
            "give that model"
        )
    words = data[HEADER.size : -CHECKSUM_SIZE]
    if len(words) % 4 or size * MIN_BITS > 8 * len(words):
        raise UserError(f"the file has {len(words)} bytes of code, too few or cut for a text of {size} bytes")
    decoder = stream.queue.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))
    exact, text, last = ExactStream(model), bytearray(), bytes([START_BYTE])
    for _ in range(size):
        probabilities = _probabilities(exact.predict(last))[0]
        byte = int(decoder.decode(stream.model.Categorical(probabilities, perfect=False)))
        text.append(byte)
        last = bytes([byte])
    if _checksum(text) != checksum:
        raise UserError(
            "the decompressed text is not the one that was compressed: its checksum does not match"
        )
    return bytes(text)


def model_digest(model: ByteModel) -> bytes:
    """Return 16 bytes that identify the model's architecture, weights and n-gram tables."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(model.architecture.to_json(), sort_keys=True).encode())
    tensors = model.state_dict() | ({} if model.ngrams is None else pack_tables(model.ngrams))
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.numpy().tobytes())
    return digest.digest()


def _probabilities(frequencies: Frequencies) -> npt.NDArray[np.float32]:
    """Return the frequencies divided by their sum, a power of two: float32 holds them exactly."""
    return np.multiply(frequencies, 2.0**-FREQUENCY_BITS, dtype=np.float32)


def _checksum(data: bytes | bytearray) -> bytes:
    return hashlib.blake2b(data, digest_size=CHECKSUM_SIZE).digest()

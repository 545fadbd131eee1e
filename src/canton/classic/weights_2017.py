"""Weight files of the 2017 library: read them without executing anything, and write them.

0.1.22 writes a compressed npz with one array ``w`` of arrays. Older versions write an npy with np.save: an
array of arrays, or one plain array of floats if all weights have the same shape. The order is that of
`Can.get_weights`, then the variables.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from canton.classic.pickle_arrays import Array, dump_arrays, load_arrays, one_line
from canton.errors import UserError
from canton.io.atomic import atomic_write, os_error_reason

# NumPy evaluates the header as a Python literal, which can fail in all these ways.
_HEADER_ERRORS = (
    *(ValueError, SyntaxError, TypeError, OverflowError, KeyError, IndexError, AttributeError),
    *(RecursionError, MemoryError, tokenize.TokenError),
)


def read_canton01(path: Path, *, max_bytes: int = 2**30) -> list[Array]:
    """Return the arrays of a 2017 weight file, npz or npy, in order.

    Args:
        path: the file.
        max_bytes: the number of bytes it may unpack to, at least 8 times the file's size. A zip of a few
        kilobytes can unpack to gigabytes; trained weights hardly compress.

    Raises:
        UserError: the file cannot be read, is damaged, too large, or contains anything but arrays of numbers.
    """
    try:
        limit = max(max_bytes, 8 * path.stat().st_size)
        with path.open("rb") as file:
            if file.read(2) == b"PK":
                return _npz(path, limit)
            file.seek(0)
            return _npy(_at_most(file, limit, path), str(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {os_error_reason(error)}") from error
    except MemoryError as error:
        raise UserError(f"{path} does not fit into memory") from error


def write_canton01(path: Path, arrays: list[Array]) -> None:
    """Write `arrays` as 0.1.22 does, for it and for ``np.load(path, allow_pickle=True)["w"]``.

    Raises:
        UserError: the file cannot be written; an existing file is unchanged.
        ValueError: an array is not of numbers.
    """
    for index, array in enumerate(arrays):
        if array.dtype.kind not in "biuf":
            raise ValueError(f"weight {index} must have a type of numbers, got {array.dtype}")
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (len(arrays),)})
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", header.getvalue() + dump_arrays(arrays))


def _npz(path: Path, max_bytes: int) -> list[Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            if "w.npy" not in archive.namelist():
                raise UserError(f"{path} is not a weight file of the 2017 library: it has no array w")
            entry = archive.getinfo("w.npy")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UserError(f"{path} has a compression that the 2017 library does not write")
            with archive.open(entry) as file:
                content = _at_most(file, max_bytes, path)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is a damaged npz file: {one_line(error)}") from error
    return _npy(content, str(path))


def _at_most(file: IO[bytes], max_bytes: int, path: Path) -> bytes:
    content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise UserError(f"{path} unpacks to more than {max_bytes:,} bytes")
    return content


def _npy(content: bytes, source: str) -> list[Array]:
    file = io.BytesIO(content)
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except _HEADER_ERRORS as error:
        raise UserError(f"{source} is a damaged npy file: {one_line(error)}") from error
    rest = content[file.tell() :]
    if dtype.hasobject:
        return load_arrays(rest, source)
    if dtype.kind not in "biuf" or not shape or any(size < 0 for size in shape):
        raise UserError(f"{source} has an array of type {dtype} and shape {shape}, not weights")
    if math.prod(shape) * dtype.itemsize != len(rest):
        raise UserError(f"{source} has the shape {shape} and type {dtype}, and {len(rest)} bytes")
    if math.prod(shape) == 0 and shape[0] > 0:
        raise UserError(f"{source} has an empty array of shape {shape}")
    array = np.frombuffer(rest, dtype).reshape(shape, order="F" if fortran else "C")
    return list(array.astype(dtype.newbyteorder("="), order="C"))

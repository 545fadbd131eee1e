"""Reader of HDF5 files that may be damaged or malicious."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

from canton.errors import UserError, require

_GZIP, _SHUFFLE, _FLETCHER32 = 1, 2, 3
"""HDF5's numbers of its filters."""


class SafeReader:
    """A reader of possibly malicious HDF5 files: each object once, a limited number of bytes in all.

    Keras's files have one hard link to each object. Arrays may be in chunks, filtered by gzip, shuffle and
    fletcher32. Other features of HDF5 can loop, fill the memory, or read other files.

    Raises:
        UserError: the file uses them.
    """

    def __init__(self, path: Path, file: Any, max_bytes: int) -> None:
        self.h5py = require("h5py", extra="weights")
        self.path, self.max_bytes, self.bytes_left = path, max_bytes, max_bytes
        self.name_by_address = {self.h5py.h5o.get_info(file.id).addr: "/"}

    def child(self, group: Any, key: str) -> Any:
        """Return the group or array named `key` in `group`, or None."""
        link = key.encode("utf-8", "surrogateescape")
        if not hasattr(group, "items") or not group.id.links.exists(link):
            return None
        name = f"{group.name.rstrip('/')}/{key}"
        if "/" in key or group.id.links.get_info(link).type != self.h5py.h5l.TYPE_HARD:
            raise self.refusal(name, "is a link")
        child = group[key]
        first = self.name_by_address.setdefault(self.h5py.h5o.get_info(child.id).addr, name)
        if name != first:
            raise self.refusal(name, f"is {first} again")
        return child

    def array(self, group: Any, path: str) -> Any:
        """Return the numbers of the array at `path` below `group`."""
        name, dataset = f"{group.name}/{path}", group
        for key in path.split("/"):
            dataset = self.child(dataset, key)
        if not isinstance(dataset, self.h5py.Dataset) or dataset.dtype.kind not in "fiu":
            raise self.refusal(name, "is not an array of numbers")
        if dataset.is_virtual or dataset.external:  # before the size: asking for it opens the other file
            raise self.refusal(name, "is in another file")
        self.bytes_left -= dataset.nbytes
        if self.bytes_left < 0:  # an array that was never filled takes no space in the file
            raise self.refusal(name, f"has {self.max_bytes - self.bytes_left:,} bytes, more than the file")
        if not dataset.chunks:
            return dataset[()]
        return self._chunked(dataset, name)

    def _chunked(self, dataset: Any, name: str) -> Any:
        """Return the numbers of an array in chunks.

        HDF5's own gzip filter unpacks a chunk to any size, so the chunks are unpacked here.
        """
        numpy = require("numpy", extra="weights")
        properties, chunk = dataset.id.get_create_plist(), dataset.chunks
        filters = [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]
        if len(set(filters)) != len(filters) or not set(filters) <= {_GZIP, _SHUFFLE, _FLETCHER32}:
            raise self.refusal(name, "is compressed by more than gzip, shuffle and fletcher32")
        size = math.prod(chunk) * dataset.dtype.itemsize
        if size > self.max_bytes:
            raise self.refusal(name, f"has chunks of {size:,} bytes, more than the file")
        array = numpy.full(dataset.shape, dataset.fillvalue, dataset.dtype)
        for k in range(dataset.id.get_num_chunks()):
            start = dataset.id.get_chunk_info(k).chunk_offset
            skipped, packed = dataset.id.read_direct_chunk(start)
            for position, code in reversed(list(enumerate(filters))):
                if not skipped >> position & 1:
                    packed = _unfilter(packed, code, size, dataset.dtype.itemsize)
            if len(packed) != size:
                raise self.refusal(name, f"has a chunk of {len(packed):,} bytes, expected {size:,}")
            where = tuple(slice(a, a + n) for a, n in zip(start, chunk, strict=True))
            target = array[where]
            whole = numpy.frombuffer(packed, dataset.dtype).reshape(chunk)
            array[where] = whole[tuple(slice(n) for n in target.shape)]
        return array

    def text(self, item: Any, key: str) -> str:
        """Return the attribute `key`, a string."""
        if item.attrs.get_id(key).shape != ():
            raise self.refusal(item.name, f"has several {key}")
        value = item.attrs[key]
        return value.decode() if isinstance(value, bytes) else str(value)

    def texts(self, item: Any, key: str) -> list[str]:
        """Return the attribute `key`, a list of strings."""
        shape = item.attrs.get_id(key).shape
        if len(shape) != 1 or shape[0] > self.max_bytes:
            raise self.refusal(item.name, f"must have a list of {key}")
        return [v.decode() if isinstance(v, bytes) else str(v) for v in item.attrs[key]]

    def layer_name(self, variables: Any, default: str) -> str:
        """Return the name stored in a layer's `vars`, or `default`."""
        if variables is None or "name" not in variables.attrs:
            return default
        if variables.attrs.get_id("name").shape != ():
            raise self.refusal(variables.name, "has several names")
        return str(variables.attrs["name"])

    def refusal(self, name: str, problem: str) -> UserError:
        """Return a one-line error for an object; whitespace in its name is collapsed."""
        return UserError(f"{self.path} is not a Keras 3 file: {' '.join(f'{name} {problem}'.split())}")


def _unfilter(packed: bytes, code: int, size: int, itemsize: int) -> bytes:
    """Undo one filter of a chunk of `size` bytes."""
    if code == _GZIP:
        return zlib.decompressobj().decompress(packed, size + 4)  # fletcher32 appends 4 bytes
    if code == _FLETCHER32:
        return packed[:-4]
    count = len(packed) // itemsize
    plain = bytearray(packed)  # HDF5 leaves a rest of less than one item as it is
    for k in range(itemsize):  # shuffle stores the first byte of every item, then the second of every item
        plain[k : count * itemsize : itemsize] = packed[k * count : (k + 1) * count]
    return bytes(plain)

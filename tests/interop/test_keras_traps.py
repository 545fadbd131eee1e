"""Malicious Keras files: refused in one line and in little memory; no other file is read."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import canton
from canton.errors import UserError
from canton.interop import keras_files

h5py = pytest.importorskip("h5py", reason="h5py is not installed (canton-torch[weights])")

FLOATS = {"dtype": "f4"}


def other(file: Any) -> Path:
    """Return a valid file beside `file`, which must not be read."""
    path = Path(file.filename).with_name("other.weights.h5")
    keras_files.save_keras(canton.GRU(3, 4, reset="after"), path)
    return path


def forked(file: Any) -> None:
    """Write 2**12 paths through 12 groups. With 24 groups, 27 KB, a reader takes hours."""
    group = file.create_group("layers")
    for _ in range(12):
        group["a"] = group["b"] = file.create_group(None)
        group = group["a"]


def rooted(file: Any) -> None:
    file["again"] = file["/"]


def one_array_often(file: Any) -> None:
    stored = file.create_dataset(None, shape=(2**18,), **FLOATS)
    for k in range(400):
        file[f"layers/gru/cell/vars/{k}"] = stored


def one_cell_often(file: Any) -> None:
    stored = file.create_group(None)
    stored["vars/0"] = np.ones(4, "f4")
    for k in range(400):
        file[f"layers/gru_{k}/cell"] = stored


def many_arrays(file: Any) -> None:
    """Write arrays of which each is small enough, but not their sum."""
    for k in range(40):
        file.create_dataset(f"layers/gru/cell/vars/{k}", shape=(2**18,), **FLOATS)


def external(file: Any) -> None:
    path = other(file)
    where = [(str(path), 0, path.stat().st_size)]
    file.create_dataset("layers/gru/cell/vars/0", shape=(100,), external=where, **FLOATS)


def virtual(file: Any) -> None:
    source = h5py.VirtualSource(other(file), "layers/gru/cell/vars/0", shape=(3, 12), **FLOATS)
    layout = h5py.VirtualLayout(shape=(3, 12), **FLOATS)
    layout[:] = source
    file.create_virtual_dataset("layers/gru/cell/vars/0", layout)


def linked(place: str, *, soft: bool) -> Callable[[Any], None]:
    """Return a writer of a layer with a link at `place`, into the same or another file."""

    def make(file: Any) -> None:
        stored = "/layers/gru/" + place
        if soft:
            with h5py.File(other(file)) as source:
                source.copy("layers", file, "kept")
            file[stored] = h5py.SoftLink(stored.replace("layers", "kept"))
        else:
            file[stored] = h5py.ExternalLink(other(file).name, stored)

    return make


def bomb(file: Any) -> None:
    """Write 100 MB of zeros, compressed twice, as an array of four numbers."""
    pipe = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    pipe.set_chunk((4,))
    pipe.set_deflate(9)
    pipe.set_deflate(9)
    group, space = file.create_group("layers/gru/cell/vars"), h5py.h5s.create_simple((4,))
    stored = h5py.h5d.create(group.id, b"0", h5py.h5t.IEEE_F32LE, space, pipe)
    stored.write_direct_chunk((0,), zlib.compress(zlib.compress(bytes(10**8), 9), 9), 0)


def one_bomb(file: Any) -> None:
    """Write 100 MB of zeros, compressed once, as an array of four numbers."""
    file.create_dataset("layers/gru/cell/vars/0", shape=(4,), chunks=(4,), compression="gzip", **FLOATS)
    file["layers/gru/cell/vars/0"].id.write_direct_chunk((0,), zlib.compress(bytes(10**8), 9), 0)


def large_chunks(file: Any) -> None:
    file.create_dataset(
        "layers/gru/cell/vars/0", shape=(2, 2), chunks=(10**5, 10**4), maxshape=(None, None), **FLOATS
    )


def words(file: Any) -> None:
    file["layers/gru/cell/vars/0"] = ["any length"] * 3


def one_array(file: Any) -> None:
    file["layers/gru/cell/vars/0"] = np.ones((3, 12), "f4")


def two_lines(file: Any) -> None:
    file["layers/gru/cell/vars/0"] = np.ones((3, 12), "f4")
    file["layers/gru/cell/vars/1"] = np.ones(12, "f4")


def a_group(file: Any) -> None:
    file.create_group("layers/gru/cell/vars/0")


def names(file: Any) -> None:
    file["layers/gru/cell/vars/0"] = np.ones(4, "f4")
    file.create_group("layers/gru/vars").attrs["name"] = ["one", "two"]


TRAPS: dict[str, tuple[Callable[[Any], None], str]] = {
    "forked": (forked, r"/layers/[ab/]+ is /layers/[ab/]+ again"),
    "rooted": (rooted, "/again is / again"),
    "one array often": (one_array_often, "/layers/gru/cell/vars/1 is /layers/gru/cell/vars/0 again"),
    "one cell often": (one_cell_often, "/layers/gru_1/cell is /layers/gru_0/cell again"),
    "many arrays": (many_arrays, r"\d?,?\d{3},\d{3} bytes"),
    "external": (external, "/layers/gru/cell/vars/0 is in another file"),
    "virtual": (virtual, "/layers/gru/cell/vars/0 is in another file"),
    "bomb": (bomb, "/layers/gru/cell/vars/0 is compressed"),
    "one bomb": (one_bomb, r"/layers/gru/cell/vars/0 has a chunk of 20 bytes, expected 16"),
    "large chunks": (large_chunks, r"/layers/gru/cell/vars/0 has chunks of 4,000,000,000 bytes"),
    "words": (words, "/layers/gru/cell/vars/0 is not an array"),
    "one array": (one_array, "gru has no recurrent kernel"),
    "two lines": (two_lines, "gru has no recurrent kernel"),
    "a group": (a_group, "/layers/gru/cell/vars/0 is not an array"),
    "names": (names, "/layers/gru/vars has several names"),
} | {
    f"{'soft' if soft else 'external'} link at {place or 'the layer'}": (
        linked(place, soft=soft),
        f"/layers/gru/{place}".rstrip("/") + " is a link",
    )
    for soft in (True, False)
    for place in ("", "cell", "cell/vars", "cell/vars/0")
}


@pytest.mark.parametrize("case", TRAPS)
def test_a_trap_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    make, match = TRAPS[case]
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as file:
        make(file)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=match) as caught:
            keras_files.load_keras(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert peak < 100 * path.stat().st_size + 2**21

"""Weight files made to do harm: whatever they ask for is refused by its name, and nothing happens."""

from __future__ import annotations

import builtins
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="canton.classic needs numpy (canton-torch[classic])")
pytest.importorskip("safetensors", reason="canton.classic needs safetensors (canton-torch[classic])")

from canton.classic import Dense
from canton.classic.pickle_arrays import arrays_of, pickle_of
from canton.classic.weights_2017 import read_canton01
from canton.errors import UserError
from classic.test_old_files import npy_of, npz_of, objects


class Does:
    """An object whose pickle calls `function` when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def refused(content: bytes, tmp_path: Path, match: str) -> None:
    """Loading this pickle into a model, from an npz and from an npy, is refused with these words."""
    (tmp_path / "a.npy").write_bytes(npy_of(content))
    for path in (tmp_path / "a.npy", npz_of(npy_of(content), tmp_path / "a.npz")):
        with pytest.raises(UserError, match=match):
            Dense(2, 2).load_weights(path)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_command_is_not_run(protocol: int, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    evil = pickle.dumps(objects([np.zeros(2), Does(os.mkdir, str(flag))]), protocol=protocol)
    pickle.loads(evil)
    assert flag.is_dir(), "the trap itself works"
    flag.rmdir()
    refused(evil, tmp_path, r"asks for (posix\.mkdir|numpy\._core\.numeric\._frombuffer)|has no place there")
    assert not flag.exists()


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("exit 1",), r"posix\.system|nt\.system"),
        (eval, ("1",), r"(builtins|__builtin__)\.eval"),
        (exec, ("1",), r"(builtins|__builtin__)\.exec"),
        (getattr, ("", "join"), r"(builtins|__builtin__)\.getattr"),
        (builtins.__import__, ("os",), r"(builtins|__builtin__)\.__import__"),
        (np.load, ("x.npy",), r"numpy\.load"),
        (np.array, ([1],), r"numpy\.array"),
        (np.ndarray, ((2,),), "calls ndarray"),
        (np.dtype, ("f4",), "calls dtype"),
        (bytearray, (10,), r"(builtins|__builtin__)\.bytearray"),
    ],
)
def test_everything_but_arrays_is_refused_by_name(
    function: Any, arguments: tuple[Any, ...], name: str, tmp_path: Path
) -> None:
    refused(pickle.dumps(objects([Does(function, *arguments)]), protocol=4), tmp_path, name)
    # nested: as the argument of an innocent call, and as the state of one
    refused(pickle.dumps(Does(np.dtype, Does(function, *arguments), False, True), protocol=2), tmp_path, name)


def test_numbers_only() -> None:
    for value, words in (
        (objects([np.array([1, None], dtype=object)]), "entry 0 holds objects"),
        (objects([objects([np.zeros(2)])]), "entry 0 holds objects"),
        (objects(["text"]), "entry 0 holds a str"),
        (objects([3.5]), "BINFLOAT has no place"),
        (objects([np.array(["text"])]), "'U4'"),
        (objects([np.zeros(2, "c8")]), "'c8'"),
        (objects([np.zeros(2, "M8[s]")]), "'M8'"),
        (objects([np.zeros(2, [("a", "f4")])]), "'V4'"),
        (np.zeros((2, 2), dtype=object), "outer array has the shape"),
        ({"w": np.zeros(2)}, "EMPTY_DICT"),
        (np.zeros(3), "outermost"),
        (None, "outermost"),
    ):
        with pytest.raises(UserError, match=words):
            arrays_of(pickle.dumps(value, protocol=4), "it")


def test_a_shape_that_is_not_there_takes_no_memory() -> None:
    honest = pickle_of([np.zeros((2, 3), "f4")])
    two = b"\x8a\x08" + (2).to_bytes(8, "little")
    assert honest.count(two) == 1
    huge = honest.replace(two, b"\x8a\x08" + (2**60).to_bytes(8, "little"))
    negative = honest.replace(two, b"\x8a\x08" + (-2).to_bytes(8, "little", signed=True))
    for wrong, words in ((huge, "comes with 24 bytes"), (negative, "has the shape")):
        with pytest.raises(UserError, match=words):
            arrays_of(wrong, "it")


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
FLOAT = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R"
FLOAT += b"(K\x03X\x01\x00\x00\x00<NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
# (1,), then a pair of it and itself, then a pair of that and itself ...: 2**60 ones for whoever writes it out
DOUBLED = b"K\x01\x85q\x01" + b"h\x01\x86q\x01" * 60


def one_array(shape: bytes, content: bytes) -> bytes:
    """A pickled list of one array with this shape and content."""
    return b"\x80\x02](" + ARRAY + b"(K\x01" + shape + FLOAT + b"\x89" + content + b"tbe."


def test_the_pickles_of_these_tests_are_sound() -> None:
    (array,) = arrays_of(one_array(b"K\x01\x85", b"C\x04\x00\x00\x80?"), "it")
    assert array.tolist() == [1.0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (one_array(b"K\x01" + b"\x85" * 10**5, b"C\x04abcd"), "a state that NumPy does not"),
        (one_array(DOUBLED, b"C\x04abcd"), "a state that NumPy does not"),
        (one_array(b"(" + b"K\x01" * 40 + b"t", b"C\x04abcd"), "a state that NumPy does not"),
        (b"\x80\x04" + DOUBLED + b"h\x01\x93.", "a name that is no text"),
        (b"\x80\x02cnumpy\ndtype\n" + DOUBLED + b"R.", "calls dtype"),
        (b"\x80\x02" + FLOAT + DOUBLED + b"b.", "a state that NumPy does not"),
        (b"\x80\x02" + b"]" * 2**22 + b".", "more than 2097152 instructions"),
        (b"\x80\x02c" + b"a" * 10**6 + b"\nb\n.", r"asks for a{100}\.\.\., which"),
        (b"\x80\x04\x8c\x05\x1b[31m\x8c\x01\n\x93.", r"asks for \?\[31m\.\?, which"),
        (b"\x80\x02" + ARRAY + b"q\x01(K\x01K\x01\x85" + FLOAT + b"\x89]h\x01atb.", "array of arrays"),
        (b"\x80\x02]q\x01h\x01a.", "entry 0 holds a list"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02Pa\n.", "PERSID"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "NEWOBJ"),
        (b"\x80\x04\x8d" + (2**60).to_bytes(8, "little") + b"a.", "damaged"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_tricks_are_refused_in_one_line_and_at_once(content: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        arrays_of(content, "it")
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_the_same_numbers_in_many_arrays_are_not_unfolded() -> None:
    shape, size = b"J" + (2**18).to_bytes(4, "little") + b"\x85", 2**20
    first = (
        ARRAY + b"(K\x01" + shape + FLOAT + b"\x89B" + size.to_bytes(4, "little") + b"a" * size + b"q\x05tb"
    )
    again = ARRAY + b"(K\x01" + shape + FLOAT + b"\x89h\x05tb"

    def load() -> None:
        with pytest.raises(UserError, match="the same numbers again and again"):
            arrays_of(b"\x80\x03](" + first + again * 1000 + b"e.", "it")

    assert peak_of(load) < 2**23


@pytest.mark.parametrize(
    "inside", ["(" * 5000, "-" * 5000, "{" * 90, "'\\x", "1,2", "{'descr': 'O'}", "lambda: 0"]
)
def test_a_header_that_is_no_header_is_told(inside: str, tmp_path: Path) -> None:
    header = inside.encode() + b"\n"
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64)
    with pytest.raises(UserError, match="damaged npy file") as caught:
        read_canton01(path)
    assert str(caught.value).isprintable()


def test_a_header_that_promises_too_much_takes_no_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    content = (tmp_path / "a.npy").read_bytes().replace(b"(4, 4), }          ", b"(4, 400000000), }  ")
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"says shape \(4, 400000000\).* has 128 bytes"):
        read_canton01(tmp_path / "a.npy")


def peak_of(function: Any) -> int:
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = npz_of(npy_of(b"\0" * 2**27), tmp_path / "bomb.npz")
    assert bomb.stat().st_size < 2**18

    def load() -> None:
        with pytest.raises(UserError, match="unpacks to more than"):
            Dense(2, 2).load_weights(bomb)

    assert peak_of(load) < 2**22


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_without_a_limit_are_refused(compression: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="packed in a way"):
        read_canton01(npz_of(npy_of(b"\0" * 100), tmp_path / "a.npz", compression))


def test_a_pickle_that_unfolds_itself_is_stopped() -> None:
    big = b"(X" + (2**20).to_bytes(4, "little") + b"a" * 2**20 + b"X\x06\x00\x00\x00latin1tq\x01"
    again = b"c_codecs\nencode\nh\x01R" * 1000

    def load() -> None:
        with pytest.raises(UserError, match="again and again"):
            arrays_of(b"\x80\x02" + big + again + b".", "it")

    assert peak_of(load) < 2**24


def test_an_array_that_stands_there_often_is_made_once() -> None:
    array = np.zeros(2**18, "f4")
    content = pickle.dumps(objects([array] * 1000), protocol=4)
    assert len(content) < 2**21
    assert peak_of(lambda: arrays_of(content, "it")) < 2**24


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@pytest.mark.parametrize("seed", range(300))
def test_a_changed_byte_never_gets_past_the_reader(seed: int) -> None:
    chance = np.random.default_rng(seed)
    content = bytearray(
        pickle.dumps(objects([np.arange(4.0), np.float32(1)]), protocol=int(chance.integers(2, 5)))
    )
    for place in chance.integers(len(content), size=3):
        content[place] = chance.integers(256)
    try:
        read = arrays_of(bytes(content), "it")
    except UserError:
        return
    assert all(isinstance(a, np.ndarray) and a.dtype.kind in "biuf" for a in read)

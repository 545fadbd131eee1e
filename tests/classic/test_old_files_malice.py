"""Malicious weight files: a one-line error, no code executed, little memory used."""

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
from canton.classic.pickle_arrays import _ArrayUnpickler, load_arrays
from canton.classic.weights_2017 import read_canton01
from canton.errors import UserError
from classic.test_old_files import npy_of, npz_of, objects


class Call:
    """An object whose pickle calls `function(*arguments)`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def check_refused(content: bytes, tmp_path: Path, match: str) -> None:
    """Check that loading this pickle from an npz and an npy raises a matching UserError."""
    (tmp_path / "a.npy").write_bytes(npy_of(content))
    for path in (tmp_path / "a.npy", npz_of(npy_of(content), tmp_path / "a.npz")):
        with pytest.raises(UserError, match=match):
            Dense(2, 2).load_weights(path)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_commands_are_not_executed(protocol: int, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    content = pickle.dumps(objects([np.zeros(2), Call(os.mkdir, str(folder))]), protocol=protocol)
    pickle.loads(content)
    assert folder.is_dir(), "an ordinary unpickler executes it"
    folder.rmdir()
    check_refused(content, tmp_path, r"(posix|nt)\.mkdir|_frombuffer|opcode")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("exit 1",), r"(posix|nt)\.system"),
        (eval, ("1",), r"(builtins|__builtin__)\.eval"),
        (exec, ("1",), r"(builtins|__builtin__)\.exec"),
        (getattr, ("", "join"), r"(builtins|__builtin__)\.getattr"),
        (builtins.__import__, ("os",), r"(builtins|__builtin__)\.__import__"),
        (np.load, ("x.npy",), r"numpy\.load"),
        (np.array, ([1],), r"numpy\.array"),
        (np.ndarray, ((2,),), r"numpy\.ndarray"),
        (np.dtype, ("f4",), r"numpy\.dtype"),
        (bytearray, (10,), r"(builtins|__builtin__)\.bytearray"),
    ],
)
def test_other_functions_are_refused_by_name(
    function: Any, arguments: tuple[Any, ...], name: str, tmp_path: Path
) -> None:
    call = Call(function, *arguments)
    check_refused(pickle.dumps(objects([call]), protocol=4), tmp_path, name)
    check_refused(pickle.dumps(Call(np.dtype, call, False, True), protocol=2), tmp_path, name)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (objects([np.array([1, None], dtype=object)]), "entry 0"),
        (objects([objects([np.zeros(2)])]), "entry 0"),
        (objects(["text"]), "entry 0 .* str"),
        (objects([3.5]), "BINFLOAT"),
        (objects([np.array(["text"])]), "'U4'"),
        (objects([np.zeros(2, "c8")]), "'c8'"),
        (objects([np.zeros(2, "M8[s]")]), "'M8'"),
        (objects([np.zeros(2, [("a", "f4")])]), "EMPTY_DICT"),
        (np.zeros((2, 2), dtype=object), "state"),
        ({"w": np.zeros(2)}, "EMPTY_DICT"),
        (np.zeros(3), "outermost"),
        (None, "outermost"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_only_arrays_of_numbers(value: Any, match: str) -> None:
    with pytest.raises(UserError, match=match):
        load_arrays(pickle.dumps(value, protocol=4), "it")


NDARRAY = b"cnumpy\nndarray\n"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
ARRAY = RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01b\x87R"


def dtype(code: bytes, order: bytes) -> bytes:
    name = b"cnumpy\ndtype\nX\x02\x00\x00\x00" + code + b"K\x00K\x01\x87R"
    return name + b"(K\x03X\x01\x00\x00\x00" + order + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"


FLOAT, OBJECT = dtype(b"f4", b"<"), dtype(b"O8", b"|")
# (1,), then a pair of it and itself, then a pair of that and itself ...: 2**60 numbers if it is expanded
DOUBLED = b"K\x01\x85q\x01" + b"h\x01\x86q\x01" * 60


def integer(number: int) -> bytes:
    return b"\x8a\x08" + number.to_bytes(8, "little", signed=True)


def one_array(shape: bytes, content: bytes, kind: bytes = FLOAT) -> bytes:
    """Return a pickled list of one array with this shape and content."""
    return b"\x80\x02](" + ARRAY + b"(K\x01" + shape + kind + b"\x89" + content + b"tbe."


def test_the_pickles_of_these_tests_are_valid() -> None:
    (array,) = load_arrays(one_array(b"K\x01\x85", b"C\x04\x00\x00\x80?"), "it")
    assert array.tolist() == [1.0]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (one_array(integer(2**60) + b"\x85", b"C\x04abcd"), "4 bytes"),
        (one_array(integer(-1) + b"\x85", b"C\x04abcd"), "4 bytes"),
        (one_array(b"(" + integer(2**62) * 30 + b"t", b"C\x04abcd"), "4 bytes"),
        (one_array(integer(2**29) + b"\x85", b"](K\x01e", OBJECT), "state"),
        (one_array(b"K\x01\x85", b"](K\x01e"), "state"),
        (one_array(b"K\x01" + b"\x85" * 10**5, b"C\x04abcd"), "state"),
        (one_array(DOUBLED, b"C\x04abcd"), "state"),
        (one_array(b"(" + b"K\x01" * 40 + b"t", b"C\x04abcd"), "state"),
        (one_array(b"K\x01\x85", b"C\x04abcdtb(K\x01K\x01\x85" + FLOAT + b"\x89C\x04abcd"), "two states"),
        (b"\x80\x02" + RECONSTRUCT + NDARRAY + integer(2**30) + b"\x85C\x01O\x87R.", "_reconstruct"),
        (b"\x80\x02" + RECONSTRUCT + NDARRAY + b"\x85R.", "_reconstruct"),
        (b"\x80\x02" + NDARRAY + integer(2**40) + b"\x85\x85R.", r"numpy\.ndarray"),
        (b"\x80\x02cnumpy.core.multiarray\nscalar\n" + DOUBLED + b"R.", "scalar"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "encode"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00a\x85R.", "encode"),
        (b"\x80\x02cnumpy\ndtype\n" + DOUBLED + b"R.", "dtype"),
        (b"\x80\x02" + FLOAT + DOUBLED + b"b.", "state"),
        (b"\x80\x02cnumpy\ndtype\nNb.", "damaged"),
        (b"\x80\x02c_codecs\nencode\nN)\x86b.", "damaged"),
        (b"\x80\x02]q\x01K\x01\x85R.", "damaged"),
        (b"\x80\x02" + ARRAY + b"q\x01(K\x01K\x01\x85" + FLOAT + b"\x89]h\x01atb.", "state"),
        (b"\x80\x02" + ARRAY + b"q\x01(K\x01K\x01\x85" + OBJECT + b"\x89]h\x01atb.", "entry 0"),
        (b"\x80\x02]q\x01h\x01a.", "entry 0 .* list"),
        (b"\x80\x02](" + ARRAY + b"e.", "entry 0"),
        (b"\x80\x02" + b"]" * 2**22 + b".", "2097152"),
        (b"\x80\x02Nr" + (2**29).to_bytes(4, "little") + b".", "memo"),
        (b"\x80\x02}" + DOUBLED + b"Ns.", "EMPTY_DICT"),
        (b"\x80\x04\x8f(" + DOUBLED + b"\x90.", "EMPTY_SET"),
        (b"\x80\x04" + DOUBLED + b"h\x01\x93.", "damaged"),
        (b"\x80\x02c" + b"a" * 10**6 + b"\nb\n.", r"a{100}\.\.\.,"),
        (b"\x80\x04\x8c\x05\x1b[31m\x8c\x01\n\x93.", r"\?\[31m\.\?,"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02Pa\n.", "PERSID"),
        (b"\x80\x02NQ.", "BINPERSID"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x02" + NDARRAY + b")\x81.", "NEWOBJ"),
        (b"\x80\x04\x8d" + (2**60).to_bytes(8, "little") + b"a.", "damaged"),
        (b"\x80\x04\x95" + (2**60).to_bytes(8, "little") + b"N.", "damaged|outermost"),
        (b"\x80\x63N.", "damaged"),
        (b"", "damaged"),
    ],
)
def test_a_trap_is_refused_in_one_line_and_little_memory(content: bytes, match: str) -> None:
    def load() -> None:
        with pytest.raises(UserError, match=match) as caught:
            load_arrays(content, "it")
        assert len(str(caught.value)) < 300
        assert str(caught.value).isprintable()

    assert peak_of(load) < 2**24


def test_persistent_objects_are_refused() -> None:
    """Their opcodes are refused earlier; this tests the second check."""
    with pytest.raises(Exception, match="persistent"):
        _ArrayUnpickler(b"\x80\x02NQ.").load()


def test_numbers_that_many_arrays_share_are_not_copied() -> None:
    shape, size = b"J" + (2**18).to_bytes(4, "little") + b"\x85", 2**20
    first = (
        ARRAY + b"(K\x01" + shape + FLOAT + b"\x89B" + size.to_bytes(4, "little") + b"a" * size + b"q\x05tb"
    )
    again = ARRAY + b"(K\x01" + shape + FLOAT + b"\x89h\x05tb"

    def load() -> None:
        with pytest.raises(UserError, match="same numbers"):
            load_arrays(b"\x80\x03](" + first + again * 1000 + b"e.", "it")

    assert peak_of(load) < 2**23


@pytest.mark.parametrize(
    "inside", ["(" * 5000, "-" * 5000, "{" * 90, "'\\x", "1,2", "{'descr': 'O'}", "lambda: 0"]
)
def test_an_invalid_header_is_refused(inside: str, tmp_path: Path) -> None:
    header = inside.encode() + b"\n"
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64)
    with pytest.raises(UserError, match="damaged npy file") as caught:
        read_canton01(path)
    assert str(caught.value).isprintable()


def test_a_header_with_a_large_shape_takes_no_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    content = (tmp_path / "a.npy").read_bytes().replace(b"(4, 4), }          ", b"(4, 400000000), }  ")
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"\(4, 400000000\).* 128 bytes"):
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
def test_other_compressions_are_refused(compression: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compress"):
        read_canton01(npz_of(npy_of(b"\0" * 100), tmp_path / "a.npz", compression))


def test_text_that_is_encoded_often_is_refused() -> None:
    big = b"(X" + (2**20).to_bytes(4, "little") + b"a" * 2**20 + b"X\x06\x00\x00\x00latin1tq\x01"
    again = b"c_codecs\nencode\nh\x01R" * 1000

    def load() -> None:
        with pytest.raises(UserError, match="same bytes"):
            load_arrays(b"\x80\x02" + big + again + b".", "it")

    assert peak_of(load) < 2**24


def test_an_array_that_is_listed_often_is_created_once() -> None:
    array = np.zeros(2**18, "f4")
    content = pickle.dumps(objects([array] * 1000), protocol=4)
    assert len(content) < 2**21
    assert peak_of(lambda: load_arrays(content, "it")) < 2**24


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@pytest.mark.parametrize("seed", range(300))
def test_changed_bytes_are_refused_or_harmless(seed: int) -> None:
    generator = np.random.default_rng(seed)
    content = bytearray(
        pickle.dumps(objects([np.arange(4.0), np.float32(1)]), protocol=int(generator.integers(2, 5)))
    )
    for position in generator.integers(len(content), size=3):
        content[position] = generator.integers(256)
    try:
        read = load_arrays(bytes(content), "it")
    except UserError:
        return
    assert all(isinstance(a, np.ndarray) and a.dtype.kind in "biuf" for a in read)

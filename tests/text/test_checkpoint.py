"""Model files: round trip, detection of damage, and writes that fail."""

from __future__ import annotations

import json
import resource
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from canton.errors import UserError
from canton.io.atomic import atomic_write
from canton.io.tensor_file import read_header, write_tensors
from canton.text import Architecture, ByteModel, load_model, save_model
from canton.text.checkpoint import FORMAT
from canton.training.checkpoint import Checkpoint

safetensors = pytest.importorskip(
    "safetensors.torch", reason="safetensors is not installed (canton-torch[text])"
)

TINY = Architecture(hidden_size=6, embedding_size=4, contexts=((2, 8),))
HEADER = {"training": {"seed": 3}, "corpus": "ab", "held_out_bits_per_byte": 1.5, "held_out_bytes": 10}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, ByteModel(TINY), HEADER)
    return path


def test_a_loaded_model_equals_the_saved_one(tmp_path: Path) -> None:
    model = ByteModel(TINY)
    path = tmp_path / "m.safetensors"
    save_model(path, model, HEADER, Checkpoint({"carried.0": torch.arange(3)}, step=7, seconds=2.5))
    loaded = load_model(path)
    assert loaded.model.architecture == TINY
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    assert {k: loaded.header[k] for k in HEADER} == HEADER
    assert loaded.checkpoint is not None
    assert (loaded.checkpoint.step, loaded.checkpoint.seconds) == (7, 2.5)
    assert torch.equal(loaded.checkpoint.tensors["carried.0"], torch.arange(3))
    read = torch.randint(0, 256, (5, 2))
    assert torch.equal(loaded.model(read)[0], model.eval()(read)[0])


def test_the_file_is_plain_safetensors(file: Path) -> None:
    tensors = safetensors.load_file(file)
    assert set(tensors) == {f"model.{name}" for name in ByteModel(TINY).state_dict()}


def test_a_truncated_file_raises(file: Path, tmp_path: Path) -> None:
    whole, cut = file.read_bytes(), tmp_path / "cut.safetensors"
    for length in [*range(64), *range(64, len(whole), 97), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.safetensors"):
            load_model(cut)


def test_a_changed_byte_raises(file: Path, tmp_path: Path) -> None:
    whole, damaged = file.read_bytes(), tmp_path / "damaged.safetensors"
    for place in [*range(0, 700, 7), *range(700, len(whole), 61), len(whole) - 1]:
        changed = bytearray(whole)
        changed[place] ^= 0x04
        damaged.write_bytes(changed)
        with pytest.raises(UserError) as caught:
            load_model(damaged)
        assert "\n" not in str(caught.value)


def foreign(path: Path) -> None:
    safetensors.save_file({"weight": torch.zeros(2)}, path)


def other_format(path: Path) -> None:
    write_tensors(path, {}, {}, format="canton-track-1")


def other_shape(path: Path) -> None:
    tensors = {f"model.{k}": v for k, v in ByteModel(TINY).state_dict().items()}
    tensors["model.logits.bias"] = torch.zeros(255)
    write_tensors(path, tensors, {"architecture": TINY.to_json()}, format=FORMAT)


def missing_weight(path: Path) -> None:
    tensors = {f"model.{k}": v for k, v in ByteModel(TINY).state_dict().items()}
    del tensors["model.logits.bias"]
    write_tensors(path, tensors, {"architecture": TINY.to_json()}, format=FORMAT)


def extra_weight(path: Path) -> None:
    tensors = {f"model.{k}": v for k, v in ByteModel(TINY).state_dict().items()}
    write_tensors(
        path, tensors | {"model.x": torch.zeros(1)}, {"architecture": TINY.to_json()}, format=FORMAT
    )


def whole_numbers(path: Path) -> None:
    tensors = {f"model.{k}": v.long() for k, v in ByteModel(TINY).state_dict().items()}
    write_tensors(path, tensors, {"architecture": TINY.to_json()}, format=FORMAT)


def no_architecture(path: Path) -> None:
    write_tensors(path, {}, {}, format=FORMAT)


def a_picture(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(5000))


def huge_header(path: Path) -> None:
    path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")


def header_of(table: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(len(table).to_bytes(8, "little") + table)

    return write


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (header_of(b"[" * 10**5), "not a safetensors file"),
        (header_of(b'{"__metadata__": {"format": 3}}'), "not a safetensors file"),
        (foreign, "not written by Canton"),
        (other_format, "canton-track-1"),
        (other_shape, "logits.bias"),
        (missing_weight, "logits.bias"),
        (extra_weight, "weight x"),
        (whole_numbers, "int64"),
        (no_architecture, "Architecture"),
        (a_picture, "not a safetensors file"),
        (huge_header, "not a safetensors file"),
        (Path.mkdir, "is a directory"),
        (lambda path: None, "no such file"),
    ],
)
def test_a_file_that_is_not_a_model_raises(
    tmp_path: Path, make: Callable[[Path], None], complaint: str
) -> None:
    path = tmp_path / "thing"
    make(path)
    with pytest.raises(UserError, match=complaint) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_deeply_nested_brackets_in_a_header_raise(tmp_path: Path) -> None:
    path = tmp_path / "thing"
    header_of(json.dumps({"__metadata__": {"format": FORMAT, "a": "[" * 10**5}}).encode())(path)
    with pytest.raises(UserError, match="a header that Canton did not write"):
        read_header(path)


def test_a_full_disk_keeps_the_old_file(file: Path) -> None:
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*model\.safetensors: file too large"):
            save_model(file, ByteModel(Architecture(hidden_size=20, embedding_size=4, contexts=())), HEADER)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_an_error_while_writing_keeps_the_old_file(file: Path) -> None:
    before = file.read_bytes()

    def half() -> None:
        with atomic_write(file) as out:
            out.write(b"half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        half()
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_symbolic_link_is_kept(file: Path, tmp_path: Path) -> None:
    """The target of one link, and of two in a row, is replaced in its own folder."""
    (tmp_path / "links").mkdir()
    link, second = tmp_path / "links" / "link", tmp_path / "second"
    link.symlink_to(Path("..") / file.name)
    second.symlink_to(link)
    for way in (link, second):
        save_model(way, ByteModel(TINY), HEADER | {"corpus": way.name})
        assert way.is_symlink()
        assert read_header(file)["corpus"] == way.name
    assert [path.name for path in link.parent.iterdir()] == ["link"]


def test_the_file_has_ordinary_permissions(file: Path) -> None:
    plain = file.parent / "plain"
    plain.touch()
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_the_header_is_json_by_name(file: Path) -> None:
    content = file.read_bytes()
    table = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    assert table["format"] == FORMAT
    assert json.loads(table["architecture"])["hidden_size"] == 6
    assert set(table) == {"format", "checksum", "architecture", "version", *HEADER}

"""2017 weight files: read without executing anything, and written so that the original loads them."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="canton.classic needs numpy (canton-torch[classic])")
pytest.importorskip("safetensors", reason="canton.classic needs safetensors (canton-torch[classic])")

import torch

from canton.classic import GRU, BatchNorm, Can, Conv2D, Dense, LayerNorm, LayerNormDense
from canton.classic.pickle_arrays import dump_arrays, load_arrays
from canton.classic.weights_2017 import read_canton01, write_canton01
from canton.errors import UserError


def objects(arrays: list[Any]) -> np.ndarray:
    outer = np.empty(len(arrays), dtype=object)
    for index, array in enumerate(arrays):
        outer[index] = array
    return outer


def some_arrays() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [
        generator.normal(size=(3, 4)).astype("f4"),
        np.float32(0.5),
        np.asfortranarray(generator.normal(size=(2, 3, 5))),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.array([np.nan, -0.0, np.inf, 1e-45], "f4"),
        np.zeros((0, 3), "f4"),
        np.array([True, False]),
    ]


def equal_bits(a: np.ndarray, b: np.ndarray) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    b = b.astype(b.dtype.newbyteorder("="), order="C")
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_reads_what_numpy_pickles(protocol: int) -> None:
    # protocol 2 writes empty bytes as a call of __builtin__.bytes
    arrays = [a for a in some_arrays() if a.size or protocol > 2]
    read = load_arrays(pickle.dumps(objects(arrays), protocol=protocol), "it")
    assert len(read) == len(arrays)
    assert all(equal_bits(r, a) for r, a in zip(read, arrays, strict=True))
    assert all(r.flags.writeable for r in read)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_an_npz_and_an_npy_of_numpy(save: Callable[..., None], tmp_path: Path) -> None:
    arrays = some_arrays()
    save(tmp_path / "a.npz", w=objects(arrays))
    np.save(tmp_path / "a.npy", objects(arrays), allow_pickle=True)
    for name in ("a.npz", "a.npy"):
        read = read_canton01(tmp_path / name)
        assert all(equal_bits(r, a) for r, a in zip(read, arrays, strict=True))


def test_reads_a_plain_array_of_equal_shapes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(18, dtype="f4").reshape(2, 3, 3))
    first, second = read_canton01(tmp_path / "a.npy")
    assert first.shape == (3, 3)
    assert second[0, 0] == 9


def test_numpy_reads_what_we_write(tmp_path: Path) -> None:
    arrays = some_arrays()
    write_canton01(tmp_path / "a.npz", [np.asarray(a) for a in arrays])
    with np.load(tmp_path / "a.npz", allow_pickle=True) as archive:
        outer = archive["w"]
    assert outer.shape == (len(arrays),)
    assert outer.dtype == object
    assert all(equal_bits(r, a) for r, a in zip(outer, arrays, strict=True))
    assert b"numpy._core" not in dump_arrays([np.zeros(3)]), "NumPy 1 has no numpy._core"


def models() -> list[Can]:
    everything = Can()
    everything.incan([Conv2D(2, 3, 3), BatchNorm(3), LayerNorm(), LayerNormDense(3, 2), GRU(2, 4)])
    twice = Can()
    dense = twice.add(Dense(3, 3))
    twice.add(dense)
    scalar = Can()
    scalar.make_bias([], mean=0.25)
    halves = [Dense(2, 2).to(dtype) for dtype in (torch.float64, torch.float16, torch.bfloat16)]
    return [everything, twice, scalar, GRU(5, 3, bias=False), *halves]


def bits(can: Can) -> list[bytes]:
    tensors = can.get_weights() + can.traverse("variables")
    return [t.detach().flatten().view(torch.uint8).numpy().tobytes() for t in tensors]


def randomise(can: Can) -> None:
    with torch.no_grad():
        for tensor in can.get_weights() + can.traverse("variables"):
            tensor.add_(torch.randn_like(tensor))


@pytest.mark.parametrize("format", ["canton-0.1", "safetensors"])
@pytest.mark.parametrize("index", range(7))
def test_round_trips_change_no_bit(index: int, format: str, tmp_path: Path) -> None:
    can = models()[index]
    randomise(can)
    before = bits(can)
    assert can.save_weights(tmp_path / "w", format=format)
    randomise(can)
    assert bits(can) != before
    assert can.load_weights(tmp_path / "w")
    assert bits(can) == before


def test_old_file_to_ours_to_old_file_changes_no_bit(shared: Path, tmp_path: Path) -> None:
    for name in (
        "clf/clf.npz",
        "weights/drone_tec.npy",
        "weights/drone_tec.npz",
        "weights/text_gru_nobias7.npz",
    ):
        arrays = read_canton01(shared / "canton-0.1" / name)
        can = Can()
        for array in arrays:
            can.make_weight(array.shape)
        can.load_weights(shared / "canton-0.1" / name)
        can.save_weights(tmp_path / "old.npz", format="canton-0.1")
        with np.load(tmp_path / "old.npz", allow_pickle=True) as archive:
            assert all(equal_bits(r, a) for r, a in zip(archive["w"], arrays, strict=True))


def test_a_wrong_number_of_weights_is_refused(tmp_path: Path) -> None:
    for kind in ("canton-0.1", "safetensors"):
        Dense(3, 2).save_weights(tmp_path / "w", format=kind)
        can = Dense(3, 2, bias=False)
        before = bits(can)
        beginning = r"number of weights \(variables\) from the file\(2\) differ from the model\(1\)"
        with pytest.raises(NameError, match=beginning + ".*weight 1"):
            can.load_weights(tmp_path / "w")
        assert bits(can) == before


def test_a_wrong_shape_is_refused_and_nothing_is_set(tmp_path: Path) -> None:
    for kind in ("canton-0.1", "safetensors"):
        GRU(3, 2).save_weights(tmp_path / "w", format=kind)
        can = Can()
        can.add(GRU(2, 2))
        can.chain()
        with pytest.raises(ValueError, match=r"unit\.wz\.W"):
            can.load_weights(tmp_path / "w")
    GRU(3, 2).save_weights(tmp_path / "w", format="canton-0.1")
    can = GRU(2, 2)
    before = bits(can)
    with pytest.raises(ValueError, match=r"weight 0: .*5x2.* unit\.wz\.W: 4x2"):
        can.load_weights(tmp_path / "w")
    assert bits(can) == before


def test_the_file_of_a_much_larger_model_is_refused(tmp_path: Path) -> None:
    GRU(200, 200).save_weights(tmp_path / "w", format="canton-0.1")
    with pytest.raises(NameError, match=r"weight 0: .*400x200.* W: 3x2"):
        Dense(3, 2).load_weights(tmp_path / "w")
    write_canton01(tmp_path / "zeros.npz", [np.zeros(10**7, "f4"), np.zeros(2, "f4")])
    with pytest.raises(UserError, match="unpacks to more"):
        Dense(3, 2).load_weights(tmp_path / "zeros.npz")


def test_other_formats_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format"):
        Dense(2, 2).save_weights(tmp_path / "w", format="npz")
    with pytest.raises(UserError, match="no such file"):
        Dense(2, 2).load_weights(tmp_path / "none.npz")
    (tmp_path / "text").write_text("this is not a file of weights")
    with pytest.raises(UserError, match="not a safetensors file"):
        Dense(2, 2).load_weights(tmp_path / "text")
    with pytest.raises(ValueError, match="complex"):
        write_canton01(tmp_path / "w", [np.zeros(2, np.complex64)])


def test_npz_without_w_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", weights=np.zeros(3))
    with pytest.raises(UserError, match="no array w"):
        read_canton01(tmp_path / "a.npz")


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    write_canton01(tmp_path / "a.npz", [np.arange(100.0)])
    np.save(tmp_path / "a.npy", objects([np.arange(100.0), np.zeros(2)]), allow_pickle=True)
    for name in ("a.npz", "a.npy"):
        whole = (tmp_path / name).read_bytes()
        for length in (3, 20, len(whole) // 2, len(whole) - 1):
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(UserError):
                read_canton01(tmp_path / name)


def npy_of(content: bytes, shape: tuple[int, ...] = (1,)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def npz_of(npy: bytes, path: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("w.npy", npy)
    return path


def load_as_user(content: bytes, tmp_path: Path) -> None:
    """Load a pickle the way a user would: in an npz and in an npy, into a model."""
    (tmp_path / "a.npy").write_bytes(npy_of(content))
    for path in (tmp_path / "a.npy", npz_of(npy_of(content), tmp_path / "a.npz")):
        Dense(2, 2).load_weights(path)

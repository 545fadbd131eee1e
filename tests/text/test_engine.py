"""The C++ engine against `generate.sample_bytes`, in every instruction set of this machine."""

from __future__ import annotations

import copy
import ctypes
import functools
import re
from typing import Any

import numpy as np
import pytest
import torch

from canton.errors import UserError
from canton.kernels import cpu
from canton.kernels.cpu.abi_check import constant_mismatch, structure_mismatch
from canton.text import ByteModel, generate, utf8
from canton.text.config import ARTICLE, Architecture, Sampling
from canton.text.engine import abi
from canton.text.engine.engine import Engine, build_engine
from canton.text.generate import predict_next, sample_bytes
from canton.text.ngram.keys import MAX_BYTES, MAX_WORDS, WORD_LOOKBACK, NgramKind, compute_keys, hash_rows
from canton.text.ngram.table import count_ngrams
from canton.text.types import SampledBytes
from tolerances import assert_close

pytestmark = pytest.mark.skipif(not cpu.available(), reason=f"no C++ library: {cpu.why_not()}")

TEXT = np.frombuffer(("It's said, Hello wörld 42; Hello there. " * 30).encode(), np.uint8)


def network(hidden: int, **settings: Any) -> Architecture:
    """An architecture without n-grams, but for the `settings`."""
    none: dict[str, Any] = {
        "contexts": (),
        "ngram_orders": (),
        "ngram_words": (),
        "history_orders": (),
        "history_words": (),
    }
    return Architecture(hidden_size=hidden, **(none | settings))


MODELS = {
    "article": ARTICLE.model,
    "default": Architecture(hidden_size=40, history_size=90),
    "contexts": network(33, embedding_size=11, contexts=((2, 64), (4, 128))),
    "stack": network(7, num_layers=3, embedding_size=5, head_size=13),
    "plain-stack": network(17, num_layers=2, embedding_size=0, skip=False),
    "no-skip": network(16, num_layers=2, skip=False, head_size=7),
    "history": Architecture(
        hidden_size=33,
        num_layers=2,
        contexts=((2, 512), (5, 1024)),
        history_orders=(1, 7),
        history_words=(3,),
        history_size=30,
    ),
    "counts": network(
        10,
        num_layers=2,
        skip=False,
        head_size=7,
        ngram_orders=(7, 2),
        ngram_words=(3, 0),
        history_words=(0, 1),
    ),
}

SAMPLING = {
    "plain": Sampling(),
    "min-p": Sampling(temperature=1.5, min_p=0.05, logit_bias=((32, 4.0), (101, -1000.0))),
    "sorted": Sampling(
        temperature=0.9, top_k=40, top_p=0.99, min_p=0.1, repetition_penalty=1.3, repetition_window=7
    ),
    "greedy": Sampling(temperature=0.0, repetition_penalty=1.4, repetition_window=30),
}
WAYS = (("plain", utf8.START), ("sorted", None))


def model_of(name: str) -> ByteModel:
    """Return the named model with weights so large that all of them matter."""
    model = ByteModel(MODELS[name]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(torch.randn_like(parameter) * 0.02)
    if model.architecture.ngram_kinds:
        model.ngrams = count_ngrams(TEXT, model.architecture.ngram_kinds, 300)
    return model


def engine_of(model: ByteModel, precision: str = "float32") -> Engine:
    engine = build_engine(model, precision=precision)
    assert engine is not None
    return engine


PROMPT, UNIFORMS = b"\nHello wor", np.random.default_rng(3).random(120)


@functools.cache
def expected_bytes(name: str, how: str, utf8_state: int | None) -> SampledBytes:
    """Return what the reference generates: once, not for every instruction set."""
    torch.manual_seed(0)
    model = model_of(name)
    logits, state = predict_next(model, PROMPT)
    return sample_bytes(
        model, logits, state, UNIFORMS, sampling=SAMPLING[how], recent=PROMPT, utf8_state=utf8_state,
        remaining=len(UNIFORMS),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "how", "utf8_state"),
    [  # sampling reads nothing but the logits: one model has every way, and every model has two
        *(("counts", how, state) for how in SAMPLING for state in (utf8.START, None)),
        *((name, how, state) for name in MODELS if name != "counts" for how, state in WAYS),
    ],
)
def test_engine_generates_the_same_bytes(
    instructions: str, name: str, how: str, utf8_state: int | None
) -> None:
    model, length, prompt, sampling, uniforms = model_of(name), len(UNIFORMS), PROMPT, SAMPLING[how], UNIFORMS
    logits, state = predict_next(model, prompt)
    expected = expected_bytes(name, how, utf8_state)
    engine, text, bits = engine_of(model), b"", np.zeros(0, np.float32)
    for chunk in np.split(uniforms, [1, 13]):
        done = engine.generate(
            logits, state, chunk, sampling=sampling, recent=prompt + text, utf8_state=utf8_state,
            remaining=length - len(text),
        )  # fmt: skip
        logits, state, utf8_state = done.logits, done.state, done.utf8_state
        text, bits = text + done.text, np.concatenate([bits, done.bits])
    assert text == expected.text
    assert utf8_state == expected.utf8_state
    assert_close(torch.from_numpy(bits), torch.from_numpy(expected.bits), "bits")
    assert_close(torch.from_numpy(logits), torch.from_numpy(np.asarray(expected.logits)), "logits")
    assert torch.equal(state[0], expected.state[0])
    for got, wanted in zip(state[1:], expected.state[1:], strict=True):
        assert_close(got, wanted, "state")


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (0, 0.25, 1),
        (0, 0.5, 2),
        (0, 0.500001, 3),
        (0, 0.75, 3),
        (0, 0.999, 4),
        (0, 1.0, 4),
        (3, 1.0, 3),
        (4, 0.5, 2),
    ],
)
def test_equal_bytes_at_the_limit(instructions: str, top_k: int, top_p: float, kept: int) -> None:
    """As in test_generate: bytes that reach top-p exactly are enough, of equal bytes the smaller is first."""
    engine, (_, state) = engine_of(model_of("article")), predict_next(model_of("article"), b"\nhello")
    logits = np.full(256, -1e4, np.float32)
    logits[[40, 50, 60, 200]] = 0.0
    for place in range(kept):
        for uniform in (max(place / kept, 1e-9), (place + 0.999) / kept):
            found = engine.generate(
                logits, state, np.array([uniform]), sampling=Sampling(top_k=top_k, top_p=top_p)
            )
            assert found.text == bytes([(40, 50, 60, 200)[place]])


def test_two_texts_alternate_on_one_engine() -> None:
    model = model_of("history")
    engine, uniforms = engine_of(model), np.random.default_rng(0).random(40)
    first, second = predict_next(model, b"\nabcabc"), predict_next(model, b"\nHello there")
    together = [engine.generate(*start, uniforms)[0] for start in (first, second, first)]
    assert together == [engine_of(model).generate(*start, uniforms)[0] for start in (first, second, first)]


@pytest.mark.parametrize("name", MODELS)
def test_int8_is_close(instructions: str, name: str) -> None:
    model = model_of(name)
    logits, state = predict_next(model, b"\nHello wor")
    exact, coarse = (
        engine_of(model, precision).generate(logits, state, np.array([0.3]))
        for precision in ("float32", "int8")
    )
    assert exact.text == coarse.text
    error = np.abs(exact.logits - coarse.logits).max() / np.abs(exact.logits).max()
    assert 0 < error < 0.02


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_state_that_is_not_finite_is_an_error(instructions: str, precision: str) -> None:
    model = model_of("article")
    logits, (past, hidden) = predict_next(model, b"\nhello")
    hidden[0, 0, 3] = float("nan")
    with pytest.raises(ValueError, match=r"logits.* after 1 bytes"):
        engine_of(model, precision).generate(logits, (past, hidden), np.full(4, 0.5))


def test_arguments_of_the_wrong_shape_are_named() -> None:
    model = model_of("article")
    engine, (logits, (past, hidden)) = engine_of(model), predict_next(model, b"\nhello")
    with pytest.raises(ValueError, match="logits"):
        engine.generate(logits[1:], (past, hidden), np.zeros(1))
    with pytest.raises(ValueError, match=r"state\[0\]"):
        engine.generate(logits, (torch.zeros(5, 1), hidden), np.zeros(1))
    with pytest.raises(ValueError, match=r"state\[1:\]"):
        engine.generate(logits, (past, hidden, hidden), np.zeros(1))
    with pytest.raises(ValueError, match="remaining"):
        engine.generate(logits, (past, hidden), np.zeros(3), utf8_state=0, remaining=2)


def test_a_tensor_of_the_wrong_shape_is_named() -> None:
    model = model_of("default")
    model.layers[0] = ByteModel(network(41)).layers[0]
    with pytest.raises(ValueError, match="input"):
        Engine(model)


def test_precision_is_checked() -> None:
    model = ByteModel(Architecture(cell="lstm", hidden_size=8))
    assert build_engine(model) is None
    with pytest.raises(UserError, match=r"int8.*lstm"):
        generate(model, 5, precision="int8")
    with pytest.raises(UserError, match="precision"):
        generate(model, 5, precision="int4")


@pytest.mark.parametrize(
    "kind",
    [
        *(NgramKind(n) for n in range(1, MAX_BYTES + 1)),
        *(NgramKind(n, words=True) for n in range(MAX_WORDS + 1)),
    ],
)
def test_cpp_keys_are_pythons_keys(kind: NgramKind) -> None:
    alphabet = np.frombuffer("aZ'9 .é\n".encode(), np.uint8)  # many word ends
    random = np.random.default_rng(1)
    for window in (random.choice(alphabet, 3000), random.integers(0, 256, 3000).astype(np.uint8)):
        (expected,) = compute_keys(torch.from_numpy(window).long()[:, None], WORD_LOOKBACK, [kind])
        assert np.array_equal(cpp_keys(window, abi.EngineKey(kind.n, kind.words)), expected[:, 0].numpy())


@pytest.mark.parametrize(("n", "rows"), [(2, 4096), (5, 1000), (24, 7)])
def test_cpp_hash_rows_are_pythons_rows(n: int, rows: int) -> None:
    window = np.random.default_rng(1).integers(0, 256, 3000).astype(np.uint8)
    expected = hash_rows(torch.from_numpy(window).long()[:, None], n, rows)[WORD_LOOKBACK + 1 - n :, 0]
    assert np.array_equal(cpp_keys(window, abi.EngineKey(n, 0), rows), expected.numpy())


def cpp_keys(window: np.ndarray, key: abi.EngineKey, rows: int = 0) -> np.ndarray:
    out = np.empty(len(window) - WORD_LOOKBACK, np.int64)
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    abi.library().canton_ngram_keys(
        pointer(window.ctypes.data),
        number(WORD_LOOKBACK),
        number(len(out)),
        ctypes.byref(key),
        number(rows),
        pointer(out.ctypes.data),
    )
    return out


class EngineKey(ctypes.Structure):
    """The engine's structure with its fields exchanged."""

    _fields_ = (("words", ctypes.c_int64), ("n", ctypes.c_int64))


class EngineMixer(ctypes.Structure):
    """The engine's structure without its last field."""

    _fields_ = abi.EngineMixer._fields_[:-1]


@pytest.mark.parametrize(("wrong", "named"), [(EngineKey, r"EngineKey\.words"), (EngineMixer, "EngineMixer")])
def test_a_structure_unlike_the_cpp_one_is_named(wrong: type[ctypes.Structure], named: str) -> None:
    table = abi.library().canton_engine_fields
    assert structure_mismatch(table, abi.STRUCTURES) is None
    structures = [wrong if each.__name__ == wrong.__name__ else each for each in abi.STRUCTURES]
    reason = structure_mismatch(table, structures)
    assert reason is not None
    assert re.search(named, reason)
    assert structure_mismatch(table, abi.STRUCTURES[1:]) is not None


@pytest.mark.parametrize("name", abi.CONSTANTS)
def test_a_constant_unlike_the_cpp_one_is_named(name: str) -> None:
    table = abi.library().canton_engine_constants
    assert constant_mismatch(table, abi.CONSTANTS) is None
    reason = constant_mismatch(table, abi.CONSTANTS | {name: abi.CONSTANTS[name] + 1})
    assert reason is not None
    assert name in reason


@pytest.mark.parametrize("head", [0, 256], ids=["tanh and sigmoid", "head"])
def test_activations_have_the_relative_error_of_float32(instructions: str, head: int) -> None:
    """From 1e-8 to 1e2: logits that are the states, or the head's ELU of them."""
    model = ByteModel(network(256, embedding_size=0, skip=False, head_size=head)).eval()
    numbers = torch.stack([x := torch.logspace(-8, 2, 128), -x], 1).flatten()
    cell, byte = model.layers[0].cells[0], ord("a")
    for update in (False, True):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            model.logits.weight.copy_(torch.eye(256))
            if model.head is not None:
                model.head.weight.copy_(torch.eye(256))
            z, _, c = cell.input_map.weight[:, byte].chunk(3)
            z.copy_(numbers if update else 20 * torch.ones(256))
            c.copy_(0.3 * torch.ones(256) if update else numbers)
            state = model.initial_state(1)
            exact = copy.deepcopy(model).double()
            expected, _ = exact(torch.tensor([[byte]], dtype=torch.uint8), exact.initial_state(1))
        chosen = np.zeros(256, np.float32)
        chosen[byte] = 1.0
        found = engine_of(model).generate(chosen, state, np.array([0.5]), sampling=Sampling(temperature=0.0))
        assert found.text == b"a"
        torch.testing.assert_close(
            torch.from_numpy(found.logits).double(),
            expected[0, 0],
            rtol=1e-6,
            atol=1e-32,
            msg=f"update={update}",
        )

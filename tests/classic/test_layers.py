"""Layers beyond the recorded files: initialisation, errors, and the faults of the original."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="canton.classic needs numpy (canton-torch[classic])")
pytest.importorskip("safetensors", reason="canton.classic needs safetensors (canton-torch[classic])")

import torch

import canton.classic as classic
from canton.classic import (
    GRU,
    Act,
    BatchNorm,
    Can,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Drop,
    Expansion,
    Glimpse2D,
    GroupConv2D,
    GRU_Glimpse2D,
    GRUConv2D,
    Scanner,
    ShuffleNet,
)
from classic.recorded import manifest


def initialised() -> list[tuple[str, Callable[[], Can]]]:
    scope = dict(vars(classic))
    entries = manifest().get("init", [])
    codes = [
        (
            e,
            e["constructor"].replace(
                "GRU of canton<=0.1.21 (commit 1ac32ec) (200,300)", "GRU(200,300,bias=False)"
            ),
        )
        for e in entries
    ]
    return [(e, lambda code=code: eval(code, scope)) for e, code in codes]


@pytest.mark.parametrize(("entry", "build"), initialised())
def test_layers_are_initialised_as_the_originals(entry: dict[str, Any], build: Callable[[], Can]) -> None:
    weights = build().get_weights()
    assert [list(w.shape) for w in weights] == [m["shape"] for m in entry["measured"]]
    for w, m in zip(weights, entry["measured"], strict=True):
        if m["std"] == 0:
            assert (w == m["mean"]).all(), m["path"]
            continue
        deviation = w.detach().double().std(correction=0).item()
        assert abs(deviation / m["std"] - 1) < 6 / w.numel() ** 0.5 + 1e-6, m["path"]
        assert abs(w.mean().item() - m["mean"]) <= 8 * m["std"] / w.numel() ** 0.5, m["path"]
        assert w.abs().max().item() <= 2 * deviation / 0.85, m["path"]


def test_the_windows_of_a_glimpse_are_initialised_as_the_originals() -> None:
    if not manifest():
        pytest.skip("no recorded files: there is no folder shared/canton-0.1 beside the project")
    for code, expected in manifest()["glimpse_initial"].items():
        eye = eval(code, {"Glimpse2D": Glimpse2D})
        assert torch.equal(eye.means, torch.tensor(expected["means"])), code
        assert torch.equal(eye.stddevs, torch.tensor(expected["stddevs"])), code


CALLS: list[tuple[type[BaseException], Callable[[], Any], str]] = [
    (
        NameError,
        lambda: Can()(1),
        r"^You didnt override __call__\(\), nor called set_function\(\)/chain\(\)$",
    ),
    (KeyError, lambda: Act("nope"), "nope"),
    (TypeError, lambda: Conv2D(3, 4, 3, rate=2, std=2), "rate"),
    (ValueError, lambda: DepthwiseConv2D(3, 2, k=3)(torch.zeros(1, 4, 4, 3)), "usebias"),
    (TypeError, lambda: DepthwiseConv2D(3, 1, 3), "'k'"),
    (ZeroDivisionError, lambda: Glimpse2D(1), "division by zero"),
    (NameError, lambda: Glimpse2D(0), "num_receptors should be greater than 0"),
    (Exception, lambda: ShuffleNet(8, 12, 2), r"accept only nip==nop or nip\*2==nop\."),
    (AssertionError, lambda: GroupConv2D(3, 4, 3, 2), "num_groups"),
    (ValueError, lambda: GRUConv2D(3, 4, k=3, std=2)(torch.zeros(1, 2, 4, 4, 3)), "must keep"),
    (ValueError, lambda: GRUConv2D(3, 4, k=3, padding="VALID")(torch.zeros(1, 2, 4, 4, 3)), "must keep"),
    (TypeError, lambda: GRUConv2D(3, 4, k=3, usebias=True), "usebias"),
    (TypeError, lambda: GRUConv2D(3, 4), "'k'"),
    (ValueError, lambda: GRU_Glimpse2D(5, 4, 2)(torch.zeros(1, 2, 4, 4, 2)), "offsets"),
    (TypeError, lambda: Can().incan([Dense(1, 1), torch.tanh]), "Lambda makes one"),
    (ValueError, lambda: Conv2D(1, 1, 3, padding="same"), "'SAME' or 'VALID'"),
    (ValueError, lambda: Drop(0), "prob"),
    (ValueError, lambda: classic.TF1Adam([torch.zeros(1)], beta1=1), "beta1"),
]


@pytest.mark.parametrize(("kind", "call", "match"), CALLS, ids=[match[:30] for _, _, match in CALLS])
def test_what_raises_in_the_original_raises_here(
    kind: type[BaseException], call: Callable[[], Any], match: str
) -> None:
    with pytest.raises(kind, match=match):
        call()


def test_drop_takes_the_probability_to_keep_and_infer_is_the_identity() -> None:
    ones, drop = torch.ones(200, 100), Drop(0.7)
    y = drop(ones)
    assert sorted({round(v, 5) for v in y.unique().tolist()}) == [0, 1.42857]
    assert abs((y > 0).float().mean().item() - 0.7) < 0.02
    assert torch.equal(drop.infer(ones), ones)
    drop.eval()
    assert torch.equal(drop(ones), ones), "torch's eval() works too"
    assert torch.equal(Drop(0.7, switch=torch.tensor(False))(ones), ones)
    assert not torch.equal(Drop(0.7, switch=True).eval()(ones), ones)


def test_batch_norm_has_the_decay_of_the_original() -> None:
    norm = BatchNorm(2)
    norm(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    assert torch.allclose(norm.moving_mean, torch.tensor([1.98, 3.96]))
    assert torch.allclose(norm.moving_variance, torch.tensor([1.0, 3.97]))
    before = norm.moving_mean.clone()
    norm.eval()(torch.randn(4, 2))
    norm.train().infer(torch.randn(4, 2))
    assert torch.equal(norm.moving_mean, before)


def test_two_chunks_are_one_run() -> None:
    for rnn, xs in ((GRU(2, 3), torch.randn(2, 6, 2)), (GRUConv2D(2, 3, k=3), torch.randn(1, 6, 4, 5, 2))):
        whole = rnn(xs)
        first = rnn(xs[:, :2])
        second = rnn(xs[:, 2:], starting_state=first[:, -1])
        assert torch.equal(torch.cat([first, second], 1), whole)


def test_an_empty_sequence_gives_no_states() -> None:
    assert GRU(2, 3)(torch.zeros(4, 0, 2)).shape == (4, 0, 3)


def test_scanner_without_a_shape_starts_as_zeros_like_the_input() -> None:
    y = Scanner(lambda s, x: s + x)(torch.ones(3, 2))
    assert y.tolist() == [[1, 1], [2, 2], [3, 3]]


def test_expansion_orders_outputs_by_channel() -> None:
    can = Expansion(2, 3)
    y = can(torch.tensor([[1.0, 10.0]]))
    assert torch.allclose(y[0], torch.cat([can.W[0], 10 * can.W[1]]))

"""Keras, Flax, RAFT and Robust Video Matting: their recorded outputs, states and gradients."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from peers import RECORDED, Peer, peers, results

from canton.interop import flax, keras, raft
from tolerances import assert_close

CASES = list(peers())
BOTH_WAYS = [peer for peer in CASES if peer.from_canton is not None]
NAMES = [f"{peer.system}-{peer.case}" for peer in CASES]
# Biases that are added, and Flax's f + 1, are not recovered; see the modules' docstrings.
CHANGED = {
    "keras-gru_after": {"w2"},
    "flax-conv_lstm": {"w_cell.ih.bias", "w_cell.hh.bias"},
}


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint32)


def test_every_system_is_recorded_with_its_version() -> None:
    versions = json.loads((RECORDED / "versions.json").read_text("utf-8"))
    assert {peer.system for peer in CASES} == {"keras", "flax", "raft", "rvm"}
    assert {path.stem for path in RECORDED.glob("*.npz")} == set(versions)
    assert len(CASES) == 20


def test_the_recordings_stay_small() -> None:
    assert sum(path.stat().st_size for path in RECORDED.iterdir()) < 600_000


@pytest.mark.parametrize("peer", CASES, ids=NAMES)
def test_outputs_states_and_gradients(peer: Peer) -> None:
    ours, expected = results(peer)
    assert set(ours) == set(expected)
    for name, value in expected.items():
        assert_close(ours[name], value, f"{peer.case} {name}")


@pytest.mark.parametrize(
    "peer", [p for p in CASES if p.from_canton is None], ids=lambda p: f"{p.system}-{p.case}"
)
def test_reading_keeps_every_bit(peer: Peer) -> None:
    """The conversion rounds no number. (The other tests check their positions.)"""
    ours = [p.detach().numpy() for p in peer.to_canton(peer.weights).parameters()]
    found, expected = (
        np.sort(np.concatenate([bits(a).ravel() for a in each])) for each in (ours, peer.weights.values())
    )
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("peer", BOTH_WAYS, ids=lambda p: f"{p.system}-{p.case}")
def test_exporting_what_was_imported_changes_no_bit(peer: Peer) -> None:
    back = peer.from_canton(peer.to_canton(peer.weights))
    for name, value in peer.weights.items():
        if name not in CHANGED.get(f"{peer.system}-{peer.case}", ()):
            assert np.array_equal(bits(back[name]), bits(value)), name


@pytest.mark.parametrize("peer", BOTH_WAYS, ids=lambda p: f"{p.system}-{p.case}")
def test_importing_what_was_exported_changes_no_bit(peer: Peer) -> None:
    layer = peer.to_canton(peer.weights)
    again = peer.to_canton(peer.from_canton(layer))
    before, after = layer.state_dict(), again.state_dict()
    assert list(before) == list(after)
    for name, value in before.items():
        if peer.case.startswith("conv_lstm") and peer.system == "flax" and "bias" in name:
            assert_close(after[name], value, name)  # f is b - 1 there
        else:
            assert torch.equal(value.view(torch.int32), after[name].view(torch.int32)), name


def test_importing_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    for peer in CASES:
        peer.to_canton(peer.weights)
    assert torch.equal(torch.get_rng_state(), before)


def test_swapped_gates_fail_the_comparison() -> None:
    """The comparison itself can fail."""
    peer = next(p for p in CASES if p.case == "gru_before")
    swapped = {k: np.roll(v, 4, axis=-1) for k, v in peer.weights.items()}
    wrong = peer._replace(arrays={**peer.arrays, **swapped})
    ours, expected = results(wrong)
    with pytest.raises(AssertionError, match="error"):
        assert_close(ours["y"], expected["y"])


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


class TestKerasRefusals:
    def test_a_bias_of_the_other_reset(self) -> None:
        with pytest.raises(ValueError, match="reset_after"):
            keras.from_keras([zeros(3, 12), zeros(4, 12), zeros(2, 12)], reset_after=False)
        with pytest.raises(ValueError, match="reset_after"):
            keras.from_keras([zeros(3, 12), zeros(4, 12), zeros(12)], reset_after=True)

    def test_without_bias_reset_after_is_needed(self) -> None:
        with pytest.raises(ValueError, match="reset_after"):
            keras.from_keras([zeros(3, 12), zeros(4, 12)])
        assert keras.from_keras([zeros(3, 12), zeros(4, 12), zeros(2, 12)]).cells[0].reset == "after"
        assert keras.from_keras([zeros(3, 12), zeros(4, 12), zeros(12)]).cells[0].reset == "before"

    def test_shapes_that_do_not_fit(self) -> None:
        with pytest.raises(ValueError, match="weights must"):
            keras.from_keras([zeros(3, 16), zeros(4, 12)])
        with pytest.raises(ValueError, match="weights must"):
            keras.from_keras([zeros(16), zeros(16)])
        with pytest.raises(ValueError, match="got 5"):
            keras.from_keras([zeros(3, 16)] * 5)
        with pytest.raises(ValueError, match="int64"):
            keras.from_keras([np.zeros((3, 16), np.int64), zeros(4, 16)])
        with pytest.raises(ValueError, match="ConvLSTM"):
            keras.from_keras([zeros(3, 3, 3, 12), zeros(3, 3, 4, 12)], reset_after=False)

    @pytest.mark.parametrize(
        "option", [{"reset_after": True}, {"activation": "relu"}, {"dilation_rate": 2}], ids=str
    )
    def test_options_of_other_layers(self, option: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(option))):
            keras.from_keras([zeros(3, 16), zeros(4, 16)], **option)


class TestFlaxRefusals:
    def test_missing_and_unknown_names(self) -> None:
        peer = next(p for p in CASES if p.case == "gru" and p.system == "flax")
        tree = flax.to_flax(peer.to_canton(peer.weights))
        del tree["hn"]["bias"]
        tree["hx"] = tree["hr"]
        with pytest.raises(ValueError, match=r"missing \['hn/bias'\], unknown \['hx/kernel'\]"):
            flax.from_flax(tree)

    def test_dicts_around_a_tree_are_unwrapped(self) -> None:
        peer = next(p for p in CASES if p.case == "gru")
        tree = flax.to_flax(peer.to_canton(peer.weights))
        assert flax.from_flax({"params": {"cell": tree}}).cells[0].hidden_size == 4


class TestConvGRURefusals:
    def test_a_missing_name_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"'gru\.convz\.weight'"):
            raft.from_raft({"convz.weight": zeros(3, 5, 3, 3)}, prefix="gru.")

    def test_a_prefix_precedes_the_names(self) -> None:
        peer = next(p for p in CASES if p.case == "sep_conv_gru")
        named = {f"update_block.gru.{k[2:]}": value for k, value in peer.weights.items()}
        layer = raft.from_raft({**named, "other.weight": torch.zeros(1)}, "update_block.gru.")
        for name, value in peer.to_canton(peer.weights).state_dict().items():
            assert torch.equal(layer.state_dict()[name], value)

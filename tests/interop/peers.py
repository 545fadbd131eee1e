"""What other systems computed (recorded/), and what Canton's layers compute from their weights.

Used by the tests here and by benchmarks/peers_weights.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from canton.core.recurrent import Recurrent
from canton.interop import flax, keras, raft

RECORDED = Path(__file__).resolve().parent / "recorded"
Arrays = dict[str, np.ndarray]


class Peer(NamedTuple):
    """One recorded case: what it is, its arrays, and the conversions both ways, weights by name."""

    system: str
    case: str
    arrays: Arrays
    load: Callable[[Arrays], Recurrent]
    unload: Callable[[Recurrent], Arrays] | None  # None where Canton only reads
    channels_last: bool
    memory_first: bool  # Flax's carry is (c, h)

    @property
    def weights(self) -> Arrays:
        return {k: v for k, v in self.arrays.items() if k.startswith("w")}


def _keras(load: Callable[[list[np.ndarray]], Recurrent]) -> tuple[Any, Any]:
    return (
        lambda w: load([w[f"w{k}"] for k in range(len(w))]),
        lambda layer: {f"w{k}": array for k, array in enumerate(keras.to_arrays(layer))},
    )


def _flax(load: Callable[[Any], Recurrent]) -> tuple[Any, Any]:
    def tree(weights: Arrays) -> dict[str, Any]:
        root: dict[str, Any] = {}
        for name, value in weights.items():
            *path, leaf = name[2:].split(".")
            node = root
            for key in path:
                node = node.setdefault(key, {})
            node[leaf] = value
        return root

    def flat(layer: Recurrent) -> Arrays:
        params = flax.to_params(layer)
        return {f"w_cell.{name}.{leaf}": a for name, part in params.items() for leaf, a in part.items()}

    return lambda w: load(tree(w)), flat


def _named(load: Callable[[Any], Recurrent]) -> tuple[Any, None]:
    def loaded(weights: Arrays) -> Recurrent:
        layer = load({name[2:]: value for name, value in weights.items()})
        layer.batch_first = True  # RAFT's own has no time; the recordings are (B, T, ...)
        return layer

    return loaded, None


def _conversions(system: str, case: str) -> tuple[Any, Any]:
    if system == "keras":
        if case.startswith("gru"):
            return _keras(lambda w: keras.gru(w, reset_after="after" in case))
        if case.startswith("conv"):
            return _keras(lambda w: keras.conv_lstm(w, dilation_rate=2 if "dilated" in case else 1))
        if case.startswith("simple_rnn"):
            return _keras(lambda w: keras.simple_rnn(w, activation="relu" if "relu" in case else "tanh"))
        return _keras(keras.lstm)
    if system == "flax":
        kinds = {"gru": flax.gru, "lstm": flax.lstm, "optimized_lstm": flax.lstm}
        return _flax(kinds.get(case, flax.conv_lstm))
    if system == "raft":
        return _named(raft.raft)
    assert system == "rvm"
    return _named(raft.robust_video_matting)


def peers() -> Iterator[Peer]:
    """Every recorded case but the files."""
    for path in sorted(RECORDED.glob("*.npz")):
        cases: dict[str, Arrays] = {}
        with np.load(path) as table:
            for name in table:
                case, _, what = name.partition("/")
                cases.setdefault(case, {})[what] = table[name]
        for case, arrays in cases.items():
            if not case.endswith("_file"):
                load, unload = _conversions(path.stem, case)
                last = path.stem in ("keras", "flax")
                yield Peer(path.stem, case, arrays, load, unload, last, path.stem == "flax")


class Results(NamedTuple):
    """What Canton computed, and what the peer did: outputs, states and gradients by name.

    Weight gradients have Canton's names and layout, everything else the peer's.
    """

    ours: dict[str, Tensor]
    expected: dict[str, Tensor]


def results(peer: Peer) -> Results:
    """Run Canton's layer on the recorded inputs: outputs, states after, and every gradient."""
    arrays = {k: torch.from_numpy(v) for k, v in peer.arrays.items()}
    layer = peer.load(peer.weights)
    x = _channels_second(arrays["x"], peer, lead=2).requires_grad_()
    names = [f"s{k}" for k in range(len(arrays)) if f"s{k}" in arrays]
    start = [_channels_second(arrays[name], peer, lead=1).requires_grad_() for name in names]
    kinds = len(layer.state_sizes)
    stacks = [torch.stack(start[k::kinds]) for k in range(kinds)]
    stacks = stacks[::-1] if peer.memory_first else stacks
    y, after = layer(x, stacks[0] if kinds == 1 else tuple(stacks))
    after = [after] if isinstance(after, Tensor) else list(after)
    after = after[::-1] if peer.memory_first else after
    loss = (y * _channels_second(arrays["probe"], peer, lead=2)).sum() + sum(a.sum() for a in after)
    loss.backward()
    ours = {"y": _channels_back(y.detach(), peer, lead=2)}
    ours["g_x"] = _channels_back(_gradient(x), peer, lead=2)
    for k, name in enumerate(names):
        ours[f"g_{name}"] = _channels_back(_gradient(start[k]), peer, lead=1)
        ours[f"t{k}"] = _channels_back(after[k % kinds][k // kinds].detach(), peer, lead=1)
    expected = {k: v for k, v in arrays.items() if k[0] in "ty" or k == "g_x" or k.startswith("g_s")}
    weight_gradients = _weight_gradients(peer)
    expected |= weight_gradients
    ours |= {name: _gradient(layer.get_parameter(name[2:])) for name in weight_gradients}
    return Results(ours, expected)


def _weight_gradients(peer: Peer) -> dict[str, Tensor]:
    """The peer's weight gradients by Canton's names.

    An import moves numbers and changes signs, so it maps gradients as it maps weights. The two exceptions:
    biases that are added have the same gradient each, and Flax's f + 1 adds nothing to a gradient.
    """
    gradients = {k[2:]: v.copy() for k, v in peer.arrays.items() if k.startswith("g_w")}
    if peer.system == "keras" and peer.case == "gru_after":
        on_input, on_state = gradients["w2"]
        shared = slice(None, 2 * len(on_input) // 3)
        assert np.array_equal(on_input[shared], on_state[shared])
        on_state[shared] = 0
    found = {f"g_{name}": p.detach() for name, p in peer.load(gradients).named_parameters()}
    if peer.system == "flax" and peer.case == "conv_lstm":
        assert np.array_equal(gradients["w_cell.ih.bias"], gradients["w_cell.hh.bias"])
        found["g_cells.0.input_map.bias"] /= 2
        found["g_cells.0.input_map.bias"].chunk(4)[1].sub_(0.5)
    if peer.system == "flax" and peer.case == "conv_lstm_nobias":
        found.pop("g_cells.0.input_map.bias")  # a bias that is there for f + 1 alone
    return found


def _gradient(t: Tensor) -> Tensor:
    assert t.grad is not None
    return t.grad


def _channels_second(t: Tensor, peer: Peer, *, lead: int) -> Tensor:
    """Channels to the axis behind `lead` (batch, or batch and time)."""
    return (t.movedim(-1, lead) if peer.channels_last else t).detach().clone()


def _channels_back(t: Tensor, peer: Peer, *, lead: int) -> Tensor:
    return t.movedim(lead, -1) if peer.channels_last else t

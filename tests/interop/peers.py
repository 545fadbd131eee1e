"""Recorded outputs and gradients of other systems (recorded/), and Canton's with the same weights.

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
    """One recorded case: its arrays, and the conversions of its weights, which are named w...

    Attributes:
        system, case: which layer of which system.
        arrays: the recording, see benchmarks/record_peers.py.
        to_canton: from weights to the layer.
        from_canton: from the layer to weights; None where Canton has no export.
        channels_last: whether sequences are (B, T, *space, C).
        memory_first: whether the state is (c, h), as Flax's.
    """

    system: str
    case: str
    arrays: Arrays
    to_canton: Callable[[Arrays], Recurrent]
    from_canton: Callable[[Recurrent], Arrays] | None
    channels_last: bool
    memory_first: bool

    @property
    def weights(self) -> Arrays:
        return {k: v for k, v in self.arrays.items() if k.startswith("w")}


def _keras(**options: Any) -> tuple[Any, Any]:
    return (
        lambda w: keras.from_keras([w[f"w{k}"] for k in range(len(w))], **options),
        lambda layer: {f"w{k}": array for k, array in enumerate(keras.to_keras(layer))},
    )


def _flax() -> tuple[Any, Any]:
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
        params = flax.to_flax(layer)
        return {f"w_cell.{name}.{leaf}": a for name, part in params.items() for leaf, a in part.items()}

    return lambda w: flax.from_flax(tree(w)), flat


def _state_dict(convert: Callable[[Any], Recurrent]) -> tuple[Any, None]:
    def to_canton(weights: Arrays) -> Recurrent:
        layer = convert({name[2:]: value for name, value in weights.items()})
        layer.batch_first = True  # RAFT's module has no time axis; the recordings are (B, T, ...)
        return layer

    return to_canton, None


def _conversions(system: str, case: str) -> tuple[Any, Any]:
    if system == "keras":
        if case.startswith("gru"):
            return _keras(reset_after="after" in case)
        if case.startswith("conv"):
            return _keras(dilation_rate=2 if "dilated" in case else 1)
        return _keras(activation="relu" if "relu" in case else "tanh")
    if system == "flax":
        return _flax()
    return _state_dict({"raft": raft.from_raft, "rvm": raft.from_robust_video_matting}[system])


def peers() -> Iterator[Peer]:
    """Yield every recorded case except the Keras files."""
    for path in sorted(RECORDED.glob("*.npz")):
        cases: dict[str, Arrays] = {}
        with np.load(path) as table:
            for name in table:
                case, _, what = name.partition("/")
                cases.setdefault(case, {})[what] = table[name]
        for case, arrays in cases.items():
            if not case.endswith("_file"):
                channels_last = path.stem in ("keras", "flax")
                conversions = _conversions(path.stem, case)
                yield Peer(path.stem, case, arrays, *conversions, channels_last, path.stem == "flax")


class Results(NamedTuple):
    """Results of Canton and of the peer: outputs, states and gradients by name.

    Weight gradients have Canton's names and layout, everything else the peer's.
    """

    ours: dict[str, Tensor]
    expected: dict[str, Tensor]


def results(peer: Peer) -> Results:
    """Return outputs, final states and all gradients of Canton's layer and of the peer."""
    arrays = {k: torch.from_numpy(v) for k, v in peer.arrays.items()}
    layer = peer.to_canton(peer.weights)
    x = _to_canton_layout(arrays["x"], peer, lead=2).requires_grad_()
    names = [f"s{k}" for k in range(len(arrays)) if f"s{k}" in arrays]
    start = [_to_canton_layout(arrays[name], peer, lead=1).requires_grad_() for name in names]
    kinds = len(layer.state_sizes)
    stacks = [torch.stack(start[k::kinds]) for k in range(kinds)]
    stacks = stacks[::-1] if peer.memory_first else stacks
    y, new_state = layer(x, stacks[0] if kinds == 1 else tuple(stacks))
    new_state = [new_state] if isinstance(new_state, Tensor) else list(new_state)
    new_state = new_state[::-1] if peer.memory_first else new_state
    loss = (y * _to_canton_layout(arrays["probe"], peer, lead=2)).sum() + sum(a.sum() for a in new_state)
    loss.backward()
    ours = {"y": _to_peer_layout(y.detach(), peer, lead=2)}
    ours["g_x"] = _to_peer_layout(_gradient(x), peer, lead=2)
    for k, name in enumerate(names):
        ours[f"g_{name}"] = _to_peer_layout(_gradient(start[k]), peer, lead=1)
        ours[f"t{k}"] = _to_peer_layout(new_state[k % kinds][k // kinds].detach(), peer, lead=1)
    expected = {k: v for k, v in arrays.items() if k[0] in "ty" or k == "g_x" or k.startswith("g_s")}
    weight_gradients = _weight_gradients(peer)
    expected |= weight_gradients
    ours |= {name: _gradient(layer.get_parameter(name[2:])) for name in weight_gradients}
    return Results(ours, expected)


def _weight_gradients(peer: Peer) -> dict[str, Tensor]:
    """Return the peer's weight gradients by Canton's names.

    An import moves numbers and changes signs, so it maps gradients as it maps weights. The two exceptions:
    biases that are added have the same gradient each, and Flax's f + 1 adds nothing to a gradient.
    """
    gradients = {k[2:]: v.copy() for k, v in peer.arrays.items() if k.startswith("g_w")}
    if peer.system == "keras" and peer.case == "gru_after":
        on_input, on_state = gradients["w2"]
        shared = slice(None, 2 * len(on_input) // 3)
        assert np.array_equal(on_input[shared], on_state[shared])
        on_state[shared] = 0
    found = {f"g_{name}": p.detach() for name, p in peer.to_canton(gradients).named_parameters()}
    if peer.system == "flax" and peer.case == "conv_lstm":
        assert np.array_equal(gradients["w_cell.ih.bias"], gradients["w_cell.hh.bias"])
        found["g_cells.0.input_map.bias"] /= 2
        found["g_cells.0.input_map.bias"].chunk(4)[1].sub_(0.5)
    if peer.system == "flax" and peer.case == "conv_lstm_nobias":
        found.pop("g_cells.0.input_map.bias")  # it exists for f + 1 alone
    return found


def _gradient(t: Tensor) -> Tensor:
    assert t.grad is not None
    return t.grad


def _to_canton_layout(t: Tensor, peer: Peer, *, lead: int) -> Tensor:
    """Move the channels behind the first `lead` axes."""
    return (t.movedim(-1, lead) if peer.channels_last else t).detach().clone()


def _to_peer_layout(t: Tensor, peer: Peer, *, lead: int) -> Tensor:
    return t.movedim(lead, -1) if peer.channels_last else t

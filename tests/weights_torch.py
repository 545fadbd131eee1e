"""Weights from torch.nn's recurrent layers to Canton's, and gradients back, for comparison."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from canton import Recurrent


def _rows(gru: bool, w: Tensor) -> Tensor:
    """Torch's GRU has rows r, z, n and keeps the old with z; ours takes the new: z, r, c, z negated."""
    if not gru:
        return w
    r, z, n = w.chunk(3)
    return torch.cat([-z, r, n])


def canton_parameters(theirs: nn.RNNBase, suffix: str) -> dict[str, Tensor]:
    """What one layer and direction's parameters are in a cell of ours, as a function of torch's."""
    gru = isinstance(theirs, nn.GRU)
    p = {name: _rows(gru, getattr(theirs, name + suffix)) for name in ("weight_ih_l", "weight_hh_l")}
    if theirs.bias:
        p |= {name: _rows(gru, getattr(theirs, name + suffix)) for name in ("bias_ih_l", "bias_hh_l")}
    ours = {"input_map.weight": p["weight_ih_l"], "hidden_map.weight": p["weight_hh_l"]}
    if gru:
        n = theirs.hidden_size
        ours["hidden_map.weight"], ours["candidate_map.weight"] = p["weight_hh_l"].split((2 * n, n))
    if theirs.bias:
        ours["input_map.bias"] = p["bias_ih_l"] + p["bias_hh_l"]
        if gru:
            merged = torch.cat([p["bias_hh_l"][: 2 * n], torch.zeros_like(p["bias_hh_l"][2 * n :])])
            ours["input_map.bias"] = p["bias_ih_l"] + merged
            ours["candidate_map.bias"] = p["bias_hh_l"][2 * n :]
    if theirs.proj_size:
        ours["projection.weight"] = getattr(theirs, "weight_hr_l" + suffix)
    return ours


def mapped(theirs: nn.RNNBase) -> dict[str, Tensor]:
    """All parameters of our layer as differentiable functions of torch's, by our names."""
    directions = 2 if theirs.bidirectional else 1
    found = {}
    for k in range(theirs.num_layers * directions):
        suffix = f"{k // directions}{'_reverse' if k % directions else ''}"
        for name, value in canton_parameters(theirs, suffix).items():
            found[f"cells.{k}.{name}"] = value
    return found


def load(ours: Recurrent, theirs: nn.RNNBase) -> None:
    """Copy torch's weights into our layer; every parameter of ours gets a value."""
    ours.load_state_dict({name: value.detach() for name, value in mapped(theirs).items()})


def gradients(ours: Recurrent, theirs: nn.RNNBase) -> dict[str, Tensor]:
    """Our parameters' gradients as gradients of torch's parameters, by the chain rule through `mapped`."""
    targets = mapped(theirs)
    own = dict(ours.named_parameters())
    names, params = zip(*theirs.named_parameters(), strict=True)
    outs = [targets[name] for name in own]
    grads = torch.autograd.grad(outs, params, [p.grad for p in own.values()])
    return dict(zip(names, grads, strict=True))

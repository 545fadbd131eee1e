"""Convert weights of torch.nn's recurrent layers to Canton's, and gradients back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from canton import Recurrent


def _rows(gru: bool, w: Tensor) -> Tensor:
    """Reorder torch's rows r, z, n to z, r, c; torch's z is 1 - z, so its rows are negated."""
    if not gru:
        return w
    r, z, n = w.chunk(3)
    return torch.cat([-z, r, n])


def canton_parameters(theirs: nn.RNNBase, suffix: str) -> dict[str, Tensor]:
    """Return the parameters of one cell as functions of torch's."""
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
    """Return all parameters of Canton's layer, by name, as differentiable functions of torch's."""
    directions = 2 if theirs.bidirectional else 1
    found = {}
    for k in range(theirs.num_layers * directions):
        suffix = f"{k // directions}{'_reverse' if k % directions else ''}"
        for name, value in canton_parameters(theirs, suffix).items():
            found[f"cells.{k}.{name}"] = value
    return found


def load(ours: Recurrent, theirs: nn.RNNBase) -> None:
    """Copy torch's weights to Canton's layer."""
    ours.load_state_dict({name: value.detach() for name, value in mapped(theirs).items()})


def gradients(ours: Recurrent, theirs: nn.RNNBase) -> dict[str, Tensor]:
    """Return the gradients of torch's parameters from those of Canton's, by the chain rule."""
    targets = mapped(theirs)
    own = dict(ours.named_parameters())
    names, params = zip(*theirs.named_parameters(), strict=True)
    outs = [targets[name] for name in own]
    grads = torch.autograd.grad(outs, params, [p.grad for p in own.values()])
    return dict(zip(names, grads, strict=True))

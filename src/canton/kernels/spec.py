"""What a cell asks of a kernel: its gate algebra, and the hidden half of its map as plain tensors.

A cell whose hidden half is made of ordinary products (``nn.Linear`` or ``nn.Conv*d``) describes itself by one
of the plans below. A cell with anything else in its step (a user's own map, layer normalisation) has no plan,
and the readable loop runs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module


class Dense(NamedTuple):
    """The product of (B, in) with ``weight`` (out, in); no bias."""

    weight: Tensor


class Conv(NamedTuple):
    """A convolution of (B, in, *space) with ``weight`` (out, in / groups, *kernel).

    Its stride is 1, its output as large as the input. An even kernel's extra pixel of padding lies after, as
    ``padding="same"`` has it in torch. With ``groups`` > 1 the output channels come group by group;
    `canton.maps.regroup` puts them gate by gate.
    """

    weight: Tensor
    dilation: tuple[int, ...]
    groups: int
    circular: bool


Product = Dense | Conv


class RNN(NamedTuple):
    """h' = act(gx + hidden(h)); act is relu or tanh."""

    hidden: Product
    relu: bool


class GRUBefore(NamedTuple):
    """Reset before the map; ``gates`` gives z then r, gx holds z, r, c."""

    gates: Product
    candidate: Product


class GRUAfter(NamedTuple):
    """Reset after the map, as torch.nn.GRU: c = tanh(gx_c + r * (candidate(h) + bias)), bias (hidden,)."""

    gates: Product
    candidate: Product
    bias: Tensor | None


class MGU(NamedTuple):
    """Minimal gated unit. Without ``gate_input`` gx holds c alone and ``bias`` (hidden,) is the gate's.

    With ``reset`` the candidate sees f * h, else h.
    """

    gate: Product
    candidate: Product
    bias: Tensor | None
    gate_input: bool
    reset: bool


class LSTM(NamedTuple):
    """Long short-term memory; gx and ``hidden`` give i, f, g, o; ``peephole`` is (3, hidden) for i, f, o."""

    hidden: Product
    peephole: Tensor | None
    projection: Product | None


class MinGRU(NamedTuple):
    """Gates that do not see the state: gx holds z, c; h' = (1 - z) h + z g(c)."""


Plan = RNN | GRUBefore | GRUAfter | MGU | LSTM | MinGRU


def tensors(plan: Plan) -> Iterator[Tensor]:
    """The weights that `plan` names, in its order."""
    for part in plan:
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, (Dense, Conv)):
            yield part.weight


def is_watched(module: nn.Module) -> bool:
    """Whether calling the module does more than its class's forward: a hook waits for it, the module's own or
    one for all, or the object has a forward of its own.

    `torch.nn.utils.weight_norm`, `spectral_norm` and `prune` make the weight anew in such a hook.
    """
    own = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    if own or module._backward_pre_hooks or "forward" in module.__dict__:
        return True
    return bool(torch_module._has_any_global_hook())


def is_transformed(tensors: Iterable[Tensor] = ()) -> bool:
    """Whether a transform of torch.func is at work, or forward-mode differentiation on `tensors`."""
    return torch._C._functorch.peek_interpreter_stack() is not None or any(
        torch.autograd.forward_ad.unpack_dual(t).tangent is not None for t in tensors
    )


def misfit(plan: Plan, gx: Tensor, state: tuple[Tensor, ...]) -> bool:
    """Whether a weight of the plan has other channels than gx (T, B, G, *space) and the state need: kernels
    that go by addresses would read beside it.
    """
    output, hidden = state[0].shape[1], state[-1].shape[1]
    wanted: tuple[tuple[Product, int, int], ...]
    match plan:
        case RNN(whole, _):
            gates, wanted = 1, ((whole, hidden, hidden),)
        case GRUBefore(both, candidate) | GRUAfter(both, candidate, _):
            gates, wanted = 3, ((both, 2 * hidden, hidden), (candidate, hidden, hidden))
        case MGU(gate, candidate, _, gate_input, _):
            gates, wanted = 1 + gate_input, ((gate, hidden, hidden), (candidate, hidden, hidden))
        case LSTM(whole, _, projection):
            gates, wanted = 4, ((whole, 4 * hidden, output),)
            if projection is not None:
                wanted = (*wanted, (projection, output, hidden))
        case _:
            gates, wanted = 2, ()
    return gx.shape[2] != gates * hidden or any(
        part.weight.shape[0] != out or part.weight.shape[1] * getattr(part, "groups", 1) != seen
        for part, out, seen in wanted
    )


def product(module: nn.Module, *, biased: bool = False) -> Product | None:
    """The product that `module` computes, without its bias, or None if a kernel cannot know it.

    A bias on it makes None too, unless `biased` says that the cell's plan carries it; so does whatever else a
    call of it does, see `is_watched`.
    """
    if getattr(module, "bias", None) is not None and not biased:
        return None  # a map of the user's that has a bias whether asked or not
    if is_watched(module):
        return None
    if type(module) is nn.Linear:
        return Dense(module.weight)
    if type(module) in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        assert isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        plain = module.padding == "same" and set(module.stride) == {1}
        if plain and module.padding_mode in ("zeros", "circular"):
            return Conv(module.weight, module.dilation, module.groups, module.padding_mode == "circular")
    return None


class Job(NamedTuple):
    """One run of a cell over a sequence, made ready by the layer for the readable loop and every kernel.

    Attributes:
        plan: the cell's plan, or None if it has none.
        gx: the projected input (T, B, G, *space), bias and input normalisation included; T >= 1.
        state: the state before the first step, each tensor (B, C, *space).
        fresh: what a row restarts from, shaped as `state`.
        reset: (T, B) bool, or None; where true, the row's state is `fresh` before the step is taken.
        lengths: (B,) integers in 0..T, or None; from a row's length on its state stays, its output is 0.
        drop: (B, C, *space) or None; multiplies the output part of the state wherever a map sees it.
        zone: for each tensor of the state the share of the old value that stays, broadcastable to
            (T, B, C, *space).
    """

    plan: Plan | None
    gx: Tensor
    state: tuple[Tensor, ...]
    fresh: tuple[Tensor, ...]
    reset: Tensor | None = None
    lengths: Tensor | None = None
    drop: Tensor | None = None
    zone: tuple[Tensor, ...] | None = None


Result = tuple[Tensor, tuple[Tensor, ...]]
"""The outputs (T, B, C, *space) and the state after the last step."""

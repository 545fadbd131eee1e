"""Run recurrent Cans with Canton's kernels: through a Canton cell that shares the weights of the one-pass
Can.

This needs a one-pass Can of this library over Dense or Conv2D, without hooks. Anything else (a step or a map
of your own, layer normalisation) runs step by step.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from canton import kernels
from canton.cells.gru import GRUCell
from canton.cells.mgu import MGUCell
from canton.cells.rnn import RNNCell
from canton.classic.convolutions import Conv2D
from canton.classic.dense import Dense
from canton.classic.pointwise import Act
from canton.core.cell import Cell
from canton.core.recurrent import loop
from canton.maps import Map, conv2d, dense

MIN_STEPS = 8
"""Number of steps from which the kernels are faster, the sharing of the weights included."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class SplitWeights(NamedTuple):
    """A map of [hidden, input], split: weights (out, in, *kernel), the bias, and a convolution's dilation."""

    hidden: Tensor
    input: Tensor
    bias: Tensor | None
    rate: int


def split_weights(can: nn.Module, num_h: int) -> SplitWeights | None:
    """Return the weights of a `Dense`, or of a `Conv2D` that keeps the image's size; None for other maps."""
    if type(can) is Dense:
        weight, rate, has_bias = can.W.t(), 1, can.use_bias
    elif type(can) is Conv2D and can.std == 1 and can.k % 2 and can.padding == "SAME":
        weight, rate, has_bias = can.W.permute(3, 2, 0, 1), can.rate, can.usebias
    else:
        return None
    return SplitWeights(weight[:, :num_h], weight[:, num_h:], can.b if has_bias else None, rate)


def is_unmodified(can: nn.Module, forward: object) -> bool:
    """Return whether calling `can` calls `forward` only: no override in a subclass, and no hooks."""
    own = type(can).forward is forward and type(can).__call__ is nn.Module.__call__
    hooked = nn.modules.module._has_any_global_hook() or any(map(_is_hooked, can.modules()))
    return own and not hooked


def gru(wz: nn.Module, wr: nn.Module, w: nn.Module, num_h: int) -> Cell | None:
    """Return the cell of a GRU's three maps; None if they cannot be split, or differ in kind."""
    parts = [part for part in (split_weights(can, num_h) for can in (wz, wr, w)) if part is not None]
    kinds = {(part.input.shape, part.hidden.shape, part.rate, part.bias is None) for part in parts}
    if len(parts) < 3 or len(kinds) > 1:
        return None
    first = parts[0]
    cell = _copy(_gru(first.input.shape[1], num_h, first.bias is not None, _map(first)))
    _set_weights(cell.input_map, [part.input for part in parts], [part.bias for part in parts])
    _set_weights(cell.hidden_map, [part.hidden for part in parts[:2]])
    _set_weights(cell.candidate_map, [parts[2].hidden])
    return cell


def gru2(wz: nn.Module, w: nn.Module, num_h: int) -> Cell | None:
    """Return the cell of a GRU2's two maps, with wz of the state only; None if they cannot be split."""
    gate, part = split_weights(wz, num_h), split_weights(w, num_h)
    if gate is None or part is None or gate.bias is None or part.bias is None or gate.input.shape[1]:
        return None
    cell = _copy(_gru2(part.input.shape[1], num_h))
    _set_weights(cell.input_map, [part.input], [part.bias])
    _set_weights(cell.hidden_map, [gate.hidden], [gate.bias])
    _set_weights(cell.candidate_map, [part.hidden])
    return cell


def rnn(w: nn.Module, act: object, num_h: int) -> Cell | None:
    """Return the cell of an RNN's map; None for another map or nonlinearity."""
    part = split_weights(w, num_h)
    if part is None or type(act) is not Act or act.name not in ("tanh", "relu"):
        return None
    cell = _copy(_rnn(part.input.shape[1], num_h, part.bias is not None, act.name))
    _set_weights(cell.input_map, [part.input], [part.bias])
    _set_weights(cell.hidden_map, [part.hidden])
    return cell


def can_run(cell: Cell, i: Tensor, state: Tensor) -> bool:
    """Return whether the cell can run over `i` from `state`.

    Their shapes are (batch, time, *space, channels) and (batch, *space, channels).

    It cannot for fewer than `MIN_STEPS` steps, while torch traces or compiles, or for mixed dtypes (the
    one-pass Can's concatenation promotes them).
    """
    dims = cell.spatial_dims or 0
    shapes = i.ndim == 3 + dims and state.shape == (i.shape[0], *i.shape[2:-1], cell.hidden_size)
    traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    same_dtype = i.dtype == state.dtype == cell.input_map.weight.dtype
    return shapes and same_dtype and i.shape[1] >= MIN_STEPS and i.shape[-1] == cell.input_size and not traced


def run(cell: Cell, i: Tensor, state: Tensor) -> Tensor:
    """Return all states (batch, time, *space, channels); see `can_run` for the arguments."""
    xs, start = i.transpose(0, 1).movedim(-1, 2), (state.movedim(-1, 1),)
    # The C++ convolutions have gradients within 6e-6, torch's within 3e-7. Results must not change.
    exact = bool(cell.spatial_dims) and torch.is_grad_enabled()
    gx = cell.project(xs.flatten(0, 1), fast=not exact).unflatten(0, xs.shape[:2])
    run = kernels.Run(cell.spec(), gx, start, start)
    kernel: kernels.Kernel = "auto"
    if exact:
        kernel = "manual" if kernels.explain(run)["manual"] is None else "loop"
    ys, _ = kernels.execute(run, partial(loop, cell=cell), kernel)
    return ys.movedim(2, -1).transpose(0, 1)


def _is_hooked(module: nn.Module) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    return any(hooks) or bool(module._backward_pre_hooks) or "forward" in module.__dict__


def _map(part: SplitWeights) -> Map:
    kernel = tuple(part.input.shape[2:])
    return conv2d(kernel, dilation=part.rate) if kernel else dense


@lru_cache(64)
def _gru(c_in: int, num_h: int, bias: bool, map: Map) -> GRUCell:
    with torch.device("meta"):  # a template without numbers
        return GRUCell(c_in, num_h, bias, map=map)


@lru_cache(64)
def _gru2(c_in: int, num_h: int) -> MGUCell:
    with torch.device("meta"):
        return MGUCell(c_in, num_h, gate_input=False, reset=False)


@lru_cache(64)
def _rnn(c_in: int, num_h: int, bias: bool, nonlinearity: Literal["tanh", "relu"]) -> RNNCell:
    with torch.device("meta"):
        return RNNCell(c_in, num_h, bias, nonlinearity)


def _copy(module: ModuleT) -> ModuleT:
    """Return a copy whose tensors can be replaced. A new module would initialise its weights."""
    copied = type(module).__new__(type(module))
    parts = {name: part and _copy(part) for name, part in module._modules.items()}
    copied.__dict__.update(module.__dict__, _modules=parts, _parameters=dict(module._parameters))
    return copied


def _set_weights(module: nn.Module, weights: list[Tensor], biases: list[Tensor | None] | None = None) -> None:
    """Replace the module's parameters by the stacked tensors, so that gradients reach these."""
    tensors = {"weight": weights, "bias": [bias for bias in biases or () if bias is not None]}
    for name, parts in tensors.items():
        if parts:
            delattr(module, name)
            setattr(module, name, parts[0].contiguous() if len(parts) == 1 else torch.cat(parts))

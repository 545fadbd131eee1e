"""A recurrent Can through the kernels' door: the weights of its one-pass Can, tied into a cell of Canton's.

Only where that cell computes what the one-pass Can does: a step that is the library's own, over plain maps,
without hooks. Anything else (a step or a map of one's own, layer normalisation) is stepped through as it is.
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

WORTH_IT = 8
"""Steps from which on the kernels make up for tying the weights in."""

Made = TypeVar("Made", bound=nn.Module)


class Halves(NamedTuple):
    """A map of [hidden, input] cut in two: weights (out, in, *kernel), the bias, a convolution's rate."""

    hidden: Tensor
    input: Tensor
    bias: Tensor | None
    rate: int


def halves(can: nn.Module, num_h: int) -> Halves | None:
    """The two halves of a `Dense`, or of a `Conv2D` of odd size that keeps the image's; None otherwise."""
    if type(can) is Dense:
        weight, rate, biased = can.W.t(), 1, can.use_bias
    elif type(can) is Conv2D and can.std == 1 and can.k % 2 and can.padding == "SAME":
        weight, rate, biased = can.W.permute(3, 2, 0, 1), can.rate, can.usebias
    else:
        return None
    return Halves(weight[:, :num_h], weight[:, num_h:], can.b if biased else None, rate)


def is_plain(can: nn.Module, forward: object) -> bool:
    """Whether calling `can` is calling `forward` and no more: no step of a subclass's own, and no hooks."""
    own = type(can).forward is forward and type(can).__call__ is nn.Module.__call__
    seen = nn.modules.module._has_any_global_hook() or any(map(_altered, can.modules()))
    return own and not seen


def gru(wz: nn.Module, wr: nn.Module, w: nn.Module, num_h: int) -> Cell | None:
    """The cell of a GRU's three maps; None if they are no plain ones, or differ."""
    parts = [part for part in (halves(can, num_h) for can in (wz, wr, w)) if part is not None]
    kinds = {(part.input.shape, part.hidden.shape, part.rate, part.bias is None) for part in parts}
    if len(parts) < 3 or len(kinds) > 1:
        return None
    first = parts[0]
    cell = _copy(_gru(first.input.shape[1], num_h, first.bias is not None, _map(first)))
    _tie(cell.input_map, [part.input for part in parts], [part.bias for part in parts])
    _tie(cell.hidden_map, [part.hidden for part in parts[:2]])
    _tie(cell.candidate_map, [parts[2].hidden])
    return cell


def gru2(wz: nn.Module, w: nn.Module, num_h: int) -> Cell | None:
    """The cell of a GRU2's two maps, of which wz sees the state alone; None if they are no plain ones."""
    gate, part = halves(wz, num_h), halves(w, num_h)
    if gate is None or part is None or gate.bias is None or part.bias is None or gate.input.shape[1]:
        return None
    cell = _copy(_gru2(part.input.shape[1], num_h))
    _tie(cell.input_map, [part.input], [part.bias])
    _tie(cell.hidden_map, [gate.hidden], [gate.bias])
    _tie(cell.candidate_map, [part.hidden])
    return cell


def rnn(w: nn.Module, act: object, num_h: int) -> Cell | None:
    """The cell of a plain network's map; None if map or nonlinearity is another."""
    part = halves(w, num_h)
    if part is None or type(act) is not Act or act.name not in ("tanh", "relu"):
        return None
    cell = _copy(_rnn(part.input.shape[1], num_h, part.bias is not None, act.name))
    _tie(cell.input_map, [part.input], [part.bias])
    _tie(cell.hidden_map, [part.hidden])
    return cell


def fits(cell: Cell, i: Tensor, state: Tensor) -> bool:
    """Whether the cell runs over `i` (batch, time, *space, channels) from `state` (batch, *space, channels).

    Not a few steps, which are as quick without; nor where torch records operations, as a compiler does; nor
    numbers of several dtypes, which a step's concatenation makes one.
    """
    axes = cell.spatial_dims or 0
    shapes = i.ndim == 3 + axes and state.shape == (i.shape[0], *i.shape[2:-1], cell.hidden_size)
    recorded = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    alike = i.dtype == state.dtype == cell.input_map.weight.dtype
    return shapes and alike and i.shape[1] >= WORTH_IT and i.shape[-1] == cell.input_size and not recorded


def run(cell: Cell, i: Tensor, state: Tensor) -> Tensor:
    """All states (batch, time, *space, channels); for their shapes see `fits`."""
    xs, start = i.transpose(0, 1).movedim(-1, 2), (state.movedim(-1, 1),)
    # The native convolutions' gradients are good to 6e-6, torch's to 3e-7: old weights give old numbers.
    exact = bool(cell.spatial_dims) and torch.is_grad_enabled()
    gx = cell.project(xs.flatten(0, 1), fast=not exact).unflatten(0, xs.shape[:2])
    run = kernels.Run(cell.spec(), gx, start, start)
    kernel: kernels.Kernel = "auto"
    if exact:
        kernel = "manual" if kernels.explain(run)["manual"] is None else "loop"
    ys, _ = kernels.execute(run, partial(loop, cell=cell), kernel)
    return ys.movedim(2, -1).transpose(0, 1)


def _altered(module: nn.Module) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    return any(hooks) or bool(module._backward_pre_hooks) or "forward" in module.__dict__


def _map(part: Halves) -> Map:
    kernel = tuple(part.input.shape[2:])
    return conv2d(kernel, dilation=part.rate) if kernel else dense


@lru_cache(64)
def _gru(c_in: int, num_h: int, bias: bool, map: Map) -> GRUCell:
    with torch.device("meta"):  # a pattern: it has no numbers, and none are drawn
        return GRUCell(c_in, num_h, bias, map=map)


@lru_cache(64)
def _gru2(c_in: int, num_h: int) -> MGUCell:
    with torch.device("meta"):
        return MGUCell(c_in, num_h, gate_input=False, reset=False)


@lru_cache(64)
def _rnn(c_in: int, num_h: int, bias: bool, nonlinearity: Literal["tanh", "relu"]) -> RNNCell:
    with torch.device("meta"):
        return RNNCell(c_in, num_h, bias, nonlinearity)


def _copy(module: Made) -> Made:
    """A copy whose tensors may be exchanged: quicker than a new one, which starts its weights."""
    made = type(module).__new__(type(module))
    parts = {name: part and _copy(part) for name, part in module._modules.items()}
    made.__dict__.update(module.__dict__, _modules=parts, _parameters=dict(module._parameters))
    return made


def _tie(module: nn.Module, weights: list[Tensor], biases: list[Tensor | None] | None = None) -> None:
    """Put `weights`, one below the other, in the place of the module's own: gradients find their way back."""
    tied = {"weight": weights, "bias": [bias for bias in biases or () if bias is not None]}
    for name, parts in tied.items():
        if parts:
            delattr(module, name)
            setattr(module, name, parts[0].contiguous() if len(parts) == 1 else torch.cat(parts))

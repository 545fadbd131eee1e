"""What every cell is: half a step that sees the input, half a step that sees the state.

`Cell.project` is the input half of a cell's map; it does not depend on the state, so a layer asks it once for
all time steps. `Cell.advance` is the hidden half and the gates. Called like a function, a cell is one step
with the arguments and results of torch.nn's cells.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from canton import kernels, maps
from canton.core.norms import GateNorm
from canton.maps import Map, dense

State = tuple[Tensor, ...]


def _look_up(dense: nn.Linear, index: Tensor) -> Tensor:
    """Columns of the map's weight, plus its bias; for many, the table is laid out and biased once for all."""
    weight: Tensor = dense.weight
    bias: Tensor | None = dense.bias
    if type(dense).forward is not nn.Linear.forward or kernels.is_watched(dense):  # it wants to be called
        rows = nn.functional.one_hot(index.long(), dense.in_features)
        called: Tensor = dense(rows.to(weight.dtype))
        return called
    if len(index) < weight.shape[1]:
        rows = nn.functional.embedding(index, weight.t())
        return rows if bias is None else rows + bias
    table = weight.t().contiguous()
    return nn.functional.embedding(index, table if bias is None else table + bias)


class Cell(nn.Module):
    """One step of gated recurrence; make your own by giving `advance` (docs: write your own cell).

    Args:
        input_size: channels of x.
        hidden_size: channels of every gate.
        gates: how many gates the input half feeds.
        state_sizes: channels of each tensor of the state; the first one is the cell's output.
        map, bias, layer_norm: see `GRUCell`.

    Attributes:
        input_map: the input half, input_size -> gates * hidden_size channels.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        gates: int,
        state_sizes: tuple[int, ...],
        map: Map = dense,
        bias: bool = True,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if size < 1:
                raise ValueError(f"{name} is {size}: it is a whole number >= 1")
        self.input_size, self.hidden_size, self.gates, self.state_sizes = (
            input_size,
            hidden_size,
            gates,
            state_sizes,
        )
        maps.check_map(map)
        self.input_map = map(input_size, gates * hidden_size, bias)
        maps.init_input_(self.input_map, gates)
        if hidden_size % (groups := maps.groups_of(self.input_map)):
            raise ValueError(
                f"hidden_size is {hidden_size}: the map's {groups} groups cannot share it evenly"
            )
        self.input_norm = GateNorm(gates, hidden_size) if layer_norm else None

    @property
    def axes(self) -> int | None:
        """How many axes of space the cell works on: 0 for a dense map, None where the map does not tell."""
        weight = getattr(self.input_map, "weight", None)
        if isinstance(self.input_map, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)) and weight is not None:
            return int(weight.ndim) - 2
        return None

    def project(self, x: Tensor, *, fast: bool = False) -> Tensor:
        """The input half: (N, C_in, *space) -> (N, gates * hidden, *space).

        Integers (N,) are looked up as rows: k stands for the one-hot vector with a one in place k, so bytes
        need no one-hot product. `fast` lets a native kernel compute a convolution, where one can.
        """
        if x.is_floating_point():
            y = kernels.apply(self.input_map, x) if fast else self.input_map(x)
            gx = maps.regroup(y, self.gates, maps.groups_of(self.input_map))
        else:
            if not isinstance(self.input_map, nn.Linear):
                raise ValueError("x holds integers, which only a dense map can look up: give x as floats")
            gx = _look_up(self.input_map, x if x.dtype in (torch.int32, torch.int64) else x.int())
        return gx if self.input_norm is None else self.input_norm(gx)

    def advance(self, gx: Tensor, state: State, drop: Tensor | None = None) -> State:
        """The hidden half and the gates: one step from (B, gates * hidden, *space) and the state.

        `drop`, if given, multiplies the output part of the state before every map that sees it, and nothing
        else (variational dropout, Gal & Ghahramani 2016, arXiv:1512.05287).
        """
        raise NotImplementedError

    def plan(self) -> kernels.Plan | None:
        """What a kernel needs to run this cell, or None if only the readable loop can."""
        return None

    def start(self, gx: Tensor, dtype: torch.dtype) -> State:
        """The state of zeros that fits a projected input (B, G, *space)."""
        return tuple(
            gx.new_zeros((gx.shape[0], size, *gx.shape[2:]), dtype=dtype) for size in self.state_sizes
        )

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"

    def forward(
        self,
        x: Float[Tensor, "batch c_in *space"] | Integer[Tensor, " batch"],
        state: Tensor | State | None = None,
    ) -> Tensor | State:
        """One step: x (B, input_size, *space) and the last state give the next state, as torch.nn's cells do.

        Without the batch axis throughout if x has none (dense maps and convolutions).

        Raises:
            ValueError: x has other channels than input_size, or the state has another shape than the cell's.
        """
        if self.lacks_batch(x, lead=1):
            parts = (state,) if isinstance(state, Tensor) else state
            one = self(x.unsqueeze(0), None if parts is None else tuple(s.unsqueeze(0) for s in parts))
            return one.squeeze(0) if isinstance(one, Tensor) else tuple(s.squeeze(0) for s in one)
        self.check_input(x, lead=1)
        gx = self.project(x)
        dtype = x.dtype if x.is_floating_point() else gx.dtype
        now = (
            self.start(gx, dtype)
            if state is None
            else (state,)
            if isinstance(state, Tensor)
            else tuple(state)
        )
        check_state(now, self.state_sizes, (gx.shape[0],), gx.shape[2:])
        after = self.advance(gx, now)
        return after[0] if len(after) == 1 else after

    def lacks_batch(self, x: Tensor, *, lead: int) -> bool:
        """Whether one of the `lead` axes that lie before channels and space is missing, as far as the map
        tells.
        """
        if not x.is_floating_point():
            return x.ndim == lead - 1
        return self.axes is not None and x.ndim == lead + self.axes

    def check_input(self, x: Tensor, *, lead: int, name: str = "x") -> None:
        """Raise a ValueError unless `x` is `lead` axes, then channels and space, or integers."""
        shape = tuple(x.shape)
        if not x.is_floating_point():
            if x.ndim != lead or x.is_complex() or x.dtype == torch.bool:
                raise ValueError(f"{name} is {shape} {x.dtype}: give floats, or integers with {lead} axes")
        elif x.ndim <= lead or x.shape[lead] != self.input_size:
            if x.ndim <= lead:
                axes = "1 axis" if lead == 1 else f"{lead} axes"
                raise ValueError(
                    f"{name} has the shape {shape}: it has {axes}, then {self.input_size} channels"
                )
            found = f"{shape[lead]} channels on axis {lead}"
            raise ValueError(f"{name} has {found}, this cell takes {self.input_size}: check input_size")
        elif self.axes is not None and x.ndim != lead + 1 + self.axes:
            raise ValueError(f"{name} has the shape {shape}: here it needs {lead + 1 + self.axes} axes")

    def _hidden(self, map: Map, c_in: int, gates: int, bias: bool = False) -> nn.Module:
        module = map(c_in, gates * self.hidden_size, bias)
        maps.init_hidden_(module, gates)
        return module


def check_state(state: State, sizes: tuple[int, ...], lead: tuple[int, ...], space: torch.Size) -> None:
    """Raise a ValueError unless `state` is one tensor (*lead, size, *space) for each of `sizes`."""
    wanted = [(*lead, size, *space) for size in sizes]
    found = [tuple(s.shape) for s in state]
    if found != wanted:
        raise ValueError(f"state has the shapes {found}, this input needs {wanted}")


def normed(norm: GateNorm | None, a: Tensor) -> Tensor:
    """Return `a`, normalised if there is a norm."""
    return a if norm is None else norm(a)


def dropped(h: Tensor, drop: Tensor | None) -> Tensor:
    """Return `h` times the dropout mask, if there is one."""
    return h if drop is None else h * drop


def bias_of(module: nn.Module) -> Tensor | None:
    """Return the module's bias, or None."""
    bias = getattr(module, "bias", None)
    return bias if isinstance(bias, Tensor) else None

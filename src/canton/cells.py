"""Gates x any map = one step in time: the cells with one tensor of state (the LSTM is in canton.lstm).

In the equations ``X_z(x)`` is the part of the affine map that sees the input (with its bias), ``H_z(h)`` the
part that sees the state (without one); both are whatever `map` makes. All elementwise products are written
``*``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from canton import gates, kernels, maps
from canton.cell import Cell, State
from canton.maps import Map, dense
from canton.norms import GateNorm


def _normed(norm: GateNorm | None, a: Tensor) -> Tensor:
    return a if norm is None else norm(a)


def _dropped(h: Tensor, drop: Tensor | None) -> Tensor:
    return h if drop is None else h * drop


def _bias(module: nn.Module) -> Tensor | None:
    bias = getattr(module, "bias", None)
    return bias if isinstance(bias, Tensor) else None


class RNNCell(Cell):
    """A plain recurrent step.

    Equations::

        h = act(X_h(x) + H_h(h))

    where act is tanh or relu. Source: Elman 1990; torch.nn.RNNCell computes the same.

    Args:
        nonlinearity: "tanh" or "relu".
        input_size, hidden_size, map, bias, layer_norm: see `GRUCell`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        map: Map = dense,
        layer_norm: bool = False,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity is {nonlinearity!r}: it is 'tanh' or 'relu'")
        super().__init__(
            input_size,
            hidden_size,
            gates=1,
            state_sizes=(hidden_size,),
            map=map,
            bias=bias,
            layer_norm=layer_norm,
        )
        self.nonlinearity = nonlinearity
        self.hidden_map = self._hidden(map, hidden_size, 1)
        self.hidden_norm = GateNorm(1, hidden_size, bias=False) if layer_norm else None

    def advance(self, gx: Tensor, state: State, drop: Tensor | None = None) -> State:
        act: Callable[[Tensor], Tensor] = torch.relu if self.nonlinearity == "relu" else torch.tanh
        return (act(gx + _normed(self.hidden_norm, self.hidden_map(_dropped(state[0], drop)))),)

    def plan(self) -> kernels.Plan | None:
        hidden = kernels.product(self.hidden_map)
        return (
            None if hidden is None or self.hidden_norm else kernels.RNN(hidden, self.nonlinearity == "relu")
        )


class GRUCell(Cell):
    """A gated recurrent unit over any map; z takes the new.

    Equations, ``reset="before"``: the article's and the 2017 Canton's; in Keras 3 ``reset_after=False``::

        z = sigmoid(X_z(x) + H_z(h))
        r = sigmoid(X_r(x) + H_r(h))
        c = tanh(X_c(x) + H_c(r * h))
        h = (1 - z) * h + z * c

    Equations, ``reset="after"``: torch.nn.GRU's and cuDNN's (they write 1 - z for z), b_c its own bias::

        z = sigmoid(X_z(x) + H_z(h))
        r = sigmoid(X_r(x) + H_r(h))
        c = tanh(X_c(x) + r * (H_c(h) + b_c))
        h = (1 - z) * h + z * c

    Source: Cho et al. 2014, arXiv:1406.1078v3 (reset before; v1 has it after), z as in Chung et al. 2014,
    arXiv:1412.3555. With a convolution: Ballas et al. 2016, arXiv:1511.06432. `layer_norm` normalises the two
    halves apart, LN(X(x)) + LN(H(h)), after Ba et al. 2016, arXiv:1607.06450; but where theirs takes the
    gates of a half together, here each gate is normalised by itself, over its channels.

    Args:
        input_size: channels of x.
        hidden_size: channels of the state.
        bias: whether the map is affine (True) or linear (the article's cell).
        reset: "before" or "after" the map.
        map: what makes the affine maps, such as `maps.dense` or ``maps.conv2d(3)``.
        layer_norm: normalise the pre-activations of each gate.

    Shapes:
        x (B, input_size, *space), or integers (B,) with a dense map; state and result
        (B, hidden_size, *space).

    Raises:
        ValueError: a size below 1 or an unknown `reset`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        reset: str = "before",
        map: Map = dense,
        layer_norm: bool = False,
    ) -> None:
        if reset not in ("before", "after"):
            raise ValueError(
                f"reset is {reset!r}: it is 'before' (the article's) or 'after' (torch.nn.GRU's)"
            )
        super().__init__(
            input_size,
            hidden_size,
            gates=3,
            state_sizes=(hidden_size,),
            map=map,
            bias=bias,
            layer_norm=layer_norm,
        )
        self.reset = reset
        self.hidden_map = self._hidden(map, hidden_size, 2)
        self.candidate_map = self._hidden(map, hidden_size, 1, bias=bias and reset == "after")
        self.hidden_norm = GateNorm(2, hidden_size, bias=False) if layer_norm else None
        self.candidate_norm = GateNorm(1, hidden_size, bias=False) if layer_norm else None

    def advance(self, gx: Tensor, state: State, drop: Tensor | None = None) -> State:
        h, seen = state[0], _dropped(state[0], drop)
        gx_zr, gx_c = gx.split((2 * self.hidden_size, self.hidden_size), dim=1)
        a = maps.regroup(self.hidden_map(seen), 2, maps.groups_of(self.hidden_map))
        z, r = gates.gru_gates(gx_zr + _normed(self.hidden_norm, a))
        if self.reset == "before":
            a = _normed(self.candidate_norm, self.candidate_map(r * seen))
        else:
            a = r * _normed(self.candidate_norm, self.candidate_map(seen))
        return (gates.take(h, z, gates.candidate(gx_c + a)),)

    def plan(self) -> kernels.Plan | None:
        gate = kernels.product(self.hidden_map)
        cand = kernels.product(self.candidate_map, biased=self.reset == "after")
        if gate is None or cand is None or self.hidden_norm:
            return None
        if self.reset == "before":
            return kernels.GRUBefore(gate, cand)
        return kernels.GRUAfter(gate, cand, _bias(self.candidate_map))


class MGUCell(Cell):
    """A minimal gated unit: one gate f does the work of two; f takes the new.

    Equations::

        f = sigmoid(X_f(x) + H_f(h))
        c = tanh(X_c(x) + H_c(f * h))
        h = (1 - f) * h + f * c

    Equations, ``gate_input=False, reset=False``: the 2017 Canton's GRU2, b_f the gate's bias::

        f = sigmoid(H_f(h) + b_f)
        c = tanh(X_c(x) + H_c(h))
        h = (1 - f) * h + f * c

    Source: Zhou et al. 2016, "Minimal Gated Unit for Recurrent Neural Networks", arXiv:1603.09420.

    Args:
        gate_input: whether the gate sees the input as well as the state.
        reset: whether the candidate sees f * h, or all of h.
        input_size, hidden_size, bias, map, layer_norm: see `GRUCell`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        gate_input: bool = True,
        reset: bool = True,
        map: Map = dense,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            gates=2 if gate_input else 1,
            state_sizes=(hidden_size,),
            map=map,
            bias=bias,
            layer_norm=layer_norm,
        )
        self.gate_input, self.reset = gate_input, reset
        self.hidden_map = self._hidden(map, hidden_size, 1, bias=bias and not gate_input)
        self.candidate_map = self._hidden(map, hidden_size, 1)
        self.hidden_norm = GateNorm(1, hidden_size, bias=False) if layer_norm else None
        self.candidate_norm = GateNorm(1, hidden_size, bias=False) if layer_norm else None

    def advance(self, gx: Tensor, state: State, drop: Tensor | None = None) -> State:
        h, seen = state[0], _dropped(state[0], drop)
        a, gx_c = _normed(self.hidden_norm, self.hidden_map(seen)), gx
        if self.gate_input:
            gx_f, gx_c = gx.chunk(2, dim=1)
            a = a + gx_f
        f = gates.gate(a)
        c = gates.candidate(
            gx_c + _normed(self.candidate_norm, self.candidate_map(f * seen if self.reset else seen))
        )
        return (gates.take(h, f, c),)

    def plan(self) -> kernels.Plan | None:
        gate = kernels.product(self.hidden_map, biased=not self.gate_input)
        cand = kernels.product(self.candidate_map)
        if gate is None or cand is None or self.hidden_norm:
            return None
        return kernels.MGU(gate, cand, _bias(self.hidden_map), self.gate_input, self.reset)


class MinGRUCell(Cell):
    """A GRU whose gate and candidate do not see the state, so that all time steps can be computed at once.

    Equations::

        z = sigmoid(X_z(x))
        c = positive(X_c(x))
        h = (1 - z) * h + z * c

    where positive(a) is a + 1/2 for a >= 0, else sigmoid(a). Source: Feng et al. 2024, "Were RNNs All We
    Needed?", arXiv:2410.01201v1, section 3.1 and appendix B.3. There is no hidden half, so recurrent dropout
    has nothing to drop.

    Args:
        input_size, hidden_size, bias, map, layer_norm: see `GRUCell`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        map: Map = dense,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            gates=2,
            state_sizes=(hidden_size,),
            map=map,
            bias=bias,
            layer_norm=layer_norm,
        )

    def advance(self, gx: Tensor, state: State, drop: Tensor | None = None) -> State:
        a, b = gx.chunk(2, dim=1)
        return (gates.take(state[0], gates.gate(a), gates.positive(b)),)

    def plan(self) -> kernels.Plan | None:
        return kernels.MinGRU()

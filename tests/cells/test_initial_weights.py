"""Initial weights follow the documented rules."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import canton
from canton import GRUCell, LSTMCell, MGUCell, RNNCell, maps
from canton.maps import Map
from tolerances import assert_close

MAPS: dict[str, tuple[Map, int]] = {  # with the number of groups
    "dense": (maps.dense, 1),
    "conv1d": (maps.conv1d(3), 1),
    "conv2d-grouped": (maps.conv2d((3, 2), groups=2), 2),
    "conv1d-1-grouped": (maps.conv1d(1, groups=2), 2),  # a square block: only the right blocks are orthogonal
    "conv3d": (maps.conv3d(2), 1),
}
every_map = pytest.mark.parametrize(("over", "groups"), MAPS.values(), ids=MAPS.keys())


def is_orthonormal(matrix: Tensor, what: str) -> None:
    """Check that the rows are orthonormal, or the columns if there are more rows."""
    m = matrix.flatten(1)
    m = m if len(m) <= m.shape[1] else m.t()
    assert_close(m @ m.t(), torch.eye(len(m)), what, slack=2)


def gate_blocks(module: nn.Module, gates: int, groups: int) -> list[Tensor]:
    weight = module.get_parameter("weight")
    return list(weight.unflatten(0, (groups * gates, -1)).unbind(0))


@every_map
def test_every_gate_of_every_group_is_orthogonal(over: Map, groups: int) -> None:
    gru, mgu, rnn = GRUCell(4, 8, map=over), MGUCell(4, 8, map=over), RNNCell(4, 8, map=over)
    lstm, projected = LSTMCell(4, 8, map=over), LSTMCell(4, 8, proj_size=4, map=over)
    modules = [(gru.hidden_map, 2), (gru.candidate_map, 1), (mgu.hidden_map, 1), (mgu.candidate_map, 1)]
    modules += [(rnn.hidden_map, 1), (lstm.hidden_map, 4), (projected.hidden_map, 4)]
    for k, (module, gates) in enumerate(modules):
        blocks = gate_blocks(module, gates, groups)
        assert len(blocks) == gates * groups
        for block in blocks:
            is_orthonormal(block, f"block of module {k}")


@every_map
def test_the_input_half_is_glorot_uniform_per_gate(over: Map, groups: int) -> None:
    cell = GRUCell(64, 96, map=over)
    weight = cell.input_map.get_parameter("weight")
    taps = weight[0, 0].numel()
    bound = (6 / (64 // groups * taps + 96 // groups * taps)) ** 0.5
    assert weight.abs().max() <= bound
    assert weight.abs().max() > 0.99 * bound
    assert abs(weight.mean()) < 0.02 * bound
    assert_close(weight.var(), torch.tensor(bound**2 / 3), "variance", slack=2e3)  # 4 % of it


@every_map
def test_biases_are_zero_except_the_forget_bias(over: Map, groups: int) -> None:
    for cell in (GRUCell(4, 8, map=over), GRUCell(4, 8, reset="after", map=over)):
        assert all(not p.any() for name, p in cell.named_parameters() if name.endswith("bias"))
    lstm = LSTMCell(4, 8, forget_bias=1.5, map=over)
    x = torch.zeros(2, 4, *(3,) * (lstm.spatial_dims or 0))
    i, f, g, o = lstm.project(x).chunk(4, dim=1)
    assert_close(f, torch.full_like(f, 1.5), "forget gate")
    assert not i.any()
    assert not g.any()
    assert not o.any()


def test_the_forget_bias_of_a_layer_normed_lstm() -> None:
    lstm = LSTMCell(4, 8, forget_bias=2.0, layer_norm=True)
    _, f, _, _ = lstm.project(torch.zeros(2, 4)).chunk(4, dim=1)
    assert_close(f, torch.full_like(f, 2.0), "forget gate")


def test_the_default_forget_bias_is_one() -> None:
    bias = LSTMCell(2, 3).input_map.get_parameter("bias")
    assert bias.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_learned_initial_states_and_peepholes_are_zero() -> None:
    rnn = canton.LSTM(2, 3, 2, peephole=True, learn_initial_state=True)
    names = [name for name, _ in rnn.named_parameters() if "initial" in name or "peephole" in name]
    assert len(names) == 4
    assert not any(rnn.get_parameter(name).any() for name in names)


def test_a_custom_map_keeps_its_initialisation() -> None:
    class Fixed(nn.Module):
        def __init__(self, c_in: int, c_out: int, bias: bool) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((c_out, c_in), 0.25))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight.t()

    for parameter in GRUCell(2, 3, map=Fixed).parameters():
        assert (parameter == 0.25).all()

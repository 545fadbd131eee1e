"""Input without a batch axis, as in torch.nn, and errors for wrong shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import canton
from canton.interop.torch_nn import from_torch
from tolerances import assert_close


@pytest.mark.parametrize(
    ("cell", "space"),
    [
        (canton.GRUCell(4, 5), ()),
        (canton.LSTMCell(4, 5), ()),
        (canton.MinGRUCell(4, 5), ()),
        (canton.GRUCell(4, 5, map=canton.maps.conv2d(3)), (6, 7)),
    ],
)
def test_an_unbatched_cell(cell: canton.Cell, space: tuple[int, ...]) -> None:
    x = torch.randn(3, 4, *space)
    state = tuple(torch.randn(3, size, *space) for size in cell.state_sizes)
    batched, from_zeros = cell(x, state), cell(x)
    for row in range(3):
        given = tuple(s[row] for s in state)
        for one, rows in ((cell(x[row], given), batched), (cell(x[row]), from_zeros)):
            for s, all_rows in zip(
                (one,) if isinstance(one, torch.Tensor) else one,
                (rows,) if isinstance(rows, torch.Tensor) else rows,
                strict=True,
            ):
                assert_close(s, all_rows[row])


def test_an_unbatched_cell_agrees_with_torch() -> None:
    theirs, x, h = nn.GRU(4, 5), torch.randn(4), torch.randn(5)
    ours = from_torch(theirs).cells[0]
    assert_close(ours(x, h), theirs(x[None], h[None])[1][0])
    assert ours(torch.tensor(2)).shape == (5,)


def test_which_accepts_what_forward_accepts() -> None:
    layer = canton.GRU(4, 5)
    name = layer.which(torch.randn(7, 2, 4))
    assert layer.which(torch.randn(7, 4)) == name
    assert layer.which(pack_sequence([torch.randn(3, 4), torch.randn(2, 4)])) == name
    # the kernels of a minGRU depend on whether lengths are given
    minimal = canton.MinGRU(4, 5)
    uneven = pack_sequence([torch.randn(3, 4), torch.randn(2, 4)])
    minimal.kernel = minimal.which(uneven)
    minimal(uneven)
    batch_first = canton.GRU(4, 5, batch_first=True)
    assert batch_first.which(torch.randn(2, 7, 4), torch.randn(1, 2, 5)) == name


def test_errors_name_the_shape_in_the_callers_layout() -> None:
    batch_first = canton.GRU(4, 5, batch_first=True)
    with pytest.raises(ValueError, match=r"reset .*\(2, 6\).*\(6, 2\)"):
        batch_first(torch.randn(2, 6, 4), reset=torch.zeros(6, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"reset .*\(6,\).*\(5,\)"):
        batch_first(torch.randn(6, 4), reset=torch.zeros(5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"input .*\(4,\)"):
        batch_first(torch.randn(4))


def test_a_kernel_that_cannot_run_a_step_is_an_error() -> None:
    layer = canton.GRU(4, 5, reset="after", kernel="cpp")
    with pytest.raises(ValueError, match="kernel='cpp'"):
        layer.step(torch.randn(2, 4))

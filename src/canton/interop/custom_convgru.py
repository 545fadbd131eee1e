"""Conversion from a ConvGRU cell of your own project: two or three convolutions over [x, h].

Most of them are Canton's GRU with ``reset="before"``, with the input's channels first::

    r, z = sigmoid(conv([x, h]))
    c    = tanh(conv([x, r * h]))
    h'   = (1 - z) * h + z * c

They differ in the names of the weights, in whether r and z share a convolution, in the order of r and z, and
in whether z weights the new or the old value. The conversion is exact.

Source: Ballas et al. 2016, arXiv:1511.06432, eq. 8 to 11. The names that `from_convgru` knows are those of
github.com/jacobkimmel/pytorch_convgru and github.com/happyjin/ConvGRU-pytorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from canton.cells.gru import GRU
from canton.interop.gate_matrices import GateMatrices, as_tensor, gru_cell, layer_from_cells, stack_gates

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d

_NAMES = (("reset_gate", "update_gate", "out_gate"), ("conv_gates", "conv_can"))
"""Names of one convolution per gate, or of one for r and z in this order; the candidate's is last."""


def from_convgru(state_dict: Mapping[str, Any], prefix: str = "") -> GRU:
    """Return the layer of a ConvGRU cell with one of two sets of names; for others see `from_convolutions`.

    The names are reset_gate, update_gate and out_gate, or conv_gates (r, then z) and conv_can.

    Args:
        state_dict: the cell's or the whole model's.
        prefix: prefix of the names, such as "ConvGRUCell_00." or "cell_list.0.".

    Raises:
        ValueError: neither set of names is there, or shapes do not fit.
    """
    for names in _NAMES:
        if all(f"{prefix}{name}.weight" in state_dict for name in names):
            parts = [_named(state_dict, f"{prefix}{name}.") for name in names]
            return _layer(parts, reset_first=True, z_keeps_state=False, state_first=False)
    expected = " or ".join(", ".join(names) for names in _NAMES)
    found = ", ".join(list(state_dict)[:8])
    raise ValueError(f"state_dict must have {expected} after {prefix!r}, got {found}: check prefix")


def from_convolutions(
    gates: Convolution | tuple[Convolution, Convolution],
    candidate: Convolution,
    *,
    reset_first: bool = True,
    z_keeps_state: bool = False,
    state_first: bool = False,
) -> GRU:
    """Return the layer of a ConvGRU cell made of these convolutions.

    Args:
        gates: the convolution of both gates, or a pair of one for each.
        candidate: the convolution over [x, r * h].
        reset_first: `gates` gives r, then z; False: z, then r.
        z_keeps_state: the cell computes z * h + (1 - z) * c. Canton's z is then the negated one.
        state_first: the convolutions are over [h, x] instead of [x, h].

    Raises:
        ValueError: shapes do not fit, or a convolution changes the image's size, is grouped, or pads with
            anything but zeros.
    """
    convolutions = [gates, candidate] if isinstance(gates, nn.Module) else [*gates, candidate]
    for conv in convolutions:
        _check_convolution(conv)
    if any(conv.dilation != candidate.dilation for conv in convolutions):
        raise ValueError("gates and candidate must have the same dilation")
    parts = [
        (as_tensor(conv.weight, "weight"), None if conv.bias is None else as_tensor(conv.bias, "bias"))
        for conv in convolutions
    ]
    return _layer(
        parts,
        reset_first=reset_first,
        z_keeps_state=z_keeps_state,
        state_first=state_first,
        dilation=candidate.dilation,
    )


def _named(state_dict: Mapping[str, Any], prefix: str) -> tuple[Tensor, Tensor | None]:
    bias = state_dict.get(f"{prefix}bias")
    weight = as_tensor(state_dict[f"{prefix}weight"], f"{prefix}weight")
    return weight, None if bias is None else as_tensor(bias, f"{prefix}bias")


def _layer(
    parts: list[tuple[Tensor, Tensor | None]],
    *,
    reset_first: bool,
    z_keeps_state: bool,
    state_first: bool,
    dilation: tuple[int, ...] | int = 1,
) -> GRU:
    """Return the layer with these (weight, bias) pairs, the candidate's last."""
    hidden_size = parts[-1][0].shape[0]
    weight = stack_gates([weight for weight, _ in parts])
    biases = [bias for _, bias in parts if bias is not None]
    if weight.shape[0] != 3 * hidden_size:
        found = weight.shape[0] - hidden_size
        raise ValueError(f"gates must have {2 * hidden_size} output channels, twice candidate's, got {found}")
    if len(biases) not in (0, len(parts)):
        raise ValueError(f"gates and candidate must all have a bias or none, got {len(biases)} biases")
    channels = weight.shape[1]
    if channels <= hidden_size or any(side % 2 == 0 for side in weight.shape[2:]):
        raise ValueError(
            f"a kernel must have more than {hidden_size} input channels and odd sides,"
            f" got {tuple(weight.shape[1:])}"
        )

    def order_gates(stacked: Tensor) -> Tensor:
        first, second, c = stacked.split(hidden_size)
        z, r = (second, first) if reset_first else (first, second)
        return torch.cat([-z if z_keeps_state else z, r, c])

    weight = order_gates(weight)
    if state_first:
        h, x = weight.split((hidden_size, channels - hidden_size), dim=1)
    else:
        x, h = weight.split((channels - hidden_size, hidden_size), dim=1)
    bias = order_gates(torch.cat(biases)) if biases else None
    cell = gru_cell(GateMatrices(x, h, bias, None, dilation, dilation), reset="before")
    layer: GRU = layer_from_cells([cell])
    return layer


def _check_convolution(conv: Convolution) -> None:
    same = tuple(d * (k - 1) // 2 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    keeps_size = conv.padding in (same, "same") and not any(stride != 1 for stride in conv.stride)
    if not keeps_size or conv.groups != 1 or conv.padding_mode != "zeros":
        raise ValueError(
            f"a convolution must keep the image's size, with zero padding and groups=1, got {conv}"
        )

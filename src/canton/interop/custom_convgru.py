"""The ConvGRU that was pasted into a project: a few convolutions over [x, h], under whatever names they have.

Most of them are Canton's GRU with ``reset="before"``, on kernels that see the input's channels first::

    r, z = sigmoid(conv([x, h]))
    c    = tanh(conv([x, r * h]))
    h'   = (1 - z) * h + z * c

They differ in names, in whether r and z share a convolution and in which order, and a few have a z that keeps
the old. No code of theirs is here.

Source: the algebra of Ballas et al. 2016, arXiv:1511.06432, eq. 8 to 11; the names of `by_names` are those of
github.com/jacobkimmel/pytorch_convgru and github.com/happyjin/ConvGRU-pytorch, looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from canton.core.recurrent import Recurrent
from canton.interop.gate_matrices import Halves, gru_cell, stack, tensor

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d

NAMES = (("reset_gate", "update_gate", "out_gate"), ("conv_gates", "conv_can"))
"""A convolution for each gate, or one for both, r before z; the candidate's last."""


def by_names(state_dict: Mapping[str, Any], prefix: str = "") -> Recurrent:
    """The layer of a cell whose convolutions are called reset_gate, update_gate and out_gate, or conv_gates
    (r, then z) and conv_can; for other names there is `by_convolutions`. Every bit is kept.

    Args:
        state_dict: the cell's, or a whole model's.
        prefix: what stands before the names, such as "ConvGRUCell_00." or "cell_list.0.".

    Raises:
        ValueError: neither set of names is there, or shapes do not fit.
    """
    for *gates, candidate in NAMES:
        if all(f"{prefix}{name}.weight" in state_dict for name in (*gates, candidate)):
            parts = [_named(state_dict, f"{prefix}{name}.") for name in (*gates, candidate)]
            return _layer(parts, order="rz", keeps=False, state_first=False)
    wanted = " nor ".join(", ".join(names) for names in NAMES)
    raise ValueError(
        f"state_dict has neither {wanted} behind {prefix!r}: check prefix, or use by_convolutions;"
        f" it has {', '.join(list(state_dict)[:8])}"
    )


def by_convolutions(
    gates: Convolution | tuple[Convolution, Convolution],
    candidate: Convolution,
    *,
    order: str = "rz",
    keeps: bool = False,
    state_first: bool = False,
) -> Recurrent:
    """The layer of a cell made of these convolutions. Every bit is kept.

    Args:
        gates: the one that gives both gates, or the two that give one each.
        candidate: sees [x, r * h].
        order: "rz" if the reset gate comes first, "zr" if the update gate does.
        keeps: whether h' is z * h + (1 - z) * c; sigmoid(-a) = 1 - sigmoid(a), so z changes its sign.
        state_first: whether they see [h, x] rather than [x, h].

    Raises:
        ValueError: order is another word, shapes do not fit, or a convolution changes the size of the image,
            is grouped, or pads with something else than zeros.
    """
    if order not in ("rz", "zr"):
        raise ValueError(f"order is {order!r}: it is 'rz' or 'zr'")
    convolutions = [gates, candidate] if isinstance(gates, nn.Module) else [*gates, candidate]
    for conv in convolutions:
        _check(conv)
    if any(conv.dilation != candidate.dilation for conv in convolutions):
        raise ValueError("the convolutions differ in dilation: a cell has one")
    parts = [
        (tensor(c.weight, "weight"), None if c.bias is None else tensor(c.bias, "bias")) for c in convolutions
    ]
    return _layer(parts, order=order, keeps=keeps, state_first=state_first, dilation=candidate.dilation)


def _named(state_dict: Mapping[str, Any], start: str) -> tuple[Tensor, Tensor | None]:
    bias = state_dict.get(f"{start}bias")
    weight = tensor(state_dict[f"{start}weight"], f"{start}weight")
    return weight, None if bias is None else tensor(bias, f"{start}bias")


def _layer(
    parts: list[tuple[Tensor, Tensor | None]],
    *,
    order: str,
    keeps: bool,
    state_first: bool,
    dilation: tuple[int, ...] | int = 1,
) -> Recurrent:
    """The layer of weights and biases, gates first, the candidate's last."""
    hidden = parts[-1][0].shape[0]
    weight = stack([weight for weight, _ in parts])
    biases = [bias for _, bias in parts if bias is not None]
    if weight.shape[0] != 3 * hidden or len(biases) not in (0, len(parts)):
        raise ValueError(
            f"the gates give {weight.shape[0] - hidden} channels and the candidate {hidden}:"
            " the gates give twice as many, and all have a bias or none"
        )
    if weight.shape[1] <= hidden or any(side % 2 == 0 for side in weight.shape[2:]):
        raise ValueError(
            f"a kernel is {tuple(weight.shape[1:])}: it sees the {hidden} channels of the state and"
            " the input's, and its sides are odd"
        )

    def arrange(rows: Tensor) -> Tensor:
        first, second, c = rows.split(hidden)
        z, r = (second, first) if order == "rz" else (first, second)
        return torch.cat([-z if keeps else z, r, c])

    weight = arrange(weight)
    channels = weight.shape[1]
    if state_first:
        h, x = weight.split((hidden, channels - hidden), dim=1)
    else:
        x, h = weight.split((channels - hidden, hidden), dim=1)
    bias = arrange(torch.cat(biases)) if biases else None
    return Recurrent(gru_cell(Halves(x, h, bias, None, dilation, dilation), reset="before"))


def _check(conv: Convolution) -> None:
    same = tuple(d * (k - 1) // 2 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    kept = conv.padding in (same, "same") and not any(stride != 1 for stride in conv.stride)
    if not kept or conv.groups != 1 or conv.padding_mode != "zeros":
        raise ValueError(
            f"a convolution is {conv}: it must keep the size of the image, padded with zeros, in one group"
        )

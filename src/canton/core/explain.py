"""Which kernel runs a layer, and why the others do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from canton.core.cell import Cell


class KernelChoice(NamedTuple):
    """The kernels for one cell of a stack.

    Attributes:
        layer: index in the stack.
        direction: "forward" or "backward".
        kernel: name of the kernel that runs; None if the layer's ``kernel`` cannot run, so that a call
        raises.
        reasons: why each kernel cannot run, fastest first; None where it can.
    """

    layer: int
    direction: str
    kernel: str | None
    reasons: dict[str, str | None]

    def __str__(self) -> str:
        lines = [f"layer {self.layer}, {self.direction}: {self.kernel or 'raises a ValueError'}"]
        if len(set(self.reasons.values())) == 1 and None not in self.reasons.values():
            return "\n".join([*lines, f"  all kernels: {next(iter(self.reasons.values()))}"])
        width = max(map(len, self.reasons))
        lines += [f"  {name:<{width}}  {reason or 'can run'}" for name, reason in self.reasons.items()]
        return "\n".join(lines)


class Explanation(tuple[KernelChoice, ...]):
    """One `KernelChoice` per cell, in the order of the layer's cells."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def choice(layer: int, direction: int, kernel: str, reasons: dict[str, str | None]) -> KernelChoice:
    """Return the choice for ``kernel=kernel``, given the `reasons` of all kernels."""
    name: str | None = kernel
    if kernel == "auto":
        name = next((name for name, reason in reasons.items() if reason is None), "loop")
    elif reasons.get(kernel) is not None:
        name = None
    return KernelChoice(layer, "backward" if direction else "forward", name, reasons)


def shape_only(shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor of one number, expanded to `shape`, with the device and dtype of `like`."""
    return like.new_empty((), dtype=dtype or like.dtype).expand(*shape)


def projected_dtype(cell: Cell, xs: Tensor) -> torch.dtype:
    """Return the dtype of the projected input without autocast, under which no kernel runs."""
    weight = next(cell.parameters(), None)
    return xs.dtype if weight is None else weight.dtype


def unpack_shape(packed: PackedSequence) -> tuple[Tensor, Tensor]:
    """Return a tensor of the padded sequence's shape (T, B, ...) without its numbers, and T for each row."""
    steps, batch = len(packed.batch_sizes), int(packed.batch_sizes[0])
    return shape_only((steps, batch, *packed.data.shape[1:]), packed.data), torch.full((batch,), steps)

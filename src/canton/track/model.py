"""The motion model: frame -> convolutional stem -> convolutional GRU -> head -> heat map and box sizes.

A second convolutional GRU sits early in the stem, where the texture is still fine enough to be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from canton.cells.conv import ConvGRU2d
from canton.core.recurrent import Recurrent
from canton.errors import UserError

State = tuple[Tensor, ...]
"""What a motion model carries from frame to frame: the states (layers, B, C, h, w) of the early memory and of
the memory, as far as it has them."""

MAPS = 3
"""Channels every model puts out first: the logit of the heat, the logarithms of width and height in px."""

SLOPE = 0.2
"""Of the leaky rectifier below zero, as in the article (and TensorFlow's default)."""


@dataclass(frozen=True)
class Architecture:
    """What a motion model is built from; stored in its file.

    Args:
        stem: blocks from the frame up, each (channels, kernel, halve): a convolution, a maximum over 2 x 2
            where halve is true, a leaky rectifier.
        strided: halve by the convolution's stride instead of the maximum: a quarter of the work.
        norm: batch normalisation between each convolution of the stem and what follows, learned over all
            frames of a batch (Ioffe & Szegedy 2015, arXiv:1502.03167); when watching it costs nothing.
        same: pad the convolutions to keep the size; False, as the article's, loses the borders.
        context: 0, or one more block at the end of the stem, added to what it takes: a kernel of 3 whose taps
            lie so many cells apart, which sees what is around a thing at the price of what is beside it.
        early: channels of a convolutional GRU after the stem's first block, 0 for none of it. The blocks that
            follow see its output beside the first block's. What one frame hardly shows, a spot no brighter
            than noise, a texture that moves before one like it, is lost further up, where cells are averages
            over many px.
        memory: channels of the convolutional GRU after the stem, 0 for none of it.
        memory_kernel: the kernel of both, in cells of what they see.
        memory_layers: how many after the stem, one on top of the other.
        recurrent: False keeps the network as it is but starts its memories afresh at every frame: what it
            then lacks is memory and nothing else.
        bypass: the head also sees the stem's output beside the memory's.
        head: width of a hidden 1 x 1 layer before the maps, 0 for none.
        others: kinds of thing that fly and are not sought; each has a heat map of its own behind the first
            three maps, so that training can tell them apart.
    """

    stem: tuple[tuple[int, int, bool], ...] = ((16, 5, True), (32, 3, True), (48, 3, True), (32, 3, False))
    strided: bool = True
    norm: bool = True
    same: bool = True
    context: int = 4
    early: int = 4
    memory: int = 48
    memory_kernel: int = 3
    memory_layers: int = 1
    recurrent: bool = True
    bypass: bool = True
    head: int = 32
    others: tuple[str, ...] = ("bird", "airplane", "helicopter")

    def __post_init__(self) -> None:
        if not self.stem or any(c < 1 or k < 1 or k % 2 == 0 for c, k, _ in self.stem):
            raise UserError(
                f"stem is {self.stem}: blocks of (at least 1 channel, an odd kernel, halve or not)"
            )
        if self.memory_kernel < 1 or self.memory_kernel % 2 == 0:
            raise UserError(f"memory_kernel is {self.memory_kernel}: it is an odd number of at least 1")
        for name, least in (("context", 0), ("early", 0), ("memory", 0), ("memory_layers", 1), ("head", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}: it is a whole number of at least {least}")

    @property
    def stride(self) -> int:
        """Px of the frame from one cell of the heat map to the next."""
        return 1 << sum(halve for _, _, halve in self.stem)

    @property
    def offset(self) -> float:
        """Px from the frame's left edge (and its upper) to the centre of cell (0, 0)."""
        cell, start = 1, 0.5
        for _, kernel, halve in self.stem:
            start += 0 if self.same else cell * (kernel - 1) / 2
            if halve:
                start += (
                    0 if self.strided else cell / 2
                )  # a strided convolution looks at every second cell's middle
                cell *= 2
        return start

    def cells(self, px: int) -> int:
        """How many cells of the heat map a side of `px` gives."""
        for _, kernel, halve in self.stem:
            px -= 0 if self.same else kernel - 1
            if halve:
                px = -(-px // 2) if self.strided else px // 2
        return px

    def seeking(self, sought: str) -> Architecture:
        """The same network where `sought` is what is sought: among `others`, drone takes its place."""
        others = dict.fromkeys("drone" if kind == sought else kind for kind in self.others)
        return replace(self, others=tuple(kind for kind in others if kind != sought))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, table: Any) -> Architecture:
        """The architecture of a file's header.

        Raises: UserError if it is not one this version of Canton knows.
        """
        if isinstance(table, dict):
            table = {"context": 0, **table}  # files older than it
        if not isinstance(table, dict) or set(table) != {field.name for field in fields(cls)}:
            raise UserError("its architecture is not one that this version of Canton knows")
        try:
            stem = tuple((int(c), int(k), bool(halve)) for c, k, halve in table["stem"])
            others = tuple(str(kind) for kind in table["others"])
        except (TypeError, ValueError) as error:
            raise UserError(f"its architecture says stem is {table['stem']!r}") from error
        for name in ("context", "early", "memory", "memory_kernel", "memory_layers", "head"):
            if not isinstance(table[name], int):
                raise UserError(f"its architecture says {name} is {table[name]!r}, which cannot be")
        return cls(**{**table, "stem": stem, "others": others})


ARTICLE = Architecture(
    stem=((16, 5, True), (16, 5, True), (16, 5, False)),
    strided=False,
    norm=False,
    same=False,
    context=0,
    early=0,
    memory=16,
    memory_kernel=5,
    bypass=False,
    head=0,
    others=(),
)
"""The 2017 article's network."""


class MotionModel(nn.Module):
    """Where in each frame the thing sought is. State goes in and comes out; nothing is kept in the module.

    Shapes: frames (T, B, 3, H, W) in [0, 1]; maps (T, B, 3 + others, h, w), h about H / stride, see `MAPS`;
    state: see `State`. A size H or W that the stride does not divide loses less than one cell at its end.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        blocks, below = [], 3
        for channels, kernel, halve in a.stem:
            blocks.append(Block(below, channels, kernel, halve, strided=a.strided, norm=a.norm, same=a.same))
            below = channels + (a.early if len(blocks) == 1 else 0)
        self.context = Block(below, below, 3, False, norm=a.norm, taps=a.context) if a.context else None
        self.early = ConvGRU2d(a.stem[0][0], a.early, a.memory_kernel) if a.early else None
        self.stem = nn.Sequential(*blocks)
        self.memory = ConvGRU2d(below, a.memory, a.memory_kernel, a.memory_layers) if a.memory else None
        seen = (below if a.bypass or not a.memory else 0) + a.memory
        self.hidden = nn.Conv2d(seen, a.head, 1) if a.head else None
        self.maps = nn.Conv2d(a.head or seen, MAPS + len(a.others), 1)
        with torch.no_grad():  # at first: nothing anywhere, boxes of 16 px
            self.maps.bias.fill_(-4.0)  # type: ignore[union-attr]
            self.maps.bias[1:MAPS] = 2.77  # type: ignore[index]

    @property
    def stride(self) -> int:
        return self.architecture.stride

    @property
    def offset(self) -> float:
        return self.architecture.offset

    def forward(
        self, frames: Tensor, state: State | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Maps of all frames, and the state after the last. reset (T, B): the row starts afresh before it."""
        lead = frames.shape[:2]
        seen, after = _centred(_flat(frames)), list[Tensor]()
        before = iter(state or ())
        for k, block in enumerate(self.stem):
            seen = block(seen)
            if k == 0 and self.early is not None:
                fine = self._remember(self.early, seen.unflatten(0, lead), before, reset, after)
                seen = torch.cat([seen, fine], 1)
        if self.context is not None:
            seen = seen + self.context(seen)
        if self.memory is not None:
            remembered = self._remember(self.memory, seen.unflatten(0, lead), before, reset, after)
            seen = torch.cat([seen, remembered], 1) if self.architecture.bypass else remembered
        if self.hidden is not None:
            seen = F.leaky_relu(self.hidden(seen), SLOPE)
        return self.maps(seen).unflatten(0, lead), tuple(after)

    def step(self, frame: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One frame (B, 3, H, W) of a stream and the last state; its maps and the next state."""
        maps, after = self(frame.unsqueeze(0), state)
        return maps[0], after

    def _remember(
        self,
        memory: Recurrent[Tensor],
        xs: Tensor,
        before: Iterator[Tensor],
        reset: Tensor | None,
        after: list[Tensor],
    ) -> Tensor:
        """What `memory` makes of (T, B, C, h, w), as (T B, C, h, w); the next state of `before` goes in, the
        state after the last frame is put behind `after`.
        """
        if not self.architecture.recurrent:
            alone: Tensor = memory(xs.flatten(0, 1).unsqueeze(0))[0]
            return alone[0]
        outputs: Tensor
        outputs, state = memory(xs, next(before, None), reset=reset)
        after.append(state)
        return _flat(outputs)


class Block(nn.Module):
    """A convolution, batch normalisation, the maximum over 2 x 2 or a stride of 2 where it halves, and a
    leaky rectifier.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        halve: bool,
        *,
        strided: bool = True,
        norm: bool,
        same: bool = True,
        taps: int = 1,
    ) -> None:
        super().__init__()
        self.pool = halve and not strided
        self.conv = nn.Conv2d(
            c_in,
            c_out,
            kernel,
            stride=2 if halve and strided else 1,
            padding=taps * (kernel // 2) if same else 0,
            dilation=taps,
        )
        nn.init.kaiming_normal_(self.conv.weight, a=SLOPE)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        self.norm = nn.BatchNorm2d(c_out) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is not None and self.training:
            x = self.norm(self.conv(x))
        else:
            weight, bias = self.folded()
            x = F.conv2d(x, weight, bias, self.conv.stride, self.conv.padding, self.conv.dilation)
        if self.pool:
            x = F.max_pool2d(x, 2)  # before the rectifier, which is monotonic: the same, for a quarter of it
        return F.leaky_relu(x, SLOPE)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that convolution and normalisation are when watching."""
        weight, bias = self.conv.weight, self.conv.bias
        assert bias is not None
        if self.norm is None:
            return weight, bias
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        scale = self.norm.weight * (variance + self.norm.eps).rsqrt()
        return weight * scale[:, None, None, None], (bias - mean) * scale + self.norm.bias


def _flat(xs: Tensor) -> Tensor:
    """(T, B, C, H, W) as (T B, C, H, W), so that torch can tell that the channels lie last: of a single
    picture it cannot after a plain `flatten`, and copies it.
    """
    return xs.movedim(2, -1).flatten(0, 1).movedim(-1, 1)


def _centred(frames: Tensor) -> Tensor:
    """[0, 1] to [-1, 1], channels last, which is how the processor convolves fastest."""
    return (frames * 2).sub_(1).contiguous(memory_format=torch.channels_last)

"""The tracking model: frame -> convolutional stem -> convolutional GRU -> head -> heat map and box sizes.

A second convolutional GRU sits early in the stem, where the texture is still fine enough to be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from canton.cells.conv import ConvGRU2d
from canton.core.recurrent import Recurrent
from canton.errors import UserError
from canton.training.settings import check_settings, documented, from_json, setting, to_json

State = tuple[Tensor, ...]
"""The recurrent state: a tensor (layers, B, C, h, w) for the early ConvGRU and one for the main one."""

MAPS = 3
"""Channels every model puts out first: the logit of the heat, the logarithms of width and height in px."""

SLOPE = 0.2
"""Of the leaky rectifier below zero, as in the article (and TensorFlow's default)."""


@documented
@dataclass(frozen=True)
class Architecture:
    """What the network is built from; a model file stores it.

    Raises:
        UserError: a field is out of range.
    """

    stem: tuple[tuple[int, int, bool], ...] = setting(
        ((16, 5, True), (32, 3, True), (48, 3, True), (32, 3, False)),
        "Blocks from the frame up, each (channels, kernel, halve): a convolution, downsampling by 2 where "
        "halve is true, a leaky ReLU.",
        option=False,
    )
    strided: bool = setting(
        True, "Downsample by a stride of 2 instead of max-pooling: a quarter of the work.", option=False
    )
    norm: bool = setting(
        True,
        "Batch normalisation after each convolution of the stem (Ioffe & Szegedy 2015, arXiv:1502.03167). "
        "At inference it is folded into the convolution.",
        option=False,
    )
    same: bool = setting(
        True,
        "Pad the convolutions to keep the size. False, as in the article, loses the borders.",
        option=False,
    )
    context: int = setting(
        4, "Dilation of a residual 3 x 3 block at the end of the stem. 0: no such block.", ge=0, option=False
    )
    early: int = setting(
        4,
        "Channels of the early ConvGRU after the stem's first block, at half the frame's resolution. It sees "
        "faint objects and camouflage. 0: none.",
        ge=0,
    )
    memory: int = setting(48, "Channels of the ConvGRU after the stem. 0: none.", ge=0)
    memory_kernel: int = setting(3, "Kernel of both ConvGRUs, odd.", ge=1, option=False)
    memory_layers: int = setting(1, "Layers of the ConvGRU after the stem.", ge=1)
    recurrent: bool = setting(
        True, "Carry the state from frame to frame. Without it every frame starts with an empty state."
    )
    bypass: bool = setting(True, "Feed the stem's output to the head, beside the memory's.", option=False)
    head: int = setting(
        32, "Channels of a hidden 1 x 1 convolution before the maps. 0: none.", ge=0, option=False
    )
    distractor_classes: tuple[str, ...] = setting(
        ("bird", "airplane", "helicopter"),
        "Classes that are not the target. Each has a heat map behind the first three maps.",
        option=False,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.stem or any(c < 1 or k < 1 or k % 2 == 0 for c, k, _ in self.stem):
            raise UserError(f"stem must be blocks (channels >= 1, odd kernel, halve), got {self.stem}")
        if self.memory_kernel % 2 == 0:
            raise UserError(f"memory_kernel must be odd, got {self.memory_kernel}")

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

    def for_target(self, target_class: str) -> Architecture:
        """Return the same network for another target: drone replaces it among the distractor classes."""
        names = dict.fromkeys("drone" if name == target_class else name for name in self.distractor_classes)
        return replace(self, distractor_classes=tuple(name for name in names if name != target_class))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return to_json(self)

    @classmethod
    def from_json(cls, table: Any) -> Architecture:
        """Return the architecture of a model file's header.

        Raises:
            UserError: its fields are not those of this version of Canton, or are out of range.
        """
        return from_json(cls, table)


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
    distractor_classes=(),
)
"""The 2017 article's network."""


class TrackModel(nn.Module):
    """Where in each frame the target is. State goes in and comes out; nothing is kept in the module.

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
        self.maps = nn.Conv2d(a.head or seen, MAPS + len(a.distractor_classes), 1)
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

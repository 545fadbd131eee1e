"""The tracker's network: frame -> convolutional stem -> ConvGRU -> head -> heat map and box sizes.

A second ConvGRU follows the stem's first block, at a higher resolution.
"""

from __future__ import annotations

import reprlib
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
"""Channels of the first output maps: the heat map's logit, and the logarithms of width and height in px."""

SLOPE = 0.2
"""Negative slope of the leaky ReLU, as in the article (TensorFlow's default)."""


@documented
@dataclass(frozen=True)
class Architecture:
    """The architecture of the network; a model file stores it.

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
        4,
        "Dilation of a residual 3 x 3 block at the end of the stem. 0: no such block.",
        ge=0,
        le=64,
        option=False,
    )
    early: int = setting(
        4,
        "Channels of the early ConvGRU after the stem's first block, at half the frame's resolution, for "
        "faint objects and camouflage. 0: none.",
        ge=0,
        le=4096,
    )
    memory: int = setting(48, "Channels of the ConvGRU after the stem. 0: none.", ge=0, le=4096)
    memory_kernel: int = setting(3, "Kernel of both ConvGRUs, odd.", ge=1, le=31, option=False)
    memory_layers: int = setting(1, "Layers of the ConvGRU after the stem.", ge=1, le=64)
    recurrent: bool = setting(
        True, "Carry the state from frame to frame. Without it every frame starts with an empty state."
    )
    bypass: bool = setting(True, "Feed the stem's output to the head, beside the memory's.", option=False)
    head: int = setting(
        32, "Channels of a hidden 1 x 1 convolution before the maps. 0: none.", ge=0, le=4096, option=False
    )
    distractor_classes: tuple[str, ...] = setting(
        ("bird", "airplane", "helicopter"),
        "Classes that are not the target. Each has a heat map after the first three maps.",
        option=False,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        blocks = 1 <= len(self.stem) <= 16
        if not blocks or any(not (1 <= c <= 4096 and 1 <= k <= 31 and k % 2) for c, k, _ in self.stem):
            raise UserError(
                f"stem must be 1 to 16 blocks (channels from 1 to 4096, odd kernel up to 31, halve), "
                f"got {reprlib.repr(self.stem)}"
            )
        if len(self.distractor_classes) > 100:
            raise UserError(
                f"distractor_classes must be at most 100 names, got {len(self.distractor_classes)}"
            )
        if self.memory_kernel % 2 == 0:
            raise UserError(f"memory_kernel must be odd, got {self.memory_kernel}")

    @property
    def stride(self) -> int:
        """Pixels of the frame per cell of the heat map."""
        return 1 << sum(halve for _, _, halve in self.stem)

    @property
    def offset(self) -> float:
        """Distance in px from the frame's left and upper edge to the centre of cell (0, 0)."""
        cell, start = 1, 0.5
        for _, kernel, halve in self.stem:
            start += 0 if self.same else cell * (kernel - 1) / 2
            if halve:
                start += 0 if self.strided else cell / 2  # a stride keeps the centre of every second cell
                cell *= 2
        return start

    def cells(self, px: int) -> int:
        """Return the number of heat map cells along a side of `px` pixels."""
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
"""The network of the 2017 article."""


class TrackModel(nn.Module):
    """A network that predicts the target's position in each frame. The caller carries the state.

    Shapes: frames (T, B, 3, H, W) in [0, 1]; maps (T, B, 3 + distractor classes, h, w) with h about
    H / stride, see `MAPS`; state, see `State`. If the stride does not divide H or W, less than one cell is
    lost at the end.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        blocks, channels_in = [], 3
        for channels, kernel, halve in a.stem:
            blocks.append(
                Block(channels_in, channels, kernel, halve, strided=a.strided, norm=a.norm, same=a.same)
            )
            channels_in = channels + (a.early if len(blocks) == 1 else 0)
        self.context = (
            Block(channels_in, channels_in, 3, False, norm=a.norm, dilation=a.context) if a.context else None
        )
        self.early = ConvGRU2d(a.stem[0][0], a.early, a.memory_kernel) if a.early else None
        self.stem = nn.Sequential(*blocks)
        self.memory = ConvGRU2d(channels_in, a.memory, a.memory_kernel, a.memory_layers) if a.memory else None
        features = (channels_in if a.bypass or not a.memory else 0) + a.memory
        self.hidden = nn.Conv2d(features, a.head, 1) if a.head else None
        self.maps = nn.Conv2d(a.head or features, MAPS + len(a.distractor_classes), 1)
        with torch.no_grad():  # start with low scores and boxes of 16 px
            self.maps.bias.fill_(-4.0)  # type: ignore[union-attr]
            self.maps.bias[1:MAPS] = 2.77  # type: ignore[index]

    @property
    def stride(self) -> int:
        return self.architecture.stride

    @property
    def offset(self) -> float:
        return self.architecture.offset

    def empty_state(self, batch_size: int, height: int, width: int) -> State:
        """Return the state before the first of frames (B, 3, height, width)."""
        a, weight = self.architecture, self.maps.weight
        if not a.recurrent:
            return ()
        first = replace(a, stem=a.stem[:1])
        layers = [(1, a.early, first)] if a.early else []
        layers += [(a.memory_layers, a.memory, a)] if a.memory else []
        return tuple(
            weight.new_zeros(count, batch_size, channels, part.cells(height), part.cells(width))
            for count, channels, part in layers
        )

    def forward(
        self, frames: Tensor, state: State | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Return the maps of all frames, and the state after the last.

        Args:
            frames: (T, B, 3, H, W) in [0, 1].
            state: the state before the first frame. None: empty.
            reset: (T, B), True where the row starts with an empty state.
        """
        time_batch = frames.shape[:2]
        features, after = _normalised(_merge_time(frames)), list[Tensor]()
        before = iter(state or ())
        for k, block in enumerate(self.stem):
            features = block(features)
            if k == 0 and self.early is not None:
                early = self._recur(self.early, features.unflatten(0, time_batch), before, reset, after)
                features = torch.cat([features, early], 1)
        if self.context is not None:
            features = features + self.context(features)
        if self.memory is not None:
            memory = self._recur(self.memory, features.unflatten(0, time_batch), before, reset, after)
            features = torch.cat([features, memory], 1) if self.architecture.bypass else memory
        if self.hidden is not None:
            features = F.leaky_relu(self.hidden(features), SLOPE)
        return self.maps(features).unflatten(0, time_batch), tuple(after)

    def step(self, frame: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return the maps of one frame (B, 3, H, W) of a stream, and the next state."""
        maps, after = self(frame.unsqueeze(0), state)
        return maps[0], after

    def _recur(
        self,
        layer: Recurrent[Tensor],
        xs: Tensor,
        before: Iterator[Tensor],
        reset: Tensor | None,
        after: list[Tensor],
    ) -> Tensor:
        """Run a ConvGRU over (T, B, C, h, w) and return (T B, C, h, w).

        Consumes the next state of `before` and appends the state after the last frame to `after`.
        """
        if not self.architecture.recurrent:
            single: Tensor = layer(xs.flatten(0, 1).unsqueeze(0))[0]
            return single[0]
        outputs: Tensor
        outputs, state = layer(xs, next(before, None), reset=reset)
        after.append(state)
        return _merge_time(outputs)


class Block(nn.Module):
    """A convolution, batch normalisation, optional downsampling by 2 (pooling or a stride), a leaky ReLU."""

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
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.pool = halve and not strided
        self.conv = nn.Conv2d(
            c_in,
            c_out,
            kernel,
            stride=2 if halve and strided else 1,
            padding=dilation * (kernel // 2) if same else 0,
            dilation=dilation,
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
            x = F.max_pool2d(x, 2)  # before the ReLU, which is monotonic: same result, a quarter of the work
        return F.leaky_relu(x, SLOPE)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the convolution with the normalisation folded in, for inference."""
        weight, bias = self.conv.weight, self.conv.bias
        assert bias is not None
        if self.norm is None:
            return weight, bias
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        scale = self.norm.weight * (variance + self.norm.eps).rsqrt()
        return weight * scale[:, None, None, None], (bias - mean) * scale + self.norm.bias


def _merge_time(xs: Tensor) -> Tensor:
    """Reshape (T, B, C, H, W) to (T B, C, H, W), keeping channels-last strides.

    After a plain `flatten` torch does not recognise the layout of a single frame, and copies it.
    """
    return xs.movedim(2, -1).flatten(0, 1).movedim(-1, 1)


def _normalised(frames: Tensor) -> Tensor:
    """Map [0, 1] to [-1, 1] in channels-last layout, in which convolutions are fastest on a CPU."""
    return (frames * 2).sub_(1).contiguous(memory_format=torch.channels_last)

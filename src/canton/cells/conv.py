"""Convolutional layers over one, two and three spatial axes."""

from __future__ import annotations

from typing import ClassVar, Literal

from typing_extensions import Unpack

from canton.cells.gru import GRU
from canton.cells.lstm import LSTM
from canton.cells.rnn import RNN
from canton.core.layer import LayerOptions
from canton.maps import Axes, PaddingMode, convolution


class _Convolutional:
    """Documentation of the arguments of convolutional layers.

    Args:
        kernel_size: positions per axis, such as 3 or (1, 5).
        dilation: distance between kernel taps, per axis.
        groups: number of groups of channels; must divide input_size and hidden_size.
        padding_mode: "zeros", or "circular" to wrap around.
    """

    _axes: ClassVar[int]


class _ConvGRU(_Convolutional, GRU):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        kernel_size: Axes,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset: Literal["before", "after"] = "before",
        dilation: Axes = 1,
        groups: int = 1,
        padding_mode: PaddingMode = "zeros",
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            reset=reset,
            map=convolution(self._axes, kernel_size, dilation, groups, padding_mode),
            **options,
        )


class _ConvLSTM(_Convolutional, LSTM):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        kernel_size: Axes,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        peephole: bool = False,
        forget_bias: float = 1.0,
        dilation: Axes = 1,
        groups: int = 1,
        padding_mode: PaddingMode = "zeros",
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            peephole=peephole,
            forget_bias=forget_bias,
            map=convolution(self._axes, kernel_size, dilation, groups, padding_mode),
            **options,
        )


class _ConvRNN(_Convolutional, RNN):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        kernel_size: Axes,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dilation: Axes = 1,
        groups: int = 1,
        padding_mode: PaddingMode = "zeros",
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            nonlinearity,
            bias,
            batch_first,
            dropout,
            bidirectional,
            map=convolution(self._axes, kernel_size, dilation, groups, padding_mode),
            **options,
        )


class ConvGRU1d(_ConvGRU):
    """`canton.GRU` over lines: input (T, B, C, L)."""

    _axes = 1


class ConvGRU2d(_ConvGRU):
    """`canton.GRU` over images, such as video frames: input (T, B, C, H, W)."""

    _axes = 2


class ConvGRU3d(_ConvGRU):
    """`canton.GRU` over volumes: input (T, B, C, D, H, W)."""

    _axes = 3


class ConvLSTM1d(_ConvLSTM):
    """`canton.LSTM` over lines: input (T, B, C, L)."""

    _axes = 1


class ConvLSTM2d(_ConvLSTM):
    """`canton.LSTM` over images, such as video frames: input (T, B, C, H, W)."""

    _axes = 2


class ConvLSTM3d(_ConvLSTM):
    """`canton.LSTM` over volumes: input (T, B, C, D, H, W)."""

    _axes = 3


class ConvRNN1d(_ConvRNN):
    """`canton.RNN` over lines: input (T, B, C, L)."""

    _axes = 1


class ConvRNN2d(_ConvRNN):
    """`canton.RNN` over images, such as video frames: input (T, B, C, H, W)."""

    _axes = 2


class ConvRNN3d(_ConvRNN):
    """`canton.RNN` over volumes: input (T, B, C, D, H, W)."""

    _axes = 3

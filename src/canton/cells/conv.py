"""Convolutional layers: the dense ones with a convolution for a map, for one, two and three axes of space."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from canton.cells.gru import GRU
from canton.cells.lstm import LSTM
from canton.cells.rnn import RNN
from canton.core.recurrent import Recurrent
from canton.core.stack import Device
from canton.maps import Axes, Convolution, conv1d, conv2d, conv3d

Layer = TypeVar("Layer", bound=Callable[..., Recurrent])

_SEQUENCES = {1: "lines (T, B, C, L)", 2: "images (T, B, C, H, W), video", 3: "volumes (T, B, C, D, H, W)"}


def _named(layer: Layer, name: str, axes: int) -> Layer:
    layer.__name__ = layer.__qualname__ = f"{name}{axes}d"
    layer.__doc__ = (
        f"`canton.{name[4:]}` with a convolution for a map, over sequences of {_SEQUENCES[axes]}.\n\n"
        f"`kernel_size`, `dilation`, `groups` and `padding_mode` are those of `canton.maps.conv{axes}d`."
    )
    return layer


def _conv_gru(axes: int, conv: Callable[..., Convolution]):  # type: ignore[no-untyped-def]  # the layer's own signature
    def layer(
        input_size: int,
        hidden_size: int,
        kernel_size: Axes,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset: str = "before",
        dilation: Axes = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        layer_norm: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        learn_initial_state: bool = False,
        kernel: str = "auto",
        recompute: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> Recurrent:
        return GRU(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            reset=reset,
            map=conv(kernel_size, dilation=dilation, groups=groups, padding_mode=padding_mode),
            layer_norm=layer_norm,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            learn_initial_state=learn_initial_state,
            kernel=kernel,
            recompute=recompute,
            device=device,
            dtype=dtype,
        )

    return _named(layer, "ConvGRU", axes)


def _conv_lstm(axes: int, conv: Callable[..., Convolution]):  # type: ignore[no-untyped-def]  # the layer's own signature
    def layer(
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
        padding_mode: str = "zeros",
        layer_norm: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        learn_initial_state: bool = False,
        kernel: str = "auto",
        recompute: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> Recurrent:
        return LSTM(
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
            map=conv(kernel_size, dilation=dilation, groups=groups, padding_mode=padding_mode),
            layer_norm=layer_norm,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            learn_initial_state=learn_initial_state,
            kernel=kernel,
            recompute=recompute,
            device=device,
            dtype=dtype,
        )

    return _named(layer, "ConvLSTM", axes)


def _conv_rnn(axes: int, conv: Callable[..., Convolution]):  # type: ignore[no-untyped-def]  # the layer's own signature
    def layer(
        input_size: int,
        hidden_size: int,
        kernel_size: Axes,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dilation: Axes = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        layer_norm: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        learn_initial_state: bool = False,
        kernel: str = "auto",
        recompute: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> Recurrent:
        return RNN(
            input_size,
            hidden_size,
            num_layers,
            nonlinearity,
            bias,
            batch_first,
            dropout,
            bidirectional,
            map=conv(kernel_size, dilation=dilation, groups=groups, padding_mode=padding_mode),
            layer_norm=layer_norm,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            learn_initial_state=learn_initial_state,
            kernel=kernel,
            recompute=recompute,
            device=device,
            dtype=dtype,
        )

    return _named(layer, "ConvRNN", axes)


ConvGRU1d = _conv_gru(1, conv1d)
ConvGRU2d = _conv_gru(2, conv2d)
ConvGRU3d = _conv_gru(3, conv3d)
ConvLSTM1d = _conv_lstm(1, conv1d)
ConvLSTM2d = _conv_lstm(2, conv2d)
ConvLSTM3d = _conv_lstm(3, conv3d)
ConvRNN1d = _conv_rnn(1, conv1d)
ConvRNN2d = _conv_rnn(2, conv2d)
ConvRNN3d = _conv_rnn(3, conv3d)

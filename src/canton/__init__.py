"""Canton: gated recurrence over any affine map.

A recurrent cell is an algebra of gates over an affine map of [hidden, input]. Use a dense map and it reads text; use a
convolution and it watches video.
"""

from canton import gates, maps
from canton.cell import Cell
from canton.cells import GRUCell, MGUCell, MinGRUCell, RNNCell
from canton.conv_layers import (
    ConvGRU1d,
    ConvGRU2d,
    ConvGRU3d,
    ConvLSTM1d,
    ConvLSTM2d,
    ConvLSTM3d,
    ConvRNN1d,
    ConvRNN2d,
    ConvRNN3d,
)
from canton.layers import GRU, LSTM, MGU, RNN, MinGRU
from canton.lstm import LSTMCell
from canton.recurrent import Recurrent, detach

__version__ = "0.2.0"

__all__ = [
    "GRU",
    "LSTM",
    "MGU",
    "RNN",
    "Cell",
    "ConvGRU1d",
    "ConvGRU2d",
    "ConvGRU3d",
    "ConvLSTM1d",
    "ConvLSTM2d",
    "ConvLSTM3d",
    "ConvRNN1d",
    "ConvRNN2d",
    "ConvRNN3d",
    "GRUCell",
    "LSTMCell",
    "MGUCell",
    "MinGRU",
    "MinGRUCell",
    "RNNCell",
    "Recurrent",
    "detach",
    "gates",
    "maps",
]

"""Canton: gated recurrence over any affine map.

A recurrent cell combines gate equations with an affine map of [hidden, input]: a dense map for vectors and
text, a convolution for images and video.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from canton import gates, maps
    from canton.cells.conv import (
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
    from canton.cells.gru import GRU, GRUCell
    from canton.cells.lstm import LSTM, LSTMCell
    from canton.cells.mgu import MGU, MGUCell
    from canton.cells.min_gru import MinGRU, MinGRUCell
    from canton.cells.rnn import RNN, RNNCell
    from canton.cells.slstm import SLSTM, SLSTMCell
    from canton.core.cell import Cell
    from canton.core.recurrent import Recurrent, detach

__version__ = "0.2.0"

__all__ = [
    "GRU",
    "LSTM",
    "MGU",
    "RNN",
    "SLSTM",
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
    "SLSTMCell",
    "detach",
    "gates",
    "maps",
]

_MODULES = {
    "core.cell": ("Cell",),
    "core.recurrent": ("Recurrent", "detach"),
    "cells.gru": ("GRU", "GRUCell"),
    "cells.lstm": ("LSTM", "LSTMCell"),
    "cells.mgu": ("MGU", "MGUCell"),
    "cells.min_gru": ("MinGRU", "MinGRUCell"),
    "cells.rnn": ("RNN", "RNNCell"),
    "cells.slstm": ("SLSTM", "SLSTMCell"),
    "cells.conv": tuple(name for name in __all__ if name.startswith("Conv")),
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use, so that `canton --help` does not import torch."""
    if name in ("gates", "maps"):
        return import_module(f"canton.{name}")
    for module, names in _MODULES.items():
        if name in names:
            value: object = getattr(import_module(f"canton.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'canton' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Canton: gated recurrence over any affine map.

A recurrent cell is an algebra of gates over an affine map of [hidden, input]. Use a dense map and it reads
text; use a convolution and it watches video.
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
    from canton.core.cell import Cell
    from canton.core.recurrent import Recurrent, detach

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

_HOME = {
    "core.cell": ("Cell",),
    "core.recurrent": ("Recurrent", "detach"),
    "cells.gru": ("GRU", "GRUCell"),
    "cells.lstm": ("LSTM", "LSTMCell"),
    "cells.mgu": ("MGU", "MGUCell"),
    "cells.min_gru": ("MinGRU", "MinGRUCell"),
    "cells.rnn": ("RNN", "RNNCell"),
    "cells.conv": tuple(name for name in __all__ if name.startswith("Conv")),
}


def __getattr__(name: str) -> object:
    """Fetch a public name when it is first asked for, so that `canton --help` need not wait for torch."""
    if name in ("gates", "maps"):
        return import_module(f"canton.{name}")
    for module, names in _HOME.items():
        if name in names:
            value: object = getattr(import_module(f"canton.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'canton' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

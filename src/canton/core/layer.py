"""The base class of the layers with torch.nn's arguments, such as `canton.GRU`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypedDict

import torch
from typing_extensions import Unpack

from canton.core.cell import Cell, check_size
from canton.core.recurrent import Device, Recurrent, StateT_co
from canton.kernels import Kernel


class RecurrentOptions(TypedDict, total=False):
    """The keyword arguments that layers pass to `Recurrent`."""

    recurrent_dropout: float
    zoneout: float
    learn_initial_state: bool
    kernel: Kernel
    recompute: bool
    device: Device
    dtype: torch.dtype | None


class LayerOptions(RecurrentOptions, total=False):
    """The keyword arguments that all layers share; `Layer` and `Recurrent` document them."""

    layer_norm: bool


class Layer(Recurrent[StateT_co]):
    """A stack of cells that `make_cell` creates.

    If a subclass takes ``**options: Unpack[LayerOptions]``, its signature lists these options, and its
    docstring explains every argument.

    Args:
        make_cell: makes a cell from its number of input channels and `layer_norm`.
        input_size: channels of the input.
        hidden_size: channels of the state.
        num_layers: number of layers in the stack.
        bias: whether the map is affine (True) or linear.
        map: makes the affine maps, such as `maps.dense` or ``maps.conv2d(3)``.
        layer_norm: normalise the pre-activations of each gate.
    """

    def __init__(
        self,
        make_cell: Callable[..., Cell],
        input_size: int,
        num_layers: int,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        *,
        layer_norm: bool = False,
        **options: Unpack[RecurrentOptions],
    ) -> None:
        if unknown := sorted(options.keys() - RecurrentOptions.__annotations__.keys()):
            known = ", ".join(inspect.signature(type(self)).parameters)
            raise TypeError(
                f"{type(self).__name__}() got the unknown argument {unknown[0]!r}; it takes {known}"
            )
        check_size("num_layers", num_layers)
        directions = 2 if bidirectional else 1
        device = options.get("device")
        with nullcontext() if device is None else torch.device(device):
            cells = [make_cell(input_size, layer_norm=layer_norm) for _ in range(directions)]
            between = directions * cells[0].state_sizes[0]
            sizes = [between] * (directions * (num_layers - 1))
            cells += [make_cell(size, layer_norm=layer_norm) for size in sizes]
            super().__init__(
                cells, bidirectional=bidirectional, batch_first=batch_first, dropout=dropout, **options
            )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        init = cls.__dict__.get("__init__")
        if init is not None and "Unpack[LayerOptions]" in str(inspect.signature(init)):
            _list_options(init)
        if cls.__dict__.get("__doc__"):
            cls.__doc__ = _explain_arguments(cls)


def _list_options(init: Callable[..., None]) -> None:
    """Replace ``**options`` by the shared options in the signature of a layer's `init`."""
    shared = {**inspect.signature(Layer).parameters, **inspect.signature(Recurrent).parameters}
    own = inspect.signature(init)
    parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    parameters += [shared[name] for name in ("layer_norm", *RecurrentOptions.__annotations__)]
    init.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]


def _explain_arguments(cls: type[Layer]) -> str:
    """Return the docstring of `cls` with an entry for every argument, taken from it and its base classes."""
    pattern = re.compile(r"^ {4}Args:\n((?: {8}.*\n)+)", re.M)
    meaning: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = pattern.search(base.__dict__.get("__doc__") or "")
        for entry in re.split(r"^(?= {8}\w)", section[1] if section else "", flags=re.M)[1:]:
            meaning |= dict.fromkeys(entry.strip().partition(":")[0].split(", "), entry)
    names = inspect.signature(cls).parameters
    arguments = "    Args:\n" + "".join(dict.fromkeys(meaning[name] for name in names if name in meaning))
    text = (cls.__doc__ or "").rstrip() + "\n"
    if pattern.search(text):
        return pattern.sub(lambda _: arguments, text, count=1)
    return f"{text}\n{arguments}"

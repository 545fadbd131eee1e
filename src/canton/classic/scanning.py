"""A step over time: Scanner, BatchScanner, and rnn_gen, which makes a recurrent Can of a one-pass Can.

The notices that the original printed while it built its graph are not printed: here there is no graph to
build.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from canton.classic import faster
from canton.classic.can import Can
from canton.core.cell import Cell

Step = Callable[[Tensor, Tensor], Tensor]
StateShaper = Callable[[Tensor, int], Sequence[int]]


def scan(f: Step, i: Tensor, state: Tensor) -> Tensor:
    """All states, (time, *state), of state = f(state, i[t]).

    Raises:
        ValueError: f returns a state of another shape.
    """
    states = []
    for x in i:
        new = f(state, x)
        if new.shape != state.shape:
            raise ValueError(
                f"the step makes {tuple(new.shape)} of a state of shape {tuple(state.shape)}: it must keep it"
            )
        states.append(state := new)
    return torch.stack(states) if states else state.new_zeros(0, *state.shape)


class Scanner(Can):
    """f over time: (time, ...) -> (time, *state), where f(state, input) is the next state.

    Call it with ``starting_state``, or with ``inferred_state_shape`` for zeros of that shape; without
    either the state starts as zeros like the first input.
    """

    def __init__(self, f: Step) -> None:
        super().__init__()
        self.f = f

    def forward(
        self,
        i: Tensor,
        starting_state: Tensor | None = None,
        inferred_state_shape: Sequence[int] | None = None,
    ) -> Tensor:
        if starting_state is not None:
            state = starting_state
        elif inferred_state_shape is not None:
            state = i.new_zeros(tuple(inferred_state_shape))
        else:
            state = torch.zeros_like(i[0])
        return scan(self.f, i, state)


class BatchScanner(Scanner):
    """`Scanner` with the batch first: (batch, time, ...) -> (batch, time, *state)."""

    def forward(
        self,
        i: Tensor,
        starting_state: Tensor | None = None,
        inferred_state_shape: Sequence[int] | None = None,
    ) -> Tensor:
        return super().forward(i.transpose(0, 1), starting_state, inferred_state_shape).transpose(0, 1)


class OnePass(Can):
    """A Can of [hidden, input] that may know the cell of Canton's which computes the same by its weights."""

    def cell(self) -> Cell | None:
        """That cell, or None."""
        return None


class Recurrence(Can):
    """A one-pass Can over time: (batch, time, *space, channels) -> (batch, time, *space, num_h).

    What `rnn_gen` makes is a subclass. Its arguments are those of the one-pass Can, kept as `unit`. Call it
    with ``starting_state``, (batch, *space, num_h), to go on from a state (the last moment of what it
    returned before); without, the state starts as zeros. ``state_shaper(i, num_h)`` says the state's shape
    where the input's does not.
    """

    one_pass_class: Callable[..., Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.unit = type(self).one_pass_class(*args, **kwargs)
        self.bscan = BatchScanner(self._step)  # a bound method: a deep copy scans with its own unit
        self.incan([self.unit, self.bscan])

    def _step(self, state: Tensor, x: Tensor) -> Tensor:
        new: Tensor = self.unit([state, x])
        return new

    def forward(
        self,
        i: Tensor,
        state_shaper: StateShaper | None = None,
        starting_state: Tensor | None = None,
    ) -> Tensor:
        if state_shaper is None:
            shape: Sequence[int] = [i.shape[0], *i.shape[2:-1], self.unit.num_h]
        else:
            shape = state_shaper(i, self.unit.num_h)
        state = i.new_zeros(tuple(shape)) if starting_state is None else starting_state
        cell = self._cell()
        if cell is not None and faster.fits(cell, i, state):
            return faster.run(cell, i, state)
        states: Tensor = self.bscan(i, state)
        return states

    def _cell(self) -> Cell | None:
        """The cell that computes what `_step` does, for the kernels; None if there is none."""
        unit = self.unit
        if not isinstance(unit, OnePass) or type(self)._step is not Recurrence._step:
            return None
        return unit.cell() if faster.is_plain(self.bscan, BatchScanner.forward) else None


def rnn_gen(name: str, one_pass_class: Callable[..., Any]) -> type[Recurrence]:
    """The class of recurrent Cans, called `name`, that run `one_pass_class` over time; see `Recurrence`.

    `one_pass_class` makes Cans that turn [state, input] into the next state and know their state's
    channels, `num_h`. Assign the class to its own name at the top of a module if its Cans are to be
    pickled.
    """
    # As collections.namedtuple does: the class belongs to the module that asked for it.
    home = sys._getframe(1).f_globals.get("__name__", __name__)
    body = {"one_pass_class": staticmethod(one_pass_class), "__module__": home, "__doc__": Recurrence.__doc__}
    return type(name, (Recurrence,), body)

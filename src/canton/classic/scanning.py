"""Steps over time: Scanner, BatchScanner, and rnn_gen, which makes a recurrent Can of a one-pass Can."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from canton.classic import fast_path
from canton.classic.can import Can
from canton.core.cell import Cell

Step = Callable[[Tensor, Tensor], Tensor]
StateShaper = Callable[[Tensor, int], Sequence[int]]


def scan(f: Step, i: Tensor, state: Tensor) -> Tensor:
    """Return all states, (time, *state), of state = f(state, i[t]).

    Raises:
        ValueError: f returns a state of another shape.
    """
    states = []
    for x in i:
        new = f(state, x)
        if new.shape != state.shape:
            raise ValueError(f"f must keep the state's shape {tuple(state.shape)}, got {tuple(new.shape)}")
        states.append(state := new)
    return torch.stack(states) if states else state.new_zeros(0, *state.shape)


class Scanner(Can):
    """f over time: (time, ...) -> (time, *state), where f(state, input) is the next state.

    The first state is ``starting_state``, or zeros of ``inferred_state_shape``, or zeros like the first
    input.
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
    """A Can of [hidden, input] that a Canton cell may compute."""

    def cell(self) -> Cell | None:
        """Return a cell with the same weights and result, or None."""
        return None


class Recurrence(Can):
    """A one-pass Can over time: (batch, time, *space, channels) -> (batch, time, *space, num_h).

    `rnn_gen` returns subclasses. Their arguments are those of the one-pass Can, which is the attribute
    `unit`. The first state is ``starting_state``, (batch, *space, num_h), or zeros. ``state_shaper(i,
    num_h)`` returns the state's shape if it is not the input's.
    """

    one_pass_class: Callable[..., Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.unit = type(self).one_pass_class(*args, **kwargs)
        self.bscan = BatchScanner(self._step)  # copy.deepcopy binds the method to the copy
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
        if cell is not None and fast_path.can_run(cell, i, state):
            return fast_path.run(cell, i, state)
        states: Tensor = self.bscan(i, state)
        return states

    def _cell(self) -> Cell | None:
        """Return the cell that computes what `_step` does, or None."""
        unit = self.unit
        if not isinstance(unit, OnePass) or type(self)._step is not Recurrence._step:
            return None
        return unit.cell() if fast_path.is_unmodified(self.bscan, BatchScanner.forward) else None


def rnn_gen(name: str, one_pass_class: Callable[..., Any]) -> type[Recurrence]:
    """Return a class of recurrent Cans that run `one_pass_class` over time; see `Recurrence`.

    Args:
        name: the class's name. Assign the class to this name in a module, so that its Cans can be pickled.
        one_pass_class: makes Cans from [state, input] to the next state, with the attribute `num_h`.
    """
    # As in collections.namedtuple, the class belongs to the caller's module.
    module = sys._getframe(1).f_globals.get("__name__", __name__)
    body = {
        "one_pass_class": staticmethod(one_pass_class),
        "__module__": module,
        "__doc__": Recurrence.__doc__,
    }
    return type(name, (Recurrence,), body)

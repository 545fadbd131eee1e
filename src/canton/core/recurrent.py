"""Any cell over time: stacks, both directions, lengths, restarts, streaming.

`loop` is the definition of what a layer computes. Everything in `canton.kernels` is a faster way to the same
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from canton import kernels
from canton.core.cell import Cell, State, check_state
from canton.core.checkpointing import in_pieces, project, stand_in
from canton.core.packing import backward_reset, check_lengths, flip, pack_like, unpack, within
from canton.kernels import Job, Result


def loop(job: Job, cell: Cell) -> Result:
    """The readable loop: one step after the other, differentiable to any order."""
    state, outputs = job.state, []
    space = (1,) * (job.gx.ndim - 3)
    for t, gx in enumerate(job.gx.unbind(0)):  # unbind, because gx[t] would make backward O(T^2)
        if job.reset is not None:
            restart = job.reset[t].view(-1, 1, *space)
            state = tuple(torch.where(restart, f, s) for f, s in zip(job.fresh, state, strict=True))
        after = cell.advance(gx, state, job.drop)
        if job.zone is not None:
            shares = (share[t if len(share) > 1 else 0] for share in job.zone)
            after = tuple(
                share * old + (1 - share) * new for share, old, new in zip(shares, state, after, strict=True)
            )
        if job.lengths is not None:
            alive = (t < job.lengths).view(-1, 1, *space)
            outputs.append(torch.where(alive, after[0], torch.zeros_like(after[0])))
            state = tuple(torch.where(alive, new, old) for new, old in zip(after, state, strict=True))
        else:
            outputs.append(after[0])
            state = after
    return torch.stack(outputs), state


def detach(state: Tensor | State) -> Tensor | State:
    """The same state without its history: pass it on to cut backpropagation through time here."""
    return state.detach() if isinstance(state, Tensor) else tuple(s.detach() for s in state)


class Recurrent(nn.Module):
    """Cells over time, stacked, in one direction or both.

    `GRU`, `ConvLSTM2d` and the others (canton.cells) are short ways to one of these; with a cell of your
    own, write ``Recurrent(MyCell(8, 16))``.

    Args:
        cells: one per layer and direction: layer 0 forward, layer 0 backward (if bidirectional), layer 1 ...
        bidirectional: run every second cell from end to start; outputs are joined on the channel axis.
        batch_first: sequences are (B, T, ...) instead of (T, B, ...), states as ever; so in torch.nn.
        dropout: probability of dropping each output of every layer but the last, in training.
        recurrent_dropout: probability of dropping each unit of the state, the same ones at all steps of a
            sequence, wherever a map sees it, in training (Gal & Ghahramani 2016, arXiv:1512.05287).
        zoneout: probability of a unit of the state keeping its old value at a step, in training; in
            evaluation the old and the new value are mixed in that proportion (Krueger et al. 2017,
            arXiv:1606.01305).
        learn_initial_state: start from a learned state (one number per channel) instead of zeros.
        kernel: "auto" takes the fastest way that can run, "loop" the readable loop; see `kernels.NAMES`.
        recompute: save memory in training: keep for backward only the inputs and about sqrt(T) states, and
            run forward once more in backward (see canton.core.checkpointing). Not within
            transforms of torch.func.

    Shapes:
        xs (T, B, input_size, *space), or integers (T, B) with a dense map; output (T, B, directions * C,
        *space); state (layers * directions, B, C, *space), for an LSTM a pair (h, c) of such. Without the
        batch axis throughout if xs has none (dense maps and convolutions).

    Raises:
        ValueError: cells that do not fit together, or a probability outside [0, 1).
    """

    def __init__(
        self,
        cells: Cell | Sequence[Cell],
        *,
        bidirectional: bool = False,
        batch_first: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        learn_initial_state: bool = False,
        kernel: str = "auto",
        recompute: bool = False,
    ) -> None:
        super().__init__()
        cells = [cells] if isinstance(cells, Cell) else list(cells)
        self.directions = 2 if bidirectional else 1
        if not cells or len(cells) % self.directions:
            raise ValueError(f"there are {len(cells)} cells: give one for each layer and direction")
        for name, p in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout), ("zoneout", zoneout)):
            if not 0 <= p < 1:
                raise ValueError(f"{name} is {p}: a probability lies in [0, 1)")
        sizes = cells[0].state_sizes
        for k, cell in enumerate(cells):
            takes = cells[0].input_size if k < self.directions else self.directions * sizes[0]
            if cell.state_sizes != sizes or cell.input_size != takes:
                raise ValueError(
                    f"cell {k} takes {cell.input_size} channels and keeps {cell.state_sizes}; "
                    f"here it must take {takes} and keep {sizes}"
                )
        self.cells = nn.ModuleList(cells)
        self.input_size, self.state_sizes = cells[0].input_size, sizes
        self.batch_first, self.dropout = batch_first, dropout
        self.recurrent_dropout, self.zoneout = recurrent_dropout, zoneout
        self.kernel, self.recompute = kernels.check_name(kernel), recompute
        count = len(cells) if learn_initial_state else 0
        self.initial = nn.ParameterList(torch.zeros(sum(sizes)) for _ in range(count))

    def extra_repr(self) -> str:
        names = ("batch_first", "dropout", "recurrent_dropout", "zoneout", "kernel", "recompute")
        return f"directions={self.directions}, " + ", ".join(
            f"{name}={getattr(self, name)!r}" for name in names
        )

    def forward(
        self,
        xs: Tensor | PackedSequence,
        state: Tensor | State | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor | State]:
        """Run over a sequence.

        Args:
            xs: the sequence, see the class; or a PackedSequence, which then comes back.
            state: the state to start from, as a former call returned it; None starts afresh.
            lengths: (B,) how many steps of each row count, 0 to T; later outputs are 0, inputs not read.
            reset: (T, B) booleans, (B, T) if batch_first, (T,) if xs has no batch axis; where true, the row
                starts afresh before the step.

        Returns:
            The outputs of the last layer at all steps, and the state after the last one.

        Raises:
            ValueError: a shape, length or dtype that does not fit; which one, and what was wanted.
        """
        ys, after = self._forward(*self._laid_out(xs, state, lengths, reset))
        if isinstance(xs, PackedSequence):
            return pack_like(ys, xs), after
        if self._cells()[0].lacks_batch(xs, lead=2):
            return ys.squeeze(1), self._map(after, lambda s: s.squeeze(1))
        return (ys.transpose(0, 1) if self.batch_first else ys), after

    def step(self, x: Tensor, state: Tensor | State | None = None) -> tuple[Tensor, Tensor | State]:
        """One step of a stream: x (B, input_size, *space) or integers (B,) and the last state.

        Returns the output and the next state. Stepping through a sequence gives what `forward` gives for the
        whole of it.

        Raises:
            ValueError: the layer is bidirectional, or a shape does not fit.
        """
        if self.directions == 2:
            raise ValueError("a bidirectional layer cannot stream: its backward half begins at the end")
        self._cells()[0].check_input(x, lead=1)
        states = None if state is None else self._unstack(state, (x.shape[0],), x.shape[2:])
        finals: list[State] = []
        for k, cell in enumerate(self._cells()):
            if k and self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
            gx = project(cell, x.unsqueeze(0), self.kernel)
            job = self._job(k, cell, gx, states[k] if states else None, x)
            (x,), final = kernels.run_step(job, partial(loop, cell=cell), self.kernel)
            finals.append(final)
        return x, self._stack(finals)

    def which(self, xs: Tensor | PackedSequence, state: Tensor | State | None = None) -> str:
        """The name of the kernel that would run the first layer on `xs`; "loop" is the readable loop."""
        steps, state, lengths, _ = self._laid_out(xs, state)
        cell = self._cells()[0]
        gx = project(cell, steps, self.kernel)
        states = None if state is None else self._unstack(state, steps.shape[1:2], steps.shape[3:])
        job = self._job(0, cell, gx, states[0] if states else None, steps, lengths=lengths)
        return kernels.choose(job, self.kernel)

    def _cells(self) -> list[Cell]:
        return [cell for cell in self.cells if isinstance(cell, Cell)]

    def _laid_out(
        self,
        xs: Tensor | PackedSequence,
        state: Tensor | State | None,
        lengths: Tensor | Sequence[int] | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | State | None, Tensor | None, Tensor | None]:
        """What `forward` was given, looked at, with time first, then the batch."""
        first, turned, shape = self._cells()[0], self.batch_first, None
        packed = isinstance(xs, PackedSequence)
        if isinstance(xs, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths is given, but a PackedSequence has its own: leave it out")
            xs, lengths = unpack(xs)
        elif first.lacks_batch(xs, lead=2):
            turned, shape, xs = False, tuple(xs.shape[:1]), xs.unsqueeze(1)
            state = None if state is None else self._map(state, lambda s: s.unsqueeze(1))
        first.check_input(xs, lead=2, name="xs")
        xs = xs.transpose(0, 1) if turned and not packed else xs
        steps, batch = xs.shape[:2]
        if steps < 1:
            raise ValueError(f"xs has the shape {tuple(xs.shape)}: a sequence has one step at least")
        if reset is not None:
            shape = shape or ((batch, steps) if turned else (steps, batch))
            if tuple(reset.shape) != shape or reset.dtype != torch.bool:
                raise ValueError(f"reset is {tuple(reset.shape)} {reset.dtype}: it is {shape} torch.bool")
            if reset.device != xs.device:
                raise ValueError(f"reset is on {reset.device}: it lies where xs does, on {xs.device}")
            reset = reset.t() if turned else reset.view(steps, batch)
        return xs, state, None if lengths is None else check_lengths(lengths, steps, batch, xs.device), reset

    def _forward(
        self, xs: Tensor, state: Tensor | State | None, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, Tensor | State]:
        states = None if state is None else self._unstack(state, xs.shape[1:2], xs.shape[3:])
        if (
            lengths is not None
        ):  # behind its end a row neither restarts nor reads: a NaN would reach gradients
            xs, reset = within(xs, lengths), None if reset is None else within(reset, lengths)
        finals: list[State] = []
        cells, again = self._cells(), self._recomputes()
        for first in range(0, len(cells), self.directions):
            if first and self.dropout:
                xs = nn.functional.dropout(xs, self.dropout, self.training)
            outputs = []
            for k in range(first, first + self.directions):
                cell, backward = cells[k], k > first
                seen, restart = xs, reset
                if backward:
                    seen = flip(xs, lengths)
                    restart = None if reset is None else flip(backward_reset(reset), lengths)
                gx = stand_in(cell, seen) if again else project(cell, seen, self.kernel)
                job = self._job(k, cell, gx, states[k] if states else None, xs, restart, lengths)
                run = partial(kernels.run, loop=partial(loop, cell=cell), kernel=self.kernel)
                ys, final = in_pieces(cell, seen, job, run, self.kernel) if again else run(job)
                outputs.append(flip(ys, lengths) if backward else ys)
                finals.append(final)
            xs = torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0]
        return xs, self._stack(finals)

    def _job(
        self,
        k: int,
        cell: Cell,
        gx: Tensor,
        state: State | None,
        xs: Tensor,
        reset: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Job:
        dtype = xs.dtype if xs.is_floating_point() else gx.dtype
        fresh = cell.start(gx[0], dtype)
        if len(self.initial):
            space = (1,) * (gx.ndim - 3)
            parts = self.initial[k].split(self.state_sizes)
            fresh = tuple(p.view(-1, *space).expand_as(f) for p, f in zip(parts, fresh, strict=True))
        state = fresh if state is None else state
        drop = zone = None
        if self.training and self.recurrent_dropout:
            drop = nn.functional.dropout(torch.ones_like(state[0]), self.recurrent_dropout)
        if self.zoneout:
            full = [(gx.shape[0] if self.training else 1, *s.shape) for s in state]
            zone = tuple(gx.new_full(shape, self.zoneout, dtype=dtype) for shape in full)
            if self.training:
                zone = tuple(torch.bernoulli(z) for z in zone)
        return Job(cell.plan(), gx, state, fresh, reset, lengths, drop, zone)

    def _recomputes(self) -> bool:
        if torch.compiler.is_compiling():  # which decides for itself what it keeps
            return False
        # transforms of torch.func know no checkpoints
        return self.recompute and torch.is_grad_enabled() and not kernels.is_transformed()

    def _map(self, state: Tensor | State, change: Callable[[Tensor], Tensor]) -> Tensor | State:
        return change(state) if isinstance(state, Tensor) else tuple(change(s) for s in state)

    def _stack(self, finals: list[State]) -> Tensor | State:
        stacked = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
        return stacked[0] if len(stacked) == 1 else stacked

    def _unstack(self, state: Tensor | State, batch: tuple[int, ...], space: torch.Size) -> list[State]:
        stacked = (state,) if isinstance(state, Tensor) else tuple(state)
        check_state(stacked, self.state_sizes, (len(self.cells), *batch), space)
        return list(zip(*(s.unbind(0) for s in stacked), strict=True))

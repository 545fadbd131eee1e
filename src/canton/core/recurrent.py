"""Recurrent layers: cells over time, with stacks, both directions, lengths, resets and streaming.

`loop` defines what a layer computes. The kernels of `canton.kernels` compute the same numbers faster.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypedDict, cast, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from typing_extensions import TypeVar, Unpack

from canton import kernels
from canton.core.cell import Cell, State, check_state, check_tensor, reject_torch_weights
from canton.core.checkpointing import checkpointed_segments, placeholder, project, segment_size
from canton.core.explain import Explanation, KernelChoice, choice, projected_dtype, shape_only, unpack_shape
from canton.core.masking import compaction, select, states_at_all_steps, take, valid_steps
from canton.core.packing import backward_reset, check_lengths, check_steps, flip, mask_padding, pack_like
from canton.kernels import Kernel, Result, Run

Device = torch.device | str | None


class SequenceOptions(TypedDict, total=False):
    """Keyword arguments of a call; `Recurrent.forward` documents them."""

    lengths: Tensor | Sequence[int] | None
    reset: Tensor | None
    reset_state: Tensor | State | None
    mask: Tensor | None


class Call(NamedTuple):
    """The checked arguments of a call; time is axis 0, the batch axis 1.

    Attributes:
        xs: the input.
        hx, reset_state: a state for every cell, or None.
        lengths, reset, mask: as in `Recurrent.forward`, or None; `mask` includes the lengths.
    """

    xs: Tensor
    hx: list[State] | None
    lengths: Tensor | None
    reset: Tensor | None
    reset_state: list[State] | None
    mask: Tensor | None

    def compacted(self) -> tuple[Call, Tensor | None]:
        """Return the call with the steps that `mask` counts first in every row, and where each step went."""
        if self.mask is None:
            return self, None
        order, inverse, lengths = compaction(self.mask)
        reset = None if self.reset is None else take(self.reset, order)
        return self._replace(xs=take(self.xs, order), lengths=lengths, reset=reset), inverse


StateT = TypeVar("StateT", bound=Tensor | State)
StateT_co = TypeVar("StateT_co", bound=Tensor | State, default=Tensor | State, covariant=True)
"""A layer's state: a tensor, or a tuple of tensors such as an LSTM's (h, c)."""


def loop(run: Run, cell: Cell) -> Result:
    """Run a cell step by step: the reference, differentiable to any order."""
    state, outputs = run.state, []
    others: list[State] = []
    space = (1,) * (run.gx.ndim - 3)
    for t, gx in enumerate(run.gx.unbind(0)):  # unbind, because gx[t] would make backward O(T^2)
        if run.reset is not None:
            reset = run.reset[t].view(-1, 1, *space)
            state = tuple(torch.where(reset, f, s) for f, s in zip(run.reset_state, state, strict=True))
        new_state = cell.advance(gx, state, run.dropout_mask)
        if run.zoneout_keep is not None:
            shares = (share[t if len(share) > 1 else 0] for share in run.zoneout_keep)
            new_state = tuple(
                share * old + (1 - share) * new
                for share, old, new in zip(shares, state, new_state, strict=True)
            )
        if run.lengths is not None:
            valid = (t < run.lengths).view(-1, 1, *space)
            outputs.append(torch.where(valid, new_state[0], torch.zeros_like(new_state[0])))
            state = tuple(torch.where(valid, new, old) for new, old in zip(new_state, state, strict=True))
        else:
            outputs.append(new_state[0])
            state = new_state
        if run.all_states:
            others.append(state[1:])
    return torch.stack(outputs), (*state, *map(torch.stack, zip(*others, strict=True)))


def detach(state: StateT) -> StateT:
    """Return the state without its autograd history, to truncate backpropagation through time."""
    return cast(StateT, _map_state(state, Tensor.detach))


class Recurrent(nn.Module, Generic[StateT_co]):
    """Cells over time, stacked, in one direction or both.

    `GRU`, `ConvLSTM2d` and the other layers are subclasses. With a cell of your own, write
    ``Recurrent(MyCell(8, 16))``.

    Args:
        cells: one per layer and direction: layer 0 forward, layer 0 backward (if bidirectional), layer 1 ...
        bidirectional: also run from the last step to the first, and join the outputs on the channel axis.
        batch_first: sequences are (B, T, ...) instead of (T, B, ...); states do not change, as in torch.nn.
        dropout: probability of dropping each output of every layer but the last, in training.
        recurrent_dropout: probability of dropping each unit of the state wherever a map reads it, in
            training. A unit is dropped at all steps of a sequence (Gal & Ghahramani 2016, arXiv:1512.05287).
        zoneout: probability that a unit of the state keeps its old value at a step, in training. In
            evaluation the old and the new value are mixed in that proportion (Krueger et al. 2017,
            arXiv:1606.01305).
        learn_initial_state: start from a learned state (one number per channel) instead of zeros.
        kernel: "auto" runs the fastest kernel that can run the call, "loop" the reference loop; another name
            runs that kernel or raises a ValueError. See `explain`.
        recompute: save memory in training: store only the inputs and about sqrt(T) states, and run forward
            again in backward (gradient checkpointing). Has no effect within transforms of torch.func.
        device: where the parameters are (default: torch's default device).
        dtype: type of the parameters (default: torch's default dtype).

    Shapes:
        input (T, B, input_size, *space), or integers (T, B) with a dense map; output (T, B, directions * C,
        *space); state (layers * directions, B, C, *space), for an LSTM a pair (h, c). With a dense map or a
        convolution the batch axis may be missing from all of them.

    Raises:
        ValueError: the cells do not fit together, or a probability is outside [0, 1).
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
        kernel: Kernel = "auto",
        recompute: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        cells = [cells] if isinstance(cells, Cell) else list(cells)
        self.directions = 2 if bidirectional else 1
        if not cells or len(cells) % self.directions:
            raise ValueError(f"cells must hold one cell per layer and direction, got {len(cells)}")
        for name, p in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout), ("zoneout", zoneout)):
            if not 0 <= p < 1:
                raise ValueError(f"{name} must be in [0, 1), got {p}")
        if dropout and len(cells) == self.directions:
            warnings.warn(
                f"dropout={dropout} has no effect with one layer: it applies between layers", stacklevel=2
            )
        sizes = cells[0].state_sizes
        for k, cell in enumerate(cells):
            expected = cells[0].input_size if k < self.directions else self.directions * sizes[0]
            if cell.state_sizes != sizes or cell.input_size != expected:
                raise ValueError(
                    f"cells[{k}] must have input_size {expected} and state_sizes {sizes}, "
                    f"got {cell.input_size} and {cell.state_sizes}"
                )
        self.cells = nn.ModuleList(cells)
        self.input_size, self.state_sizes = cells[0].input_size, sizes
        self.batch_first, self.dropout = batch_first, dropout
        self.recurrent_dropout, self.zoneout = recurrent_dropout, zoneout
        self.kernel, self.recompute = kernels.check_name(kernel), recompute
        count = len(cells) if learn_initial_state else 0
        self.initial = nn.ParameterList(torch.zeros(sum(sizes)) for _ in range(count))
        if device is not None or dtype is not None:
            self.to(device=device, dtype=dtype)

    def extra_repr(self) -> str:
        names = ("batch_first", "dropout", "recurrent_dropout", "zoneout", "kernel", "recompute")
        return f"directions={self.directions}, " + ", ".join(
            f"{name}={getattr(self, name)!r}" for name in names
        )

    @property
    def hidden_size(self) -> int:
        """Channels of the state."""
        return self._cells()[0].hidden_size

    @property
    def proj_size(self) -> int:
        """Channels of the projected output of an LSTM; 0 if there is no projection."""
        return self._cells()[0].proj_size

    @property
    def num_layers(self) -> int:
        """Number of layers in the stack."""
        return len(self.cells) // self.directions

    @property
    def bias(self) -> bool:
        """Whether the maps are affine."""
        return self._cells()[0].bias

    @property
    def bidirectional(self) -> bool:
        """Whether the layers run in both directions."""
        return self.directions == 2

    @property
    def mode(self) -> str:
        """The kind of the cells, such as "GRU", "LSTM" or "RNN_TANH"."""
        return self._cells()[0].mode

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters of every cell, in the order of `cells`."""
        return [list(cell.parameters()) for cell in self.cells]

    def flatten_parameters(self) -> None:
        """Do nothing; torch.nn's layers have this method for cuDNN."""

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise all parameters as the constructor does, for example after ``to_empty``."""
        for cell in self._cells():
            cell.reset_parameters()
        for state in self.initial:
            state.zero_()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        reject_torch_weights(state_dict, f"{prefix}weight_ih_l0")
        super()._load_from_state_dict(state_dict, prefix, *args)

    if TYPE_CHECKING:

        @overload
        def __call__(
            self,
            input: Tensor,
            hx: Tensor | State | None = None,
            *,
            return_all: Literal[False] = False,
            **options: Unpack[SequenceOptions],
        ) -> tuple[Tensor, StateT_co]: ...

        @overload
        def __call__(
            self,
            input: Tensor,
            hx: Tensor | State | None = None,
            *,
            return_all: Literal[True],
            **options: Unpack[SequenceOptions],
        ) -> tuple[Tensor, StateT_co, StateT_co]: ...

        @overload
        def __call__(
            self,
            input: PackedSequence,
            hx: Tensor | State | None = None,
            *,
            reset: Tensor | None = None,
            reset_state: Tensor | State | None = None,
        ) -> tuple[PackedSequence, StateT_co]: ...

        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | State | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        reset: Tensor | None = None,
        reset_state: Tensor | State | None = None,
        mask: Tensor | None = None,
        return_all: bool = False,
    ) -> tuple[Tensor | PackedSequence, StateT_co] | tuple[Tensor | PackedSequence, StateT_co, StateT_co]:
        """Run over a sequence.

        Args:
            input: the sequence (see Shapes), or a PackedSequence; the output is then one too.
            hx: the first state, as an earlier call returned it (default: zeros or the learned state).
            lengths: (B,) number of valid steps of each row, 0 to T. Later outputs are 0, later inputs are
                ignored.
            reset: (T, B) booleans, (B, T) if batch_first, (T,) if the input has no batch axis. Where true,
                the row's state is reset before the step.
            reset_state: the state after a reset, with the shapes of `hx` (default: zeros or the learned
                state).
            mask: booleans with the shape of `reset`, true where a step counts. A masked step is as if it were
                not in the sequence: the state stays, the output is 0, input and `reset` are ignored. The
                padding may be on the left or anywhere.
            return_all: also return the states of all layers after every step.

        Returns:
            The outputs of the last layer at all steps, and the state after the last step. With `return_all`
            also the states at all steps, in the form of the state and with one more axis: (layers *
            directions, T, B, C, *space), B before T if batch_first. In the backward direction the state at a
            step has read that step and the later ones.

        Raises:
            ValueError: a shape, length, device or dtype is wrong.
        """
        call, places = self._prepare_input(input, hx, lengths, reset, reset_state, mask).compacted()
        ys, new_state, states = self._run(call, return_all)
        ys = ys if places is None else take(ys, places)
        unbatched = isinstance(input, Tensor) and self._cells()[0].is_unbatched(input, lead=2)
        if unbatched:
            ys, new_state = ys.squeeze(1), _map_state(new_state, lambda s: s.squeeze(1))
            states = None if states is None else _map_state(states, lambda s: s.squeeze(2))
        elif isinstance(input, Tensor) and self.batch_first:
            ys = ys.transpose(0, 1)
            states = None if states is None else _map_state(states, lambda s: s.transpose(1, 2))
        outputs = pack_like(ys, input) if isinstance(input, PackedSequence) else ys
        if states is None:
            return outputs, self._as_state(new_state)
        return outputs, self._as_state(new_state), self._as_state(states)

    def step(
        self,
        input: Tensor,
        hx: Tensor | State | None = None,
        *,
        reset: Tensor | None = None,
        reset_state: Tensor | State | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, StateT_co]:
        """Run one step of a stream. The steps of a sequence give the same outputs as `forward`.

        Args:
            input: (B, input_size, *space), or integers (B,) with a dense map.
            hx: the last state (default: zeros or the learned state).
            reset: (B,) booleans. Where true, the row's state is reset before the step.
            reset_state: the state after a reset, with the shapes of `hx` (default: zeros or the learned
                state).
            mask: (B,) booleans, false where the row has no input: its state stays, its output is 0.

        Returns:
            The output (B, C, *space) and the next state.

        Raises:
            ValueError: the layer is bidirectional, or a shape, device or dtype is wrong.
        """
        if self.directions == 2:
            raise ValueError("bidirectional layers cannot step: the backward direction starts at the end")
        check_tensor(input)
        self._cells()[0].check_input(input, lead=1)
        batch, space = (input.shape[0],), input.shape[2:]
        masks = {"reset": reset, "mask": mask}
        reset, mask = (check_steps(name, m, batch, batch, input.device) for name, m in masks.items())
        states = None if hx is None else self._unstack("hx", hx, batch, space, input)
        resets = self._unstack_reset(reset, reset_state, batch, space, input)
        finals: list[State] = []
        x = input
        if mask is not None:  # a NaN in a masked row would reach the gradients
            (x,) = select(mask, (x,), (torch.zeros_like(x),))
        for k, cell in enumerate(self._cells()):
            if k and self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
            gx = project(cell, x.unsqueeze(0), self.kernel)
            run = self._make_run(k, cell, gx, states[k] if states else None, x, resets[k] if resets else None)
            before = run.state
            if reset is not None:
                before = select(reset, run.reset_state, run.state)
            ys, final = kernels.execute_step(
                run._replace(state=before), partial(loop, cell=cell), self.kernel
            )
            x = ys[0]
            if mask is not None:
                final, (x,) = select(mask, final, run.state), select(mask, (x,), (torch.zeros_like(x),))
            finals.append(final)
        return _separate(x), self._as_state(self._stack(finals))

    def explain(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | State | None = None,
        *,
        return_all: bool = False,
        **options: Unpack[SequenceOptions],
    ) -> Explanation:
        """Return, for every cell, why each kernel can or cannot run this call; compute nothing.

        The arguments are those of `forward`. Print the result to read it.
        """
        call = self._prepare_input(input, hx, **options, unpack=unpack_shape)
        xs, lengths, reset = call.xs, call.lengths, call.reset
        if call.mask is not None:
            lengths = call.mask.sum(0)
        steps, batch, space = len(xs), xs.shape[1], xs.shape[3:]
        if self._recomputes():
            steps = segment_size(steps)
            reset = None if reset is None else reset[:steps]
        choices: list[KernelChoice] = []
        for k, cell in enumerate(self._cells()):
            gx = shape_only(
                (steps, batch, cell.gates * cell.hidden_size, *space), xs, projected_dtype(cell, xs)
            )
            like = xs if xs.is_floating_point() else gx
            zeros = tuple(shape_only((batch, size, *space), like) for size in self.state_sizes)
            reset_state = call.reset_state[k] if call.reset_state else self._reset_state(k, zeros)
            state = call.hx[k] if call.hx else self._reset_state(k, zeros)
            mask = zeros[0] if self.training and self.recurrent_dropout else None
            zoneout = tuple(zero.unsqueeze(0) for zero in zeros) if self.zoneout else None
            run = Run(cell.spec(), gx, state, reset_state, reset, lengths, mask, zoneout, return_all)
            layer, direction = divmod(k, self.directions)
            choices.append(choice(layer, direction, self.kernel, kernels.explain(run)))
            if direction == self.directions - 1:
                channels = self.directions * self.state_sizes[0]
                dtype = torch.promote_types(gx.dtype, state[0].dtype)
                xs = shape_only((len(xs), batch, channels, *space), xs, dtype)
        return Explanation(choices)

    def which(self, input: Tensor | PackedSequence, hx: Tensor | State | None = None) -> str:
        """Return the name of the kernel that would run the first cell; see `explain`.

        Raises:
            ValueError: the layer's ``kernel`` names one that cannot run.
        """
        first = self.explain(input, hx)[0]
        if first.kernel is None:
            raise ValueError(f"kernel={self.kernel!r} cannot run this: {first.reasons[self.kernel]}")
        return first.kernel

    def _cells(self) -> list[Cell]:
        return [cell for cell in self.cells if isinstance(cell, Cell)]

    def _as_state(self, state: Tensor | State) -> StateT_co:
        return cast(StateT_co, state)  # the cells determine which of the two

    def _prepare_input(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | State | None,
        lengths: Tensor | Sequence[int] | None = None,
        reset: Tensor | None = None,
        reset_state: Tensor | State | None = None,
        mask: Tensor | None = None,
        *,
        unpack: Callable[[PackedSequence], tuple[Tensor, Tensor]] = pad_packed_sequence,
    ) -> Call:
        """Check the arguments of `forward` and return them as (T, B, ...)."""
        first, batch_first, unbatched = self._cells()[0], self.batch_first, False
        if isinstance(input, PackedSequence):
            for name, given in (("lengths", lengths), ("mask", mask)):
                if given is not None:
                    raise ValueError(
                        f"{name} must not be given with a PackedSequence, which has its own lengths"
                    )
            xs, lengths = unpack(input)
            first.check_input(xs, lead=2)
        else:
            check_tensor(input)
            xs, unbatched = input, first.is_unbatched(input, lead=2)
            if unbatched:
                batch_first, xs = False, xs.unsqueeze(1)
                hx = None if hx is None else _map_state(hx, lambda s: s.unsqueeze(1))
                if reset_state is not None:
                    reset_state = _map_state(reset_state, lambda s: s.unsqueeze(1))
            first.check_input(xs, lead=2)
            xs = xs.transpose(0, 1) if batch_first else xs
        steps, batch = xs.shape[:2]
        if steps < 1:
            raise ValueError(f"input must have at least one step, got the shape {tuple(xs.shape)}")
        shape = (steps,) if unbatched else (batch, steps) if batch_first else (steps, batch)
        masks = {"reset": reset, "mask": mask}
        reset, mask = (check_steps(name, m, shape, (steps, batch), xs.device) for name, m in masks.items())
        lengths = None if lengths is None else check_lengths(lengths, steps, batch, xs.device)
        if mask is not None and lengths is not None:
            mask = mask & valid_steps(steps, lengths)
        states = None if hx is None else self._unstack("hx", hx, (batch,), xs.shape[3:], xs)
        resets = self._unstack_reset(reset, reset_state, (batch,), xs.shape[3:], xs)
        return Call(xs, states, lengths, reset, resets, mask)

    def _unstack_reset(
        self,
        reset: Tensor | None,
        reset_state: Tensor | State | None,
        batch: tuple[int, ...],
        space: torch.Size,
        x: Tensor,
    ) -> list[State] | None:
        if reset_state is None:
            return None
        if reset is None:
            raise ValueError("reset_state has no effect without reset; pass reset too")
        return self._unstack("reset_state", reset_state, batch, space, x)

    def _run(self, call: Call, return_all: bool) -> tuple[Tensor, Tensor | State, Tensor | State | None]:
        xs, states, lengths, reset, resets, mask = call
        counts = mask if lengths is None or mask is not None else valid_steps(len(xs), lengths)
        if lengths is not None:  # padding is neither read nor reset: a NaN in it would reach the gradients
            xs, reset = mask_padding(xs, lengths), None if reset is None else mask_padding(reset, lengths)
        finals: list[State] = []
        all_states: list[State] = []
        cells, recompute = self._cells(), self._recomputes()
        for first in range(0, len(cells), self.directions):
            if first and self.dropout:
                xs = nn.functional.dropout(xs, self.dropout, self.training)
            outputs = []
            for k in range(first, first + self.directions):
                cell, backward = cells[k], k > first
                inputs, restarts = xs, reset
                if backward:
                    inputs = flip(xs, lengths)
                    restarts = None if reset is None else flip(backward_reset(reset), lengths)
                gx = placeholder(cell, inputs) if recompute else project(cell, inputs, self.kernel)
                state, restart_state = states[k] if states else None, resets[k] if resets else None
                run = self._make_run(k, cell, gx, state, xs, restart_state, restarts, lengths, return_all)
                execute = partial(kernels.execute, loop=partial(loop, cell=cell), kernel=self.kernel)
                if recompute:
                    ys, final = checkpointed_segments(cell, inputs, run, execute, self.kernel)
                else:
                    ys, final = execute(run)
                if return_all:
                    over_time = (ys, *final[len(run.state) :])
                    pairs = zip(over_time, run.state, strict=True)
                    all_states.append(
                        tuple(states_at_all_steps(s, start, counts, backward=backward) for s, start in pairs)
                    )
                outputs.append(flip(ys, lengths) if backward else ys)
                finals.append(final[: len(run.state)])
            xs = torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0]
        return _separate(xs), self._stack(finals), self._stack(all_states) if return_all else None

    def _make_run(
        self,
        k: int,
        cell: Cell,
        gx: Tensor,
        state: State | None,
        xs: Tensor,
        reset_state: State | None = None,
        reset: Tensor | None = None,
        lengths: Tensor | None = None,
        all_states: bool = False,
    ) -> Run:
        if state is None or reset_state is None:
            dtype = xs.dtype if xs.is_floating_point() else gx.dtype
            initial = self._reset_state(k, cell.zero_state(gx[0], dtype))
            state, reset_state = state or initial, reset_state or initial
        dropout_mask = zoneout_keep = None
        if self.training and self.recurrent_dropout:
            dropout_mask = nn.functional.dropout(torch.ones_like(state[0]), self.recurrent_dropout)
        if self.zoneout:
            full = [(gx.shape[0] if self.training else 1, *s.shape) for s in state]
            zoneout_keep = tuple(gx.new_full(shape, self.zoneout, dtype=dtype) for shape in full)
            if self.training:
                zoneout_keep = tuple(torch.bernoulli(z) for z in zoneout_keep)
        return Run(
            cell.spec(), gx, state, reset_state, reset, lengths, dropout_mask, zoneout_keep, all_states
        )

    def _reset_state(self, k: int, zeros: State) -> State:
        """Return the state that a row of cell `k` starts from, given `zeros` of its shape."""
        if not len(self.initial):
            return zeros
        parts = self.initial[k].split(self.state_sizes)
        space = (1,) * (zeros[0].ndim - 2)
        return tuple(p.view(-1, *space).expand_as(zero) for p, zero in zip(parts, zeros, strict=True))

    def _recomputes(self) -> bool:
        if torch.compiler.is_compiling():  # the compiler chooses what to store
            return False
        # transforms of torch.func do not support checkpointing
        return self.recompute and torch.is_grad_enabled() and not kernels.is_transformed()

    def _stack(self, finals: list[State]) -> Tensor | State:
        stacked = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
        return stacked[0] if len(stacked) == 1 else stacked

    def _unstack(
        self, name: str, hx: Tensor | State, batch: tuple[int, ...], space: torch.Size, x: Tensor
    ) -> list[State]:
        """Return the state of every cell from the argument `name`, checked for the input `x`."""
        stacked = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        check_state(name, stacked, self.state_sizes, (len(self.cells), *batch), space)
        self._cells()[0].check_state_type(name, stacked, x)
        return list(zip(*(s.unbind(0) for s in stacked), strict=True))


def _separate(ys: Tensor) -> Tensor:
    """Return a copy of `ys` if a backward pass may read it, so that a caller may change it in place."""
    return ys.clone() if ys.requires_grad else ys


def _map_state(state: Tensor | State, function: Callable[[Tensor], Tensor]) -> Tensor | State:
    return function(state) if isinstance(state, Tensor) else tuple(function(s) for s in state)

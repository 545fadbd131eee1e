"""Every C++ cell as one node of the autograd graph; the cell's spec says what it reads and saves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from canton.kernels.cpu import abi, layout
from canton.kernels.cpu.abi import RecurrentRun, empty
from canton.kernels.double_backward import differentiable_grads
from canton.kernels.spec import CellSpec, CppCell, Loop, Result, Run


def execute(run: Run, loop: Loop) -> Result:
    """Run `run`; `loop` is the reference loop, for gradients of gradients."""
    tensors = run.tensors()
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        ys, *final = _Recurrent.apply(run, loop, *tensors)  # type: ignore[no-untyped-call]
        return ys, tuple(final)
    axis = layout.channel_axis(_spec(run))
    _, states, _ = _forward(run, save=False)
    ys = layout.channels_first(states[0][1:], axis, 2)
    first = ys[-1] if run.lengths is None else layout.final(run, states[0], axis)
    final = (first, *(layout.final(run, s, axis) for s in states[1:]))
    if run.all_states:
        final += tuple(layout.channels_first(s[1:], axis, 2) for s in states[1:])
    return ys, final


def _spec(run: Run) -> CellSpec:
    assert run.spec is not None
    return run.spec


def _cell(run: Run) -> CppCell:
    cell = _spec(run).cpp
    assert isinstance(cell, CppCell)
    return cell


def _forward(run: Run, *, save: bool) -> tuple[RecurrentRun, list[Tensor], Tensor | None]:
    """Run forward.

    Returns:
        The sizes of the run; for each tensor of the state its values before, between and after the steps
        (T + 1, ...); what the steps saved. Behind a row's length state[0] is 0, as the output is. Where a row
        restarts, every tensor but the first holds the restart value.
    """
    spec, cell = _spec(run), _cell(run)
    axis = layout.channel_axis(spec)
    sizes = layout.sizes(spec, run.gx, run.state)
    gx = layout.channels_last(run.gx, axis, 2)
    states = []
    for state in run.state:
        start = state.movedim(1, -1) if axis else state
        states.append(empty(gx, len(gx) + 1, *start.shape))
        states[-1][0] = start
    shape = states[0].shape[1:]
    saved = empty(gx, len(gx), *shape[:-1], cell.saved * shape[-1]) if save and cell.saved else None
    abi.forward(
        cell,
        sizes,
        _weight_sizes(spec, run.state),
        spec.gate_blocks,
        gx=gx,
        weights=[weight.contiguous() for weight in spec.weights],
        states=states,
        saved=saved,
        reset_state=_reset_state(run, axis),
        **layout.masks(sizes, run),
    )
    return sizes, states, saved


def _weight_sizes(spec: CellSpec, state: Sequence[Tensor]) -> list[int]:
    """Return the number of elements of every weight, from the channels of the state."""
    shapes = spec.product_shapes(state[0].shape[1], state[-1].shape[1])
    return [out * into * math.prod(product.weight.shape[2:]) for product, out, into in shapes]


def _reset_state(run: Run, axis: bool) -> list[Tensor]:
    return [] if run.reset is None else [layout.channels_last(r, axis, 1) for r in run.reset_state]


class _Recurrent(torch.autograd.Function):
    """forward(run, loop, gx, *state, *reset_state, *weights) -> (ys, *state); the tensors are the run's."""

    @staticmethod
    def forward(ctx: Any, run: Run, loop: Loop, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.sizes, states, saved = _forward(run, save=True)
        ctx.spec, ctx.loop, ctx.states = run.spec, loop, len(run.state)
        ctx.save_for_backward(*tensors, *states, saved, run.reset, run.lengths)
        axis = layout.channel_axis(_spec(run))
        ys = layout.channels_first(states[0][1:], axis, 2)
        return ys, *(layout.final(run, s, axis) for s in states)

    @staticmethod
    def backward(ctx: Any, d_ys: Tensor, *d_final: Tensor) -> tuple[Tensor | None, ...]:
        n, axis = ctx.states, layout.channel_axis(ctx.spec)
        gx, *rest = ctx.saved_tensors  # unpack once: checkpointing forbids a second time
        tensors, states, (saved, reset, lengths) = rest[: -n - 3], rest[-n - 3 : -3], rest[-3:]
        state, reset_state, weights = tensors[:n], tensors[n : 2 * n], tensors[2 * n :]
        spec = ctx.spec.with_weights(weights)
        run = Run(spec, gx, tuple(state), tuple(reset_state), reset, lengths)
        needs = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            ys = layout.channels_first(states[0][1:], axis, 2)
            return None, None, *differentiable_grads(run, ctx.loop, ys, (d_ys, *d_final), needs)
        cell, hidden = _cell(run), states[0].shape[-1]
        shape = states[0].shape[1:]
        d_gx = empty(gx, len(gx), *shape[:-1], spec.gate_blocks * hidden) if axis else gx.new_empty(gx.shape)
        d_state = [layout.channels_last(d, axis, 1).clone() for d in d_final]
        d_reset = [] if reset is None else [torch.zeros_like(d) for d in d_state]
        states = [layout.before(run, states[0]), *(s[:-1] for s in states[1:])]
        stored = {k: empty(gx, *states[0].shape) for k in cell.stored_inputs}
        abi.backward(
            cell,
            ctx.sizes,
            _weight_sizes(spec, state),
            spec.gate_blocks,
            gx=layout.channels_last(gx, axis, 2) if cell.reads_gx else None,
            weights=[weight.contiguous() for weight in spec.weights],
            states=states,
            saved=saved,
            d_outputs=layout.channels_last(d_ys, axis, 2),
            d_states=d_state,
            d_gx=d_gx,
            product_inputs=[stored.get(k) for k in range(len(spec.products))],
            d_reset_state=d_reset,
            **layout.masks(ctx.sizes, run),
        )
        d_weights, first = list[Tensor | None](), 0
        for k, product in enumerate(spec.products):
            last = first + product.weight.shape[0]
            inputs = stored.get(k, states[0])
            need = needs[1 + 2 * n + k]
            d_weights.append(layout.weight_gradient(product, inputs, d_gx[..., first:last]) if need else None)
            first = last
        return (
            None,
            None,
            layout.channels_first(d_gx, axis, 2),
            *(layout.channels_first(d, axis, 1) for d in d_state),
            *(layout.channels_first(d, axis, 1) for d in d_reset),
            *[None] * (n - len(d_reset)),
            *d_weights,
        )

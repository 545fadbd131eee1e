"""What a kernel needs to know about a cell, and one run of a cell over a sequence.

A cell whose hidden half consists of ordinary products (``nn.Linear`` or ``nn.Conv*d``) describes itself by a
`CellSpec`. Any other cell (a map of the user's own, layer normalisation) has none and runs in the reference
loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor, nn
from torch.nn.modules import module as torch_module


class Dense(NamedTuple):
    """The product of (B, in) with ``weight`` (out, in), without bias."""

    weight: Tensor

    @property
    def in_channels(self) -> int:
        return self.weight.shape[1]


class Conv(NamedTuple):
    """A convolution of (B, in, *space) with ``weight`` (out, in / groups, *kernel), without bias.

    The stride is 1 and the output has the input's size. An even kernel pads one pixel more after than before,
    as ``padding="same"`` does in torch. With ``groups`` > 1 the output channels come group by group;
    `canton.maps.regroup` orders them gate by gate.
    """

    weight: Tensor
    dilation: tuple[int, ...]
    groups: int
    circular: bool

    @property
    def in_channels(self) -> int:
        return self.weight.shape[1] * self.groups


Product = Dense | Conv


@dataclass(frozen=True)
class CppCell:
    """A cell's C++ entry, see ``cpu/src/cells/``.

    Attributes:
        name: the name under which the C++ file registers the cell.
        saved: activations per unit and step that the forward pass saves for the backward pass.
        stored_inputs: the products whose input is not the hidden state; the backward pass stores that input
        for
            the gradient of the weight.
        reads_gx: whether the backward pass reads the projected input.
        masks: whether the cell takes ``reset`` and ``lengths``.
    """

    name: str
    saved: int
    stored_inputs: tuple[int, ...] = ()
    reads_gx: bool = False
    masks: bool = True


class Step:
    """One step of a cell and its derivative, see `canton.kernels.steps`.

    A *block* is `hidden` channels of a buffer.

    Attributes:
        hidden: channels of a gate.
        saved_blocks: blocks that a step saves for the backward pass.
        grad_blocks: blocks of pre-activations that have a gradient; those of gx come last.
    """

    hidden: int
    saved_blocks: int
    grad_blocks: int

    def begin_forward(self, gx: Tensor, saved: Tensor) -> None:
        """Prepare a forward pass over gx (T, B, G, *space).

        Args:
            gx: the projected input.
            saved: (T or 1, B, saved_blocks * hidden, *space), to be written by `step`.
        """
        raise NotImplementedError

    def step(self, t: int, state: Sequence[Tensor], hidden_in: Tensor, out: Sequence[Tensor]) -> None:
        """Write the state after step `t` to `out`; the maps read `hidden_in` in place of state[0]."""
        raise NotImplementedError

    def begin_backward(self, saved: Tensor, d: Tensor) -> None:
        """Prepare a backward pass that writes the pre-activations' gradients to `d`.

        Args:
            saved: what the forward pass saved.
            d: (T, B, grad_blocks * hidden, *space).
        """
        raise NotImplementedError

    def precompute(self, lo: int, hi: int, state: Sequence[Tensor], hidden_in: Tensor) -> None:
        """Compute the derivatives of steps lo to hi that do not depend on the incoming gradient.

        Args:
            lo, hi: the first step, and the one after the last.
            state: the state before each step, (hi - lo, B, C, *space) each.
            hidden_in: what the maps read, (hi - lo, B, C, *space).
        """
        raise NotImplementedError

    def backward(self, t: int, grads: Sequence[Tensor], into: Tensor) -> None:
        """Turn the gradients of the state after step `t`, in place, into those of the state before it.

        The gradient of ``hidden_in`` is added to `into`, which may be grads[0] itself.
        """
        raise NotImplementedError

    def accumulate(self, lo: int, hi: int, state: Sequence[Tensor]) -> None:
        """Add steps lo to hi to the gradients of weights that are not products. The default adds nothing."""

    def weight_grads(self, hidden_in: list[Tensor]) -> list[Tensor]:
        """Return the gradients of the spec's weights in its order; `hidden_in` is all steps, in pieces."""
        raise NotImplementedError


class LinearRecurrence(Protocol):
    """A cell h' = (1 - z) h + z c whose z and c depend on the projected input alone."""

    def forward(self, gx: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and c (T, B, C, *space) of gx (T, B, G, *space)."""

    def backward(self, gx: Tensor, z: Tensor, c: Tensor, d_z: Tensor, d_c: Tensor) -> Tensor:
        """Return the gradient of gx from those of z and c."""


Spec = TypeVar("Spec", bound="CellSpec")


@dataclass(frozen=True, eq=False)
class CellSpec:
    """What a kernel needs to know about one cell.

    A subclass is a frozen dataclass whose fields are the cell's products, its other weights and its flags. It
    lives beside the cell.
    """

    @property
    def gate_blocks(self) -> int:
        """Number of blocks of hidden_size channels in the projected input."""
        raise NotImplementedError

    @property
    def state_count(self) -> int:
        """Number of tensors in the state."""
        return 1

    def product_shapes(self, output: int, hidden: int) -> Sequence[tuple[Product, int, int]]:
        """Return each product with its output and input channels.

        Args:
            output: channels of the output, state[0].
            hidden: channels of a gate.
        """
        return ()

    def step(self, rows: int) -> Step:
        """Return the manual step for batches of `rows`; see `has_step`."""
        raise NotImplementedError

    @property
    def has_step(self) -> bool:
        """Whether the cell has a manual step."""
        return type(self).step is not CellSpec.step

    @property
    def cpp(self) -> CppCell | str:
        """The C++ entry, or why there is none."""
        return "no C++ kernel is written for this cell"

    @property
    def triton(self) -> TritonKernel | None:
        """The function that runs the cell by a Triton kernel; None if there is none."""
        return None

    @property
    def linear_recurrence(self) -> LinearRecurrence | None:
        """The cell as a linear recurrence; None if its gates read the state."""
        return None

    @cached_property
    def products(self) -> list[Product]:
        """The products in the order of the fields."""
        return [part for part in self._parts if isinstance(part, (Dense, Conv))]

    @cached_property
    def weights(self) -> list[Tensor]:
        """The weights, products' and others, in the order of the fields."""
        parts = [part.weight if isinstance(part, (Dense, Conv)) else part for part in self._parts]
        return [part for part in parts if isinstance(part, Tensor)]

    def with_weights(self: Spec, weights: Sequence[Tensor]) -> Spec:
        """Return the same spec with other weights, in the order of `weights`."""
        rest, changed = iter(weights), dict[str, Any]()
        for field, part in zip(fields(self), self._parts, strict=True):
            if isinstance(part, (Dense, Conv)):
                changed[field.name] = part._replace(weight=next(rest))
            elif isinstance(part, Tensor):
                changed[field.name] = next(rest)
        return replace(self, **changed)

    def check_shapes(self, gx: Tensor, state: tuple[Tensor, ...]) -> str | None:
        """Return a shape error, or None. Kernels that use addresses would read out of bounds.

        Args:
            gx: the projected input (T, B, G, *space).
            state: the state before the first step.
        """
        if len(state) != self.state_count:
            return f"the state must have {self.state_count} tensors, got {len(state)}"
        output, hidden = state[0].shape[1], state[-1].shape[1]
        if gx.shape[2] != self.gate_blocks * hidden:
            return f"the projected input must have {self.gate_blocks * hidden} channels, got {gx.shape[2]}"
        for product, *wanted in self.product_shapes(output, hidden):
            found = [product.weight.shape[0], product.in_channels]
            if found != wanted:
                return f"a weight must have {wanted} output and input channels, got {found}"
        return None

    @cached_property
    def _parts(self) -> list[Any]:
        return [getattr(self, name) for name in type(self).__dataclass_fields__]


class Run(NamedTuple):
    """One run of a cell over a sequence, as the layer passes it to the reference loop and to every kernel.

    Attributes:
        spec: the cell's spec; None if it has none.
        gx: the projected input (T, B, G, *space), bias and input normalisation included; T >= 1.
        state: the state before the first step, each tensor (B, C, *space).
        reset_state: the state a row restarts from, shaped like `state`.
        reset: (T, B) bool or None; where true, the row's state becomes `reset_state` before the step.
        lengths: (B,) integers in 0..T or None; behind a row's length its state stays and its output is 0.
        dropout_mask: (B, C, *space) or None; multiplies the output part of the state wherever a map reads it.
        zoneout_keep: for each tensor of the state the share of the old value that stays, broadcastable to
            (T, B, C, *space); None for no zoneout.
        all_states: return the tensors of the state but the first at all steps too, see `Result`.
    """

    spec: CellSpec | None
    gx: Tensor
    state: tuple[Tensor, ...]
    reset_state: tuple[Tensor, ...]
    reset: Tensor | None = None
    lengths: Tensor | None = None
    dropout_mask: Tensor | None = None
    zoneout_keep: tuple[Tensor, ...] | None = None
    all_states: bool = False

    def tensors(self) -> list[Tensor]:
        """Return every tensor that may have a gradient: gx, state, reset_state and the spec's weights."""
        weights = [] if self.spec is None else self.spec.weights
        return [self.gx, *self.state, *self.reset_state, *weights]


Result = tuple[Tensor, tuple[Tensor, ...]]
"""The outputs (T, B, C, *space) and the state after the last step.

With `Run.all_states` every tensor of the state but the first follows at all steps, (T, B, C, *space) each.
After a row's length those numbers have no meaning.
"""

Loop = Callable[[Run], Result]
"""The reference loop of one cell."""

TritonKernel = Callable[[Run, Loop], Result]
"""A function that runs a run on the GPU; the loop is for gradients of gradients."""


def has_hooks(module: nn.Module) -> bool:
    """Return whether a call of the module does more than its class's forward.

    It does if the module has hooks or a forward of its own, or if a global hook is set.

    `torch.nn.utils.weight_norm`, `spectral_norm` and `prune` compute the weight in such a hook.
    """
    own = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    if own or module._backward_pre_hooks or "forward" in module.__dict__:
        return True
    return bool(torch_module._has_any_global_hook())


def product(module: nn.Module, *, biased: bool = False) -> Product | None:
    """Return the product that `module` computes, without its bias; None if a kernel cannot know it.

    Args:
        module: the hidden half of a map, or a part of it.
        biased: whether the cell's spec carries the bias; else a bias gives None.
    """
    if getattr(module, "bias", None) is not None and not biased:
        return None  # a user's map may have a bias although none was asked for
    if has_hooks(module):
        return None
    if type(module) is nn.Linear:
        return Dense(module.weight)
    if type(module) in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        assert isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        plain = module.padding == "same" and set(module.stride) == {1}
        if plain and module.padding_mode in ("zeros", "circular"):
            return Conv(module.weight, module.dilation, module.groups, module.padding_mode == "circular")
    return None

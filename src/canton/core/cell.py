"""The base class of all cells: one time step, split into an input half and a hidden half.

`Cell.project` computes the input half. It does not depend on the state, so a layer calls it once for all time
steps. `Cell.advance` computes the hidden half and the gates. Calling a cell runs one step, with the arguments
and results of torch.nn's cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from canton import kernels, maps
from canton.core.norms import GateNorm
from canton.maps import Map, dense

State = tuple[Tensor, ...]

_DENSE_OR_CONV = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _look_up(dense: nn.Linear, index: Tensor) -> Tensor:
    """Return the product with the one-hot vectors of `index` (N,), plus the bias.

    Raises:
        IndexError: an index is out of range; on the CPU only, a GPU stops with an assertion.
    """
    try:
        return _embed(dense, index)
    except (IndexError, RuntimeError):
        if index.device.type == "cpu" and index.numel():
            low, high = int(index.min()), int(index.max())
            if low < 0 or high >= dense.in_features:
                raise IndexError(
                    f"input must hold integers in 0..{dense.in_features - 1}, got {low}..{high}"
                ) from None
        raise


def _embed(dense: nn.Linear, index: Tensor) -> Tensor:
    weight: Tensor = dense.weight
    bias: Tensor | None = dense.bias
    if type(dense).forward is not nn.Linear.forward or kernels.has_hooks(dense):  # the module must be called
        rows = nn.functional.one_hot(index.long(), dense.in_features)
        called: Tensor = dense(rows.to(weight.dtype))
        return called
    if len(index) < weight.shape[1]:
        rows = nn.functional.embedding(index, weight.t())
        return rows if bias is None else rows + bias
    table = weight.t().contiguous()  # for many indices, transpose and add the bias once
    return nn.functional.embedding(index, table if bias is None else table + bias)


class Cell(nn.Module):
    """One time step of a gated recurrence. A subclass defines `advance`.

    Args:
        input_size: channels of the input.
        hidden_size: channels of every gate.
        gates: number of gates that the input half feeds.
        state_sizes: channels of each tensor of the state; the first one is the cell's output.
        map, bias, layer_norm: see `GRUCell`.

    Attributes:
        input_map: the input half, a module from input_size to gates * hidden_size channels.
        mode: the kind of the cell, such as "GRU" or "RNN_TANH".
    """

    proj_size: int = 0

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        gates: int,
        state_sizes: tuple[int, ...],
        map: Map = dense,
        bias: bool = True,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        check_size("input_size", input_size)
        check_size("hidden_size", hidden_size)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.gates, self.state_sizes = gates, state_sizes
        maps.check_map(map)
        self.input_map = map(input_size, gates * hidden_size, bias)
        maps.init_input_(self.input_map, gates)
        if hidden_size % (groups := maps.groups_of(self.input_map)):
            raise ValueError(f"hidden_size must be divisible by the map's {groups} groups, got {hidden_size}")
        self.input_norm = GateNorm(gates, hidden_size) if layer_norm else None

    @property
    def spatial_dims(self) -> int | None:
        """The number of spatial axes: 0 for a dense map, None for an unknown kind of map."""
        weight = getattr(self.input_map, "weight", None)
        if isinstance(self.input_map, _DENSE_OR_CONV) and weight is not None:
            return int(weight.ndim) - 2
        return None

    def project(self, x: Tensor, *, fast: bool = False) -> Tensor:
        """Compute the input half of a step.

        Args:
            x: (N, input_size, *space); or integers (N,) with a dense map, each the index of a one-hot vector.
            fast: allow a compiled kernel for the convolution or product.

        Returns:
            (N, gates * hidden_size, *space).
        """
        if x.is_floating_point():
            y = kernels.apply(self.input_map, x) if fast else self.input_map(x)
            gx = maps.regroup(y, self.gates, maps.groups_of(self.input_map))
        else:
            if not isinstance(self.input_map, nn.Linear):
                raise ValueError(f"input must be floating point unless the map is dense, got {x.dtype}")
            gx = _look_up(self.input_map, x if x.dtype in (torch.int32, torch.int64) else x.int())
        return gx if self.input_norm is None else self.input_norm(gx)

    def advance(self, gx: Tensor, state: State, dropout_mask: Tensor | None = None) -> State:
        """Return the next state from the hidden half and the gates.

        Args:
            gx: the projected input (B, gates * hidden_size, *space).
            state: the last state, tensors (B, size, *space) for each of state_sizes.
            dropout_mask: if given, multiplies the output part of the state where a map reads it, and only
                there (variational dropout, Gal & Ghahramani 2016, arXiv:1512.05287).
        """
        raise NotImplementedError

    def spec(self) -> kernels.CellSpec | None:
        """Return what a kernel needs to run this cell; None if only the reference loop can run it."""
        return None

    def zero_state(self, gx: Tensor, dtype: torch.dtype) -> State:
        """Return a state of zeros for a projected input (B, gates * hidden_size, *space)."""
        return tuple(
            gx.new_zeros((gx.shape[0], size, *gx.shape[2:]), dtype=dtype) for size in self.state_sizes
        )

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"

    @property
    def mode(self) -> str:
        """The kind of the cell, such as "GRU"."""
        return type(self).__name__.removesuffix("Cell")

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise all parameters as the constructor does, for example after ``to_empty``.

        With the same random seed and the default dtype the values equal the constructor's. A cell with
        parameters outside its modules must extend this method.
        """
        for module in self.children():
            maps.reset_parameters(module)
            if module is self.input_map:
                maps.init_input_(module, self.gates)
            elif isinstance(gates := getattr(module, "hidden_gates", None), int):
                maps.init_hidden_(module, gates)

    def forward(
        self,
        input: Float[Tensor, "batch c_in *space"] | Integer[Tensor, " batch"],
        hx: Tensor | State | None = None,
    ) -> Tensor | State:
        """Run one step, as torch.nn's cells do.

        Args:
            input: (B, input_size, *space), or integers (B,) with a dense map.
            hx: the last state (default: zeros).

        Returns:
            The next state: a tensor, or a tuple if the cell has several. With a dense map or a convolution
            the batch axis may be missing from input, state and result.

        Raises:
            ValueError: the input or the state has a wrong shape.
        """
        check_tensor(input)
        if self.is_unbatched(input, lead=1):
            parts = (hx,) if isinstance(hx, Tensor) else hx
            one = self(input.unsqueeze(0), None if parts is None else tuple(s.unsqueeze(0) for s in parts))
            return one.squeeze(0) if isinstance(one, Tensor) else tuple(s.squeeze(0) for s in one)
        self.check_input(input, lead=1)
        gx = self.project(input)
        dtype = input.dtype if input.is_floating_point() else gx.dtype
        if hx is None:
            state = self.zero_state(gx, dtype)
        else:
            state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        check_state("hx", state, self.state_sizes, (gx.shape[0],), gx.shape[2:])
        self.check_state_type("hx", state, input)
        new_state = self.advance(gx, state)
        return new_state[0] if len(new_state) == 1 else new_state

    def is_unbatched(self, x: Tensor, *, lead: int) -> bool:
        """Return whether the batch axis is missing from `x`; False if `spatial_dims` is None.

        `lead` is the number of axes before the channels, batch included: 1 for a step, 2 for a sequence.
        """
        if not x.is_floating_point():
            return x.ndim == lead - 1
        return self.spatial_dims is not None and x.ndim == lead + self.spatial_dims

    def check_input(self, x: Tensor, *, lead: int) -> None:
        """Raise a ValueError unless `x` has `lead` axes and then channels and space, or holds integers."""
        shape = tuple(x.shape)
        if not x.is_floating_point():
            if x.ndim != lead or x.is_complex() or x.dtype == torch.bool:
                raise ValueError(f"input must be floats, or integers with {lead} axes, got {shape} {x.dtype}")
            return
        spatial_dims = self.spatial_dims
        if spatial_dims is not None and x.ndim != lead + 1 + spatial_dims:
            raise ValueError(f"input must have {lead + 1 + spatial_dims} axes, got the shape {shape}")
        if x.ndim <= lead or x.shape[lead] != self.input_size:
            expected, hint = f"input_size = {self.input_size} channels on axis {lead}", ""
            if x.ndim > lead + 1 and x.shape[-1] == self.input_size:
                hint = f", which looks channels-last: use input.movedim(-1, {lead})"
            raise ValueError(f"input must have {expected}, got the shape {shape}{hint}")
        if spatial_dims is not None and x.dtype != self.input_map.weight.dtype:
            self._check_dtype(x)

    def _check_dtype(self, x: Tensor) -> None:
        module = self.input_map
        if type(module) not in _DENSE_OR_CONV or kernels.has_hooks(module):
            return  # it may convert its input
        dtype = module.weight.dtype
        if not _is_cast(x, dtype):
            raise ValueError(
                f"input must have the weights' dtype {dtype}, got {x.dtype}; "
                f"use input.to({dtype}) or layer.to({x.dtype})"
            )

    def check_state_type(self, name: str, state: State, x: Tensor) -> None:
        """Raise a ValueError unless `state` has the input's device and, without autocast, its dtype."""
        module = self.input_map
        own = type(module) in _DENSE_OR_CONV and not kernels.has_hooks(module)  # another may convert
        dtype = x.dtype if x.is_floating_point() or not own else module.weight.dtype
        for part in state:
            if part.device != x.device:
                raise ValueError(f"{name} must be on the input's device {x.device}, got {part.device}")
            if not part.is_floating_point() or (own and part.dtype != dtype and not _is_cast(part, dtype)):
                raise ValueError(
                    f"{name} must have the dtype {dtype}, got {part.dtype}; use {name}.to({dtype})"
                )

    def _hidden(self, map: Map, c_in: int, gates: int, bias: bool = False) -> nn.Module:
        module = map(c_in, gates * self.hidden_size, bias)
        maps.init_hidden_(module, gates)
        module.hidden_gates = gates  # type: ignore[assignment]  # for reset_parameters
        return module

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        reject_torch_weights(state_dict, f"{prefix}weight_ih")
        super()._load_from_state_dict(state_dict, prefix, *args)


def _is_cast(x: Tensor, dtype: object) -> bool:
    """Return whether autocast brings `x` and weights of `dtype` together; it leaves float64 alone."""
    return torch.is_autocast_enabled(x.device.type) and torch.float64 not in (x.dtype, dtype)


def check_size(name: str, size: int) -> None:
    """Raise an error unless `size` is an integer >= 1."""
    if not hasattr(size, "__index__"):
        raise TypeError(f"{name} must be an int, got {size!r}")
    if size < 1:
        raise ValueError(f"{name} must be >= 1, got {size}")


def check_tensor(x: object) -> None:
    """Raise a TypeError unless `x` is a plain tensor."""
    if not isinstance(x, Tensor):
        kind, function = type(x), "from_numpy" if type(x).__module__ == "numpy" else "tensor"
        name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
        raise TypeError(f"input must be a torch.Tensor, got {name}; use torch.{function}")
    if x.is_nested:
        raise TypeError(
            "input must not be a nested tensor; pass a padded tensor with lengths=, or a PackedSequence"
        )


def reject_torch_weights(state_dict: Mapping[str, Any], key: str) -> None:
    """Raise a RuntimeError if `state_dict` has the `key` of a torch.nn recurrent layer."""
    if key in state_dict:
        raise RuntimeError(
            f"state_dict is from torch.nn (it has {key}); convert the torch.nn layer with "
            "canton.interop.torch_nn.from_torch"
        )


def check_state(
    name: str, state: State, sizes: tuple[int, ...], lead: tuple[int, ...], space: torch.Size
) -> None:
    """Raise an error unless `state` is one tensor (*lead, size, *space) for each of `sizes`.

    Raises:
        TypeError: a part of the state is no tensor.
        ValueError: there are more or fewer tensors, or one has another shape.
    """
    if wrong := [part for part in state if not isinstance(part, Tensor)]:
        raise TypeError(f"{name} must be a tensor or a tuple of tensors, got {type(wrong[0]).__name__}")
    expected = [(*lead, size, *space) for size in sizes]
    actual = [tuple(s.shape) for s in state]
    if actual != expected:
        raise ValueError(f"{name} must have the shapes {expected} for this input, got {actual}")


def apply_norm(norm: GateNorm | None, a: Tensor) -> Tensor:
    """Return `a`, normalised if there is a norm."""
    return a if norm is None else norm(a)


def apply_mask(h: Tensor, mask: Tensor | None) -> Tensor:
    """Return `h` times the dropout mask, if there is one."""
    return h if mask is None else h * mask


def bias_of(module: nn.Module) -> Tensor | None:
    """Return the module's bias, or None."""
    bias = getattr(module, "bias", None)
    return bias if isinstance(bias, Tensor) else None

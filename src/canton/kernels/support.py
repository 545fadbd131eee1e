"""The conditions that all kernels share, and those that several do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from canton.kernels.spec import Run, has_hooks

_PLAIN = (Tensor, nn.Parameter)

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def unsupported_reason(run: Run) -> str | None:
    """Return why no kernel can run `run`; None if one may.

    To ask about shapes alone, pass a gx of one number expanded to the right shape.
    """
    if reason := traced_reason():
        return reason
    if run.gx.is_meta:
        return "a tensor on the meta device has no values"
    if run.spec is None:
        return "the cell has no kernel spec (it has a map of its own, hooks or layer normalisation)"
    if reason := run.spec.check_shapes(run.gx, run.state):
        return reason
    if reason := subclass_reason((*run.tensors(), run.reset, run.lengths)):
        return reason
    if is_transformed(run.tensors()):
        return "a torch.func transform or forward-mode differentiation is active"
    return None


def module_unsupported_reason(module: nn.Module, tensors: Iterable[Tensor | None]) -> str | None:
    """Return why no C++ kernel can replace ``module(x)``; None if one may.

    Args:
        module: the module, an instance of a class of torch.
        tensors: x and the module's parameters.
    """
    present = [t for t in tensors if t is not None]
    if reason := subclass_reason(present):
        return reason
    if any(t.device.type != "cpu" or t.dtype != torch.float32 for t in present):
        return "it runs on the CPU in float32 only"
    if has_hooks(module) or torch.is_autocast_enabled("cpu"):
        return "the module has hooks, or autocast is on"
    if any(t.is_neg() for t in present):
        return "a tensor is a view that negates its numbers"
    if is_transformed(present):
        return "a torch.func transform or forward-mode differentiation is active"
    return None


def is_plain(tensor: Tensor) -> bool:
    """Return whether `tensor` is of torch's own class, whose numbers lie where its address says.

    Subclasses may hold theirs elsewhere, as quantised weights (torchao), DTensor and FakeTensor do.
    """
    return type(tensor) in _PLAIN


def subclass_reason(tensors: Iterable[Tensor | None]) -> str | None:
    """Return why no kernel can run on `tensors` if one is of a subclass of Tensor; None if none is."""
    for tensor in tensors:
        if tensor is not None and not is_plain(tensor):
            return f"a tensor is of the subclass {type(tensor).__name__}, which only its own operations read"
    return None


def traced_reason() -> str | None:
    """Return why no kernel can run while torch records operations; None if it does not.

    Ask this first: torch.compile cannot trace the other questions.
    """
    if torch.compiler.is_compiling():
        return "the graph is being compiled or exported"
    if torch._C._get_tracing_state() is not None:
        return "torch.jit.trace cannot record a kernel"
    return None


def is_transformed(tensors: Iterable[Tensor] = ()) -> bool:
    """Return whether a torch.func transform is active, or forward-mode differentiation on one of
    `tensors`.
    """
    return torch._C._functorch.peek_interpreter_stack() is not None or any(
        torch.autograd.forward_ad.unpack_dual(t).tangent is not None for t in tensors
    )


def eager_reason(run: Run, tensors: Sequence[Tensor]) -> str | None:
    """Return why a kernel made of torch operations cannot run `run`; None if it can.

    Args:
        run: the run.
        tensors: those that must have one floating dtype and one device.
    """
    if any(torch.is_autocast_enabled(t.device.type) for t in tensors):
        return "autocast is on, which only the reference loop follows"
    dtypes = {t.dtype for t in tensors}
    if len(dtypes) > 1 or not dtypes <= set(FLOATS):
        return f"all tensors must have one floating dtype, got {', '.join(sorted(map(str, dtypes)))}"
    if len({t.device for t in tensors}) > 1:
        return "all tensors must be on one device"
    if any(m is not None and m.requires_grad for m in (run.dropout_mask, *(run.zoneout_keep or ()))):
        return "a mask requires a gradient"
    return None

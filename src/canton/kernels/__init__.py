"""The one door to the faster ways of running a cell over a sequence.

A kernel is a module with two functions: ``refuses(job) -> str | None``, the reason why it cannot run the job
(None: it can), and ``run(job, loop) -> Result``, where `loop` is the readable loop, for gradients of
gradients. The door tries them in order of speed; what none of them takes, the readable loop runs. Asked for
by name, a kernel that cannot run is an error: nothing falls back in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor, nn

from canton.kernels import associative_scan, cpu, cuda_graphs, steps
from canton.kernels.cpu import conv2d, linear
from canton.kernels.spec import (
    LSTM,
    MGU,
    RNN,
    Conv,
    Dense,
    GRUAfter,
    GRUBefore,
    Job,
    MinGRU,
    Plan,
    Product,
    Result,
    is_transformed,
    is_watched,
    misfit,
    product,
    tensors,
)
from canton.kernels.triton import gru as triton_gru

__all__ = [
    "LSTM",
    "MGU",
    "NAMES",
    "RNN",
    "Conv",
    "Dense",
    "GRUAfter",
    "GRUBefore",
    "Job",
    "MinGRU",
    "Plan",
    "Product",
    "Result",
    "apply",
    "check_name",
    "choose",
    "explain",
    "is_transformed",
    "is_watched",
    "product",
    "run",
    "run_step",
    "stage",
]

Loop = Callable[[Job], Result]

_KERNELS: dict[str, ModuleType] = {
    "triton": triton_gru,
    "native": cpu,
    "graphs": cuda_graphs,
    "scan": associative_scan,
    "fused": steps,
}
"""Fastest first."""

NAMES = ("auto", "loop", *_KERNELS)
"""What ``kernel=`` may be."""


def check_name(kernel: str) -> str:
    """`kernel` if it is one of `NAMES`.

    Raises:
        ValueError: it is not.
    """
    if kernel not in NAMES:
        raise ValueError(f"kernel is {kernel!r}: it is one of {', '.join(NAMES)}")
    return kernel


def _refuses(name: str, job: Job) -> str | None:
    if torch.compiler.is_compiling():
        return "the graph is being compiled or exported"
    if torch._C._get_tracing_state() is not None:
        return "torch.jit.trace records operations, and sees none inside a kernel"
    if is_transformed():
        return "a torch.func transform is at work"
    if job.gx.is_meta:
        return "a tensor on the meta device has no values"
    if job.plan is None:
        return "the cell has a step that no kernel knows (a map of its own, or layer normalisation)"
    if misfit(job.plan, job.gx, job.state):
        return "the shapes of the weights do not fit"
    seen = (job.gx, *job.state, *job.fresh, *tensors(job.plan))
    if any(torch.autograd.forward_ad.unpack_dual(t).tangent is not None for t in seen):
        return "forward-mode differentiation is at work"
    reason: str | None = _KERNELS[name].refuses(job)
    return reason


def explain(job: Job) -> dict[str, str | None]:
    """For every kernel, fastest first, why it would refuse `job`; None where it would run it."""
    return {name: _refuses(name, job) for name in _KERNELS}


def choose(job: Job, kernel: str) -> str:
    """The name of what will run `job`: the first kernel that does not refuse, else "loop".

    Raises:
        ValueError: `kernel` names one that cannot run the job.
    """
    if kernel == "auto":
        return next((name for name in _KERNELS if _refuses(name, job) is None), "loop")
    if kernel != "loop" and (reason := _refuses(kernel, job)):
        raise ValueError(f"kernel is {kernel!r}, which cannot run this: {reason}; use kernel='auto'")
    return kernel


def run(job: Job, loop: Loop, kernel: str = "auto") -> Result:
    """Run `job` by `kernel`; see `choose`."""
    name = choose(job, kernel)
    if name == "loop":
        return loop(job)
    result: Result = _KERNELS[name].run(job, loop)
    return result


def run_step(job: Job, loop: Loop, kernel: str = "auto") -> Result:
    """Run a `job` of one step: natively where that is quicker than the loop, see `native.quick`.

    Raises:
        ValueError: `kernel` names one that cannot run the job.
    """
    if kernel not in ("auto", "loop"):
        choose(job, kernel)  # for one step the loop is as quick as the others
    if kernel in ("auto", "native") and _refuses("native", job) is None and cpu.quick(job):
        return cpu.run(job, loop)
    return loop(job)


def apply(module: nn.Module, x: Tensor) -> Tensor:
    """What ``module(x)`` gives, by a native product or convolution where that is quicker."""
    if linear.refuses(module, x) is None:
        assert isinstance(module, nn.Linear)
        return linear.linear(module, x)
    if conv2d.refuses(module, x) is None:
        assert isinstance(module, nn.Conv2d)
        return conv2d.convolution(module, x)
    y: Tensor = module(x)
    return y


def stage(conv: nn.Module, x: Tensor, *, halve: bool, slope: float) -> Tensor:
    """A stage of an image network: ``leaky_relu(max_pool2d(conv(x), 2), slope)``.

    The maximum, there if `halve` is true, comes before the rectifier: the same numbers for a quarter of the
    work. Where no gradient is asked for, the native convolution does all three in one pass.
    """
    if not torch.is_grad_enabled() and conv2d.refuses(conv, x, whole_stage=True) is None:
        assert isinstance(conv, nn.Conv2d)
        return conv2d.stage(conv, x, halve=halve, slope=slope)
    y = apply(conv, x)
    return nn.functional.leaky_relu(nn.functional.max_pool2d(y, 2) if halve else y, slope)

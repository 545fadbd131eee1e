"""Dispatch to the kernels, the fast ways to run a cell over a sequence.

A kernel is a module with ``unsupported_reason(run)`` and ``execute(run, loop)``. ``kernel="auto"`` takes the
fastest kernel that supports the run, else the reference loop. A kernel selected by name runs or raises.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from torch import Tensor, nn

from canton.kernels import associative_scan, cpu, cuda_graphs, steps, support, triton
from canton.kernels.cpu import conv2d, linear
from canton.kernels.spec import (
    CellSpec,
    Conv,
    CppCell,
    Dense,
    LinearRecurrence,
    Loop,
    Product,
    Result,
    Run,
    Step,
    TritonKernel,
    has_hooks,
    product,
)
from canton.kernels.support import is_transformed

__all__ = [
    "NAMES",
    "CellSpec",
    "Conv",
    "CppCell",
    "Dense",
    "Kernel",
    "LinearRecurrence",
    "Loop",
    "Product",
    "Result",
    "Run",
    "Step",
    "TritonKernel",
    "apply",
    "check_name",
    "choose",
    "execute",
    "execute_step",
    "explain",
    "has_hooks",
    "is_transformed",
    "product",
]

Kernel = Literal["auto", "loop", "triton", "cpp", "cuda_graphs", "associative_scan", "manual"]
"""Valid values of ``kernel=``."""

NAMES: tuple[Kernel, ...] = get_args(Kernel)


class _Module(Protocol):
    def unsupported_reason(self, run: Run) -> str | None: ...

    def execute(self, run: Run, loop: Loop) -> Result: ...


_KERNELS: dict[Kernel, _Module] = {
    "triton": triton,
    "cpp": cpu,
    "cuda_graphs": cuda_graphs,
    "associative_scan": associative_scan,
    "manual": steps,
}
"""Fastest first."""


def check_name(kernel: Kernel) -> Kernel:
    """Return `kernel` if it is one of `NAMES`.

    Raises:
        ValueError: it is not.
    """
    if kernel not in NAMES:
        raise ValueError(f"kernel must be one of {', '.join(map(repr, NAMES))}, got {kernel!r}")
    return kernel


def explain(run: Run) -> dict[str, str | None]:
    """Return why each kernel cannot run `run`, fastest first; None where it can.

    Nothing is computed: only shapes, dtypes, devices and settings count, so `run.gx` may be one number
    expanded to the right shape.
    """
    shared = support.unsupported_reason(run)
    return {name: shared or kernel.unsupported_reason(run) for name, kernel in _KERNELS.items()}


def choose(run: Run, kernel: Kernel) -> Kernel:
    """Return the name of the kernel that runs `run`: with "auto" the fastest that can, else "loop".

    Raises:
        ValueError: `kernel` names one that cannot run it.
    """
    if kernel == "loop":
        return kernel
    reason = support.unsupported_reason(run)
    if kernel != "auto":
        reason = reason or _KERNELS[kernel].unsupported_reason(run)
        if reason:
            raise ValueError(f"kernel={kernel!r} cannot run this: {reason}; use kernel='auto'")
        return kernel
    if reason is None:
        for name, module in _KERNELS.items():
            if module.unsupported_reason(run) is None:
                return name
    return "loop"


def execute(run: Run, loop: Loop, kernel: Kernel = "auto") -> Result:
    """Run `run` with `kernel` (see `choose`); `loop` is the cell's reference loop."""
    name = choose(run, kernel)
    return loop(run) if name == "loop" else _KERNELS[name].execute(run, loop)


def execute_step(run: Run, loop: Loop, kernel: Kernel = "auto") -> Result:
    """Run a `run` of one step by `kernel`; "auto" takes C++ where it is quicker than the loop, else the loop.

    Raises:
        ValueError: `kernel` names one that cannot run the step.
    """
    if kernel != "auto":
        return execute(run, loop, kernel)
    if support.unsupported_reason(run) is None and cpu.unsupported_reason(run) is None and cpu.is_quick(run):
        return cpu.execute(run, loop)
    return loop(run)


def apply(module: nn.Module, x: Tensor) -> Tensor:
    """Return ``module(x)``, computed by a C++ product or convolution where that is quicker."""
    if linear.unsupported_reason(module, x) is None:
        assert isinstance(module, nn.Linear)
        return linear.linear(module, x)
    if conv2d.unsupported_reason(module, x) is None:
        assert isinstance(module, nn.Conv2d)
        return conv2d.convolution(module, x)
    y: Tensor = module(x)
    return y

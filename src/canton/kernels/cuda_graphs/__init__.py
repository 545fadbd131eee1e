"""The manual loop on a GPU, captured once as a CUDA graph and replayed.

A step of the loop is some ten small operations, and on a GPU launching them from Python takes most of the
time. A graph launches them all at once. It reads and writes memory of its own: inputs are copied into it and
results are copied out of it, so no result is ever overwritten. Weights are copied too: layers of one shape
share a recording, and a weight that was changed, moved or freed cannot be read by mistake.

Work of one shape runs directly the first time and is captured the second time, so sequences of ever new
lengths are never captured. The recordings used last are kept; `clear` frees all of them and their memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from functools import partial
from threading import RLock
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from canton.kernels import steps
from canton.kernels.cuda_graphs.cache import Cache
from canton.kernels.cuda_graphs.capture import Recording, form
from canton.kernels.spec import Loop, Result, Run
from canton.kernels.steps.autograd import Direct, Forward, Incoming
from canton.kernels.steps.loop import Gradients, Trace

__all__ = ["clear", "execute", "unsupported_reason"]

MIN_STEPS = 4
"""For fewer steps, copying in and out takes as many launches as the graph saves."""

MAX_BYTES = 2 << 30
"""Maximum memory of one recording. Launches do not limit the speed of larger work."""


def unsupported_reason(run: Run) -> str | None:
    """Return why this kernel cannot run `run`; None if it can."""
    if not _is_on_gpu(run):
        return "it needs a GPU"
    if reason := steps.unsupported_reason(run):
        return reason
    if len(run.gx) < MIN_STEPS or run.gx.numel() == 0:
        return f"it captures runs of {MIN_STEPS} steps or more"
    if any(type(t) not in (Tensor, nn.Parameter) for t in run.tensors()):
        return "a tensor is of a subclass of Tensor"
    if (size := _bytes(run)) > MAX_BYTES:
        return f"its buffers would take {size / 2**30:.1f} GiB, more than {MAX_BYTES / 2**30:.0f} GiB"
    if _capturing(run.gx.device):
        return "a CUDA graph is already being captured"
    return None


def execute(run: Run, loop: Loop) -> Result:
    """Run `run`; `loop` is the reference loop, for gradients of gradients."""
    return steps.execute(run, loop, _RUNNER)


def clear() -> None:
    """Free all recordings and their GPU memory; they are captured again when needed."""
    for place in list(_DEVICES.values()):
        with place.lock:
            place.cache.clear()


class Recorded:
    """Replays recordings of the loop; a `canton.kernels.steps.autograd.Runner`."""

    def forward(self, run: Run, save: bool) -> Forward:
        """Run `run`, see `Runner`."""
        if run.reset is None:
            run = run._replace(reset_state=())  # which nothing reads
        done: Forward = _replay(partial(_forward, save), (_forward, save), run, run.gx)
        return done

    def backward(self, run: Run, trace: Trace, incoming: Incoming, weights: bool) -> Gradients:
        """Return the gradients, see `Runner`."""
        reset_state = () if run.reset is None else run.reset_state
        shape = run.gx.shape  # nothing else of gx is read
        inputs = (run._replace(gx=run.gx.new_empty(0), reset_state=reset_state), trace, incoming)
        done: Gradients = _replay(
            partial(_backward, weights, shape), (_backward, weights, shape), inputs, run.gx
        )
        return done


class Device(NamedTuple):
    """The recordings of one GPU and their lock. A common lock could deadlock: GPUs may wait for each
    other.
    """

    cache: Cache
    lock: RLock


_DEVICES: dict[torch.device, Device] = {}
_RUNNER, _DIRECT = Recorded(), Direct()


def _forward(save: bool, run: Run) -> Forward:
    return _DIRECT.forward(run, save)


def _backward(weights: bool, shape: torch.Size, inputs: tuple[Run, Trace, Incoming]) -> Gradients:
    run, trace, incoming = inputs
    return _DIRECT.backward(run._replace(gx=run.gx.new_empty(()).expand(shape)), trace, incoming, weights)


def _replay(work: Callable[[Any], Any], name: Hashable, inputs: Any, gx: Tensor) -> Any:
    """Return ``work(inputs)`` for a run of the loop over `gx`, replayed if it has been captured."""
    if _capturing(gx.device):
        return work(inputs)
    tensors: list[Tensor] = []
    key = (name, form(inputs, tensors), _settings())
    cache, lock = _DEVICES.setdefault(gx.device, Device(Cache(), RLock()))
    with lock:
        recording = cache.get(key)
        if recording is not None or cache.is_due(key):
            # the recording's own memory is neither an inference tensor nor part of an autograd graph
            with _on(gx.device), torch.inference_mode(False), torch.no_grad():
                recording = recording or _record(cache, key, work, inputs, tensors)
                if recording is not None:
                    return recording.run(tensors)
    return work(inputs)


def _record(
    cache: Cache, key: Hashable, work: Callable[[Any], Any], inputs: Any, tensors: list[Tensor]
) -> Recording | None:
    """Return a new recording; None where memory is short, or, with a warning, where capture fails."""
    try:
        recording = Recording(work, inputs, tensors)
    except RuntimeError as error:
        cause = error.__context__ or error  # the end of the capture raises after the operation that broke it
        if isinstance(cause, torch.OutOfMemoryError):
            cache.clear()  # its recordings may hold the missing memory
            cache.later(key)
            return None
        cache.never(key)
        text = f"the loop cannot be captured as a CUDA graph and runs step by step: {cause}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        return None
    cache.put(key, recording)
    return recording


def _is_on_gpu(run: Run) -> bool:
    return run.gx.device.type == "cuda"


def _bytes(run: Run) -> int:
    """Estimate the memory of the recordings of `run`: gates and states as inputs, saved and as results;
    weights and their gradients.
    """
    weights = sum(weight.nbytes for weight in run.spec.weights) if run.spec else 0
    return 3 * (run.gx.nbytes + len(run.gx) * sum(s.nbytes for s in run.state)) + 2 * weights


def _settings() -> Hashable:
    """Return the settings that decide which operations run; a recording depends on them."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return (
        matmul.fp32_precision,
        matmul.allow_fp16_accumulation,
        matmul.allow_fp16_reduced_precision_reduction,
        matmul.allow_bf16_reduced_precision_reduction,
        cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        cudnn.enabled,
        cudnn.benchmark,
        cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_autocast_enabled("cuda"),  # it may be on in a backward pass
    )


def _on(device: torch.device) -> torch.cuda.device:
    return torch.cuda.device(device)


def _capturing(device: torch.device) -> bool:
    with _on(device):
        return torch.cuda.is_current_stream_capturing()

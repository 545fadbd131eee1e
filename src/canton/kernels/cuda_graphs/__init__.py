"""The fused loop on a GPU, recorded once as a CUDA graph and played back.

Step by step the loop is some ten small operations, and on a GPU it is bound by launching them from Python. A
graph launches them all at once. It reads and writes memory of its own: what goes in is copied there, what
comes out is copied from there, so that no result is ever written to again. Weights are copied too: layers of
one shape share one recording, and a weight that was changed, moved or freed cannot be read by mistake.

Work of one shape is run directly the first time and recorded the second: sequences of ever new lengths are
never recorded. The recordings used last are kept; `clear` lets go of all of them and of their memory.
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
from canton.kernels.double_backward import weights_of
from canton.kernels.spec import Job, Result
from canton.kernels.steps.autograd import Direct, Forward, Incoming
from canton.kernels.steps.loop import Gradients, Trace

__all__ = ["clear", "refuses", "run"]

LEAST_STEPS = 4
"""For fewer, copying in and out takes as many launches as it would save."""

MOST_BYTES = 2 << 30
"""Of memory for one recording; in work that needs more, launching is not what takes the time."""


def refuses(job: Job) -> str | None:
    """Why this kernel cannot run `job`, None if it can."""
    if not _is_on_gpu(job):
        return "it needs a GPU"
    if reason := steps.refuses(job):
        return reason
    if len(job.gx) < LEAST_STEPS or job.gx.numel() == 0:
        return f"it records work of {LEAST_STEPS} steps or more"
    tensors = (job.gx, *job.state, *job.fresh, *weights_of(job.plan))
    if any(type(t) not in (Tensor, nn.Parameter) for t in tensors):
        return "one of its tensors is of a class of its own"
    if (size := _bytes(job)) > MOST_BYTES:
        most = MOST_BYTES / 2**30
        return f"its buffers would take {size / 2**30:.1f} GiB of memory, and {most:.0f} is the most"
    if _capturing(job.gx.device):
        return "a CUDA graph is being captured already"
    return None


def run(job: Job, loop: Callable[[Job], Result]) -> Result:
    """Run `job`; `loop` is the readable loop, for gradients of gradients."""
    return steps.run(job, loop, _RUNNER)


def clear() -> None:
    """Let go of all recorded graphs and of the GPU memory they hold; they are recorded anew when needed."""
    for place in list(_PLACES.values()):
        with place.lock:
            place.cache.clear()


class Recorded:
    """Runs the loop by what was recorded of it; a `canton.kernels.steps.autograd.Runner`."""

    def forward(self, job: Job, keep: bool) -> Forward:
        """See `Runner`."""
        if job.reset is None:
            job = job._replace(fresh=())  # which nobody reads
        done: Forward = _play(partial(_forward, keep), (_forward, keep), job, job.gx)
        return done

    def backward(self, job: Job, trace: Trace, incoming: Incoming, weights: bool) -> Gradients:
        """See `Runner`."""
        fresh = () if job.reset is None else job.fresh
        shape = job.gx.shape  # nothing else of gx is wanted
        things = (job._replace(gx=job.gx.new_empty(0), fresh=fresh), trace, incoming)
        done: Gradients = _play(
            partial(_backward, weights, shape), (_backward, weights, shape), things, job.gx
        )
        return done


class Place(NamedTuple):
    """What one GPU has recorded. Its lock is its own: another GPU's work may be what this one waits for."""

    cache: Cache
    lock: RLock


_PLACES: dict[torch.device, Place] = {}
_RUNNER, _DIRECT = Recorded(), Direct()


def _forward(keep: bool, job: Job) -> Forward:
    return _DIRECT.forward(job, keep)


def _backward(weights: bool, shape: torch.Size, things: tuple[Job, Trace, Incoming]) -> Gradients:
    job, trace, incoming = things
    return _DIRECT.backward(job._replace(gx=job.gx.new_empty(()).expand(shape)), trace, incoming, weights)


def _play(work: Callable[[Any], Any], name: Hashable, things: Any, gx: Tensor) -> Any:
    """``work(things)`` for a run of the loop over `gx`, played back where that is possible by now."""
    if _capturing(gx.device):
        return work(things)
    tensors: list[Tensor] = []
    key = (name, form(things, tensors), _settings())
    cache, lock = _PLACES.setdefault(gx.device, Place(Cache(), RLock()))
    with lock:
        recording = cache.get(key)
        if recording is not None or cache.is_due(key):
            # memory of its own is neither an inference tensor nor part of an autograd graph
            with _on(gx.device), torch.inference_mode(False), torch.no_grad():
                recording = recording or _record(cache, key, work, things, tensors)
                if recording is not None:
                    return recording.run(tensors)
    return work(things)


def _record(
    cache: Cache, key: Hashable, work: Callable[[Any], Any], things: Any, tensors: list[Tensor]
) -> Recording | None:
    """A new recording; None where memory is short, or, with a warning, where the work cannot be recorded."""
    try:
        recording = Recording(work, things, tensors)
    except RuntimeError as error:
        cause = error.__context__ or error  # the capture's end complains after what broke it
        if isinstance(cause, torch.OutOfMemoryError):
            cache.clear()  # which may be what it is short of
            cache.later(key)
            return None
        cache.never(key)
        text = f"the loop cannot be recorded as a CUDA graph, and is run step by step: {cause}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        return None
    cache.put(key, recording)
    return recording


def _is_on_gpu(job: Job) -> bool:
    return job.gx.device.type == "cuda"


def _bytes(job: Job) -> int:
    """About what recordings of `job` need: gates and states as they come in, are kept, and go out; weights
    and their gradients.
    """
    gx, weights = job.gx.nbytes, sum(weight.nbytes for weight in weights_of(job.plan))
    return 3 * (gx + len(job.gx) * sum(s.nbytes for s in job.state)) + 2 * weights


def _settings() -> Hashable:
    """What else decides which operations run: a recording keeps to what was set when it was made."""
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
        torch.is_autocast_enabled("cuda"),  # in a backward pass it may be
    )


def _on(device: torch.device) -> torch.cuda.device:
    return torch.cuda.device(device)


def _capturing(device: torch.device) -> bool:
    with _on(device):
        return torch.cuda.is_current_stream_capturing()

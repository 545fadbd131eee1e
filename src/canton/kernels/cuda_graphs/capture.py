"""Work on a GPU captured once, between tensors of its own, and replayed for others."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from canton.kernels.spec import CellSpec


class Recording:
    """A capture of ``work(inputs)``.

    Args:
        work: a function of `inputs`.
        inputs: nested tuples, lists and cell specs of tensors and plain values.
        tensors: the tensors that `form` finds in `inputs`.
    """

    def __init__(self, work: Callable[[Any], Any], inputs: Any, tensors: list[Tensor]) -> None:
        self.inputs = [torch.empty_like(t) for t in tensors]
        _copy(self.inputs, tensors)
        self.graph = Graph(partial(work, with_tensors(inputs, iter(self.inputs))), tensors[0].device)
        self.outputs: list[Tensor] = []
        form(self.graph.result, self.outputs)
        self.bytes = sum(t.numel() * t.element_size() for t in (*self.inputs, *self.outputs))

    def run(self, tensors: list[Tensor]) -> Any:
        """Return the result of the work for `tensors`, in new memory."""
        self.graph.wait_for_last_user()
        _copy(self.inputs, tensors)
        self.graph.replay()
        unique = {id(t): t for t in self.outputs}  # the outputs may be the first tensor of the states
        copies = [torch.empty_like(t) for t in unique.values()]
        _copy(copies, list(unique.values()))
        found = dict(zip(unique, copies, strict=True))
        return with_tensors(self.graph.result, (found[id(t)] for t in self.outputs))


class Graph:
    """A CUDA graph of ``work()``; every `replay` overwrites `result`."""

    def __init__(self, work: Callable[[], Any], device: torch.device) -> None:
        self.stream = torch.cuda.current_stream(device)
        side = torch.cuda.Stream(device)
        side.wait_stream(self.stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(side):  # left again even when the capture fails
            work()  # so that libraries choose and load outside the capture
            _drop_workspaces()
            try:
                # other threads are not affected
                with torch.cuda.graph(self.graph, stream=side, capture_error_mode="thread_local"):
                    self.result = work()
            finally:
                _drop_workspaces()
        self.stream.wait_stream(side)

    def wait_for_last_user(self) -> None:
        """Wait for the last user's work if it was on another stream."""
        now = torch.cuda.current_stream(self.stream.device)
        if now != self.stream:
            now.wait_stream(self.stream)
            self.stream = now

    def replay(self) -> None:
        """Run the work again."""
        self.graph.replay()

    def finish(self) -> None:
        """Wait until nothing uses the memory any more."""
        self.stream.synchronize()


def form(thing: Any, tensors: list[Tensor]) -> Hashable:
    """Return what the work on `thing` depends on besides numbers; append its tensors to `tensors`."""
    if isinstance(thing, Tensor):
        tensors.append(thing)
        return thing.shape, thing.stride(), thing.dtype, thing.device
    if isinstance(thing, (tuple, list)):
        return type(thing), *(form(part, tensors) for part in thing)
    if isinstance(thing, CellSpec):
        return type(thing), *(form(getattr(thing, field.name), tensors) for field in fields(thing))
    return type(thing), thing  # True and 1 are equal but not the same


def with_tensors(thing: Any, tensors: Iterator[Tensor]) -> Any:
    """Return `thing` with other tensors, in the order of `form`."""
    if isinstance(thing, Tensor):
        return next(tensors)
    if isinstance(thing, (tuple, list)):
        parts = [with_tensors(part, tensors) for part in thing]
        return type(thing)(*parts) if hasattr(thing, "_fields") else type(thing)(parts)
    if isinstance(thing, CellSpec):
        changed = {f.name: with_tensors(getattr(thing, f.name), tensors) for f in fields(thing)}
        return replace(thing, **changed)
    return thing


def _copy(to: list[Tensor], given: list[Tensor]) -> None:
    """Copy each tensor; those of one dtype by one launch where torch can."""
    for dtype in dict.fromkeys(t.dtype for t in to):
        pairs = [(a, b) for a, b in zip(to, given, strict=True) if a.dtype is dtype]
        torch._foreach_copy_([a for a, _ in pairs], [b for _, b in pairs])


def _drop_workspaces() -> None:
    """Free cuBLAS's workspaces: a graph needs one of its own that lives as long as it does.

    A workspace allocated during capture lies in the graph's own memory. One allocated earlier may be freed by
    other code while the graph still writes to it (pytorch/pytorch#193402).
    """
    drop: Callable[[], None] | None = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if drop is not None:
        drop()

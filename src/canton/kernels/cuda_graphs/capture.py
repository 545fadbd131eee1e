"""Work on a GPU recorded once, between tensors of its own, and played back for others."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor


class Recording:
    """``work(things)``: things are tuples of tensors and plain values, `tensors` those that `form` finds."""

    def __init__(self, work: Callable[[Any], Any], things: Any, tensors: list[Tensor]) -> None:
        self.given = [torch.empty_like(t) for t in tensors]
        _copy(self.given, tensors)
        self.graph = Graph(partial(work, with_tensors(things, iter(self.given))), tensors[0].device)
        self.made: list[Tensor] = []
        form(self.graph.made, self.made)
        self.bytes = sum(t.numel() * t.element_size() for t in (*self.given, *self.made))

    def run(self, tensors: list[Tensor]) -> Any:
        """What the work gives for `tensors`, in new memory."""
        self.graph.take_turn()
        _copy(self.given, tensors)
        self.graph.replay()
        unique = {id(t): t for t in self.made}  # the outputs may be the first tensor of the states
        copies = [torch.empty_like(t) for t in unique.values()]
        _copy(copies, list(unique.values()))
        found = dict(zip(unique, copies, strict=True))
        return with_tensors(self.graph.made, (found[id(t)] for t in self.made))


class Graph:
    """A CUDA graph of ``work()``; `made` is what it gives, written anew by every `replay`."""

    def __init__(self, work: Callable[[], Any], device: torch.device) -> None:
        self.stream = torch.cuda.current_stream(device)
        side = torch.cuda.Stream(device)
        side.wait_stream(self.stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(side):  # which is left again even when the capture fails
            work()  # so that libraries choose and load outside the capture
            _drop_workspaces()
            try:
                # other threads may go on as they like
                with torch.cuda.graph(self.graph, stream=side, capture_error_mode="thread_local"):
                    self.made = work()
            finally:
                _drop_workspaces()
        self.stream.wait_stream(side)

    def take_turn(self) -> None:
        """Wait for the last user's work if it was on another stream."""
        now = torch.cuda.current_stream(self.stream.device)
        if now != self.stream:
            now.wait_stream(self.stream)
            self.stream = now

    def replay(self) -> None:
        """Do the work once more."""
        self.graph.replay()

    def finish(self) -> None:
        """Wait until nothing uses the memory any more."""
        self.stream.synchronize()


def form(thing: Any, tensors: list[Tensor]) -> Hashable:
    """What shapes work with `thing`, tuples of tensors and plain values; its tensors are put in `tensors`."""
    if isinstance(thing, Tensor):
        tensors.append(thing)
        return thing.shape, thing.stride(), thing.dtype, thing.device
    if isinstance(thing, (tuple, list)):
        return type(thing), *(form(part, tensors) for part in thing)
    return type(thing), thing  # True and 1 are equal, and not the same


def with_tensors(thing: Any, tensors: Iterator[Tensor]) -> Any:
    """`thing` with other tensors, in the order of `form`."""
    if isinstance(thing, Tensor):
        return next(tensors)
    if isinstance(thing, (tuple, list)):
        parts = [with_tensors(part, tensors) for part in thing]
        return type(thing)(*parts) if hasattr(thing, "_fields") else type(thing)(parts)
    return thing


def _copy(to: list[Tensor], given: list[Tensor]) -> None:
    """Copy each tensor, all of one dtype by one launch where torch can."""
    for dtype in dict.fromkeys(t.dtype for t in to):
        pairs = [(a, b) for a, b in zip(to, given, strict=True) if a.dtype is dtype]
        torch._foreach_copy_([a for a, _ in pairs], [b for _, b in pairs])


def _drop_workspaces() -> None:
    """Give back cuBLAS's workspaces: a graph needs one that lives as long as itself and is nobody else's.

    Taken while it is captured, a workspace is in the graph's own memory. One that was there before may be
    given back by whoever pleases, while the graph still writes to it (pytorch/pytorch#193402).
    """
    drop: Callable[[], None] | None = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if drop is not None:
        drop()

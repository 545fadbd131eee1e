"""Canton itself."""

from __future__ import annotations

import torch
from torch import Tensor

import canton

from ..workloads import Workload
from . import shared_torch as common


def versions() -> dict[str, str]:
    return {"canton": canton.__version__, "torch": torch.__version__}


def build(name: str, work: Workload, threads: int) -> common.Run:
    common.prepare(threads)
    if name == "W7":
        return generate(work)
    if name == "W1":
        layer = canton.GRU(work.c_in, work.hidden)
        return common.text_run(lambda data: layer(data)[0], layer, work)
    if name.startswith("W3"):
        return common.layer_run(canton.GRU(work.c_in, work.hidden), work)
    layer = canton.ConvGRU2d(
        work.c_in if name.startswith("W4") else work.hidden, work.hidden, work.kernel_size
    )
    if name.startswith("W4"):
        return common.layer_run(layer, work)
    if name == "W5":
        return common.detector_run(layer, work, channels_last=True)

    def step(x: Tensor, state: Tensor | None) -> Tensor:
        after = layer.step(x, None if state is None else state.unsqueeze(0))[1]
        assert isinstance(after, Tensor)
        return after[0]

    return common.stream_run(step, work, channels_last=True)


def generate(work: Workload, precision: str = "float32") -> common.Run:
    """Writing with the article's text model."""
    from canton import text

    model = text.ByteModel(text.ARTICLE.model)
    return lambda: b"".join(text.generate(model, work.steps, only_utf8=False, precision=precision))

"""Canton."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

import canton
from canton.interop.custom_convgru import from_convolutions

from ..workloads import Workload
from . import shared_torch as common
from .torch_loop import LoopConvGRU, LoopGRU, loop_step


def versions() -> dict[str, str]:
    return {"canton": canton.__version__, "torch": torch.__version__}


def build(name: str, work: Workload, threads: int) -> common.Run:
    common.prepare(threads)
    if name == "W7":
        return generate(work)
    if name == "W1" or name.startswith("W3"):
        loop = LoopGRU(work.c_in, work.hidden)
        layer = gru_like(loop)
        if name == "W1":
            data = torch.randint(256, (work.steps, work.batch))
            one_hot = nn.functional.one_hot(data, 256).float()
            common.check_outputs(layer(data)[0], loop(one_hot)[0])
            return common.text_run(lambda data: layer(data)[0], layer, work)
        check_layer(layer, loop, work)
        return common.layer_run(layer, work)
    conv_loop = LoopConvGRU(
        work.c_in if name.startswith("W4") else work.hidden, work.hidden, work.kernel_size
    )
    conv_layer = conv_gru_like(conv_loop)
    if name.startswith("W4"):
        check_layer(conv_layer, conv_loop, work)
        return common.layer_run(conv_layer, work)
    expected = common.Detector(conv_loop)
    detector = copy.deepcopy(expected)
    detector.layer = conv_layer
    frames = torch.rand(work.steps, work.batch, work.c_in, *work.space)
    if name == "W5":
        common.check_outputs(detector(frames), expected(frames))
        return common.detector_run(detector, work)

    def step(x: Tensor, state: Tensor | None) -> Tensor:
        after = conv_layer.step(x, None if state is None else state.unsqueeze(0))[1]
        assert isinstance(after, Tensor)
        return after[0]

    state = expected_state = None
    for frame in torch.rand(3, 1, work.c_in, *work.space):
        logits, state = detector.step(frame, state, step)
        expected_logits, expected_state = expected.step(frame, expected_state, loop_step(conv_loop))
        common.check_outputs(logits, expected_logits)
    return common.stream_run(detector, step, work)


def check_layer(layer: nn.Module, expected: nn.Module, work: Workload) -> None:
    """Compare the outputs of two layers on a random sequence of the workload's shape."""
    xs = torch.randn(work.steps, work.batch, work.c_in, *work.space, requires_grad=work.backward)
    with torch.set_grad_enabled(work.backward):
        common.check_outputs(layer(xs)[0], expected(xs)[0])


def gru_like(loop: LoopGRU) -> canton.GRU:
    """Return Canton's layer with the weights of a loop."""
    layer = canton.GRU(loop.x.in_features, loop.hidden)
    layer.load_state_dict(
        {
            "cells.0.input_map.weight": loop.x.weight,
            "cells.0.input_map.bias": loop.x.bias,
            "cells.0.hidden_map.weight": loop.gates.weight,
            "cells.0.candidate_map.weight": loop.candidate.weight,
        }
    )
    return layer


def conv_gru_like(loop: LoopConvGRU) -> canton.ConvGRU2d:
    """Return Canton's layer with the weights of a loop."""
    channels, side = loop.gates.in_channels - loop.hidden, loop.gates.kernel_size[0]
    layer = canton.ConvGRU2d(channels, loop.hidden, side)
    layer.load_state_dict(from_convolutions(loop.gates, loop.candidate, reset_first=False).state_dict())
    return layer


def generate(work: Workload, precision: str = "float32") -> common.Run:
    """Return a function that generates bytes with the article's text model."""
    from canton import text

    model = text.ByteModel(text.ARTICLE.model)
    return lambda: b"".join(text.generate(model, work.steps, only_utf8=False, precision=precision))

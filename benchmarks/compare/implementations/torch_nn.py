"""torch.nn.GRU. It resets after the map: another function of the same cost, so outputs are not compared."""

from __future__ import annotations

import torch
from torch import nn

from ..workloads import Workload
from . import shared_torch as common


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def build(name: str, work: Workload, threads: int) -> common.Run:
    common.prepare(threads)
    if work.space:
        raise NotImplementedError("torch.nn has no convolutional GRU")
    layer = nn.GRU(work.c_in, work.hidden)
    if name == "W1":
        return common.text_run(lambda data: layer(nn.functional.one_hot(data, 256).float())[0], layer, work)
    if name == "W7":
        head, rows = common.text_head(), torch.eye(256)

        def run() -> None:
            byte, state = torch.tensor([0]), torch.zeros(1, 1, work.hidden)
            with torch.inference_mode():
                for _ in range(work.steps):
                    y, state = layer(rows[byte].unsqueeze(0), state)
                    byte = torch.multinomial(torch.softmax(head(y[0]), 1), 1)[0]

        return run
    return common.layer_run(layer, work)

"""The exported ONNX model gives the model's outputs in onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from canton.track.model import ARTICLE, Architecture, TrackModel
from canton.track.onnx import export_model

onnxruntime = pytest.importorskip("onnxruntime")

SMALL = ((4, 5, True), (6, 3, True), (6, 3, False))
NETWORKS = {
    "default": Architecture(),
    "no early memory": Architecture(early=0),
    "article": ARTICLE,
    "pooled": Architecture(stem=SMALL, strided=False, early=0, memory=5, memory_layers=2),
    "early": Architecture(stem=SMALL, early=3, memory=5),
    "early alone": Architecture(stem=SMALL, early=3, memory=0),
    "no memory at all": Architecture(stem=SMALL, early=0, memory=0),
    "early, not recurrent": Architecture(stem=SMALL, early=3, memory=5, recurrent=False),
    "not recurrent": Architecture(stem=SMALL, early=0, memory=5, recurrent=False, bypass=False, head=0),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_stream_through_onnxruntime(name: str) -> None:
    torch.manual_seed(0)
    model = TrackModel(NETWORKS[name])
    model(torch.rand(4, 2, 3, 72, 88) * 0.5)  # sets the batch norm statistics
    model.eval()
    session = onnxruntime.InferenceSession(
        export_model(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    frames = torch.rand(5, 2, 3, 72, 88)
    with torch.no_grad():
        wanted, final = model(frames)
    names = [i.name for i in session.get_inputs()][1:]
    state = {name: np.zeros(s.shape, np.float32) for name, s in zip(names, final, strict=True)}
    found = []
    for chunk in (frames[:3], frames[3:4], frames[4:]):  # dynamic time axis
        given = {"frames": chunk.numpy()} | state
        outputs = dict(zip([o.name for o in session.get_outputs()], session.run(None, given), strict=True))
        found.append(outputs["maps"])
        state = {name: outputs[f"{name}_after"] for name in names}
    np.testing.assert_allclose(np.concatenate(found), wanted.numpy(), rtol=1e-4, atol=1e-4)
    for name, after in zip(names, final, strict=True):
        np.testing.assert_allclose(state[name], after.numpy(), rtol=1e-4, atol=1e-4)

"""A byte model's ONNX file: onnxruntime computes the model's logits and state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from canton.text.config import ARTICLE, Architecture
from canton.text.model import ByteModel
from canton.text.ngram.table import count_ngrams
from canton.text.onnx.model import export_model
from tolerances import assert_close

TEXT = np.frombuffer(("It's said, HELLO wörld 42; Hello there, it's " * 30).encode(), np.uint8)

onnx = pytest.importorskip("onnx", reason="onnx is not installed (canton-torch[onnx])")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (canton-torch[dev])")

ARCHITECTURES = {
    "article": ARTICLE.model,
    "usual": Architecture(
        hidden_size=12, num_layers=2, embedding_size=8, contexts=((2, 64), (3, 128)), history_size=60
    ),
    "lstm": Architecture(
        cell="lstm",
        hidden_size=12,
        num_layers=2,
        embedding_size=8,
        head_size=6,
        contexts=((4, 512),),
        ngram_words=(),
        history_size=5,
    ),
    "words": Architecture(
        hidden_size=12,
        embedding_size=8,
        contexts=(),
        ngram_orders=(),
        ngram_words=(0, 3),
        history_orders=(),
        history_size=300,
    ),
    "recent": Architecture(
        hidden_size=12,
        embedding_size=8,
        contexts=(),
        ngram_orders=(),
        ngram_words=(),
        history_orders=(7, 1),
        history_words=(),
        history_size=30,
    ),
    "mgu": Architecture(
        cell="mgu",
        hidden_size=12,
        embedding_size=8,
        contexts=(),
        ngram_orders=(),
        ngram_words=(),
        history_orders=(),
        history_words=(),
        skip=False,
    ),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_onnxruntime_computes_the_model(name: str, tmp_path: Path) -> None:
    model = ByteModel(ARCHITECTURES[name]).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=model.architecture.hidden_size**-0.5)
    if model.architecture.ngram_kinds:
        model.ngrams = count_ngrams(TEXT, model.architecture.ngram_kinds, 500)
    export_model(model, tmp_path / "model.onnx")
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()][1:]
    state = model.initial_state(2)
    state = state if model.past_size else state[1:]
    feed = dict(zip(names, (s.long() if not s.is_floating_point() else s for s in state), strict=True))
    if model.past_size:  # the graph's inputs and the model's state are in one order: past, then each layer's
        assert names[0] == "past"
    feed = {key: value.numpy() for key, value in feed.items()}
    carried = None
    place = 40
    for steps in (70, 1, 20):  # the second and third start where the one before ended
        read = torch.from_numpy(
            np.stack([TEXT[place : place + steps], TEXT[300 + place :][:steps]], 1)
        ).long()
        place += steps
        with torch.no_grad():
            expected, carried = model(read, carried)
        outputs = [o.name for o in session.get_outputs()]
        found = dict(zip(outputs, session.run(None, {"bytes": read.numpy(), **feed}), strict=True))
        assert_close(torch.from_numpy(found["logits"]), expected, f"logits of {steps}")
        feed = {key: found[f"{key}_after"] for key in names}
        if model.past_size:
            assert torch.equal(torch.from_numpy(feed["past"]), carried[0].long())


def test_the_command_writes_the_file(tmp_path: Path) -> None:
    pytest.importorskip("typer", reason="typer is not installed (canton-torch[text])")
    from canton.cli import main
    from canton.text.checkpoint import save_model

    save_model(tmp_path / "model.safetensors", ByteModel(ARCHITECTURES["mgu"]), {})
    out = tmp_path / "model.onnx"
    assert main(["text", "export", str(tmp_path / "model.safetensors"), "--out", str(out)]) == 0
    assert [i.name for i in onnx.load(out).graph.input] == ["bytes", "h_0"]
    assert main(["text", "export", str(tmp_path / "none.safetensors"), "--out", str(out)]) == 2

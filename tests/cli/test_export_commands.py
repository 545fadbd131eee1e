"""`canton text export` and `canton track export`, checked with onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from canton.cli.models import load_pretrained
from cli.conftest import Canton
from tolerances import assert_close

np = pytest.importorskip("numpy")
pytest.importorskip("onnx", reason="onnx is not installed (canton-torch[onnx])")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (canton-torch[dev])")


def stream(
    file: Path, given: str, pieces: list[np.ndarray], fresh: dict[str, np.ndarray], wanted: str
) -> list[Tensor]:
    """Return the output `wanted` for each piece of a sequence; name_after is the next input `name`."""
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    outputs, state, found = [o.name for o in session.get_outputs()], fresh, []
    assert {i.name for i in session.get_inputs()} == {given, *fresh}
    for piece in pieces:
        results = dict(zip(outputs, session.run(None, {given: piece, **state}), strict=True))
        state = {name: results[f"{name}_after"] for name in fresh}
        found.append(torch.from_numpy(results[wanted]))
    return found


@pytest.mark.parametrize("which", ["pretrained", pytest.param("trained", marks=pytest.mark.slow)])
def test_a_text_model(canton: Canton, text: Path, tmp_path: Path, which: str) -> None:
    from canton.text.checkpoint import load_model

    out, named = tmp_path / "m.onnx", []
    if which == "trained":
        named = [tmp_path / "m.safetensors"]
        done = canton("text", "train", text, "--out", *named, "--steps", "40", "--batch-size", "4", "--quiet")
        assert done.status == 0, done.err
    done = canton("text", "export", *named, "--out", out)
    assert (done.status, done.out, done.err) == (0, f"{out}\n", "")
    model = (load_model(*named) if named else load_pretrained("text", load_model)).model.eval()
    read = torch.tensor(list(b"What is past is prologue: def __init__(self) is past is")).long()[:, None]
    with torch.no_grad():
        expected, _ = model(read)
    past, *states = model.initial_state(1)
    fresh = {"past": past.long().numpy()} | {f"h_{k}": h.numpy() for k, h in enumerate(states)}
    pieces = [read[:30].numpy(), *(byte[None].numpy() for byte in read[30:])]
    found = stream(out, "bytes", pieces, fresh, "logits")
    assert_close(torch.cat(found), expected, "logits")


@pytest.mark.parametrize("which", ["pretrained", pytest.param("trained", marks=pytest.mark.slow)])
def test_a_motion_model(canton: Canton, tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av", reason="av is not installed (canton-torch[track])")
    pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")
    from canton.track.checkpoint import load_model

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out, named = tmp_path / "m.onnx", []
    if which == "trained":
        named = [tmp_path / "m.safetensors"]
        tiny = (
            "--batch-size",
            "1",
            "--frames-per-step",
            "2",
            "--crop-size",
            "48",
            "--workers",
            "0",
            "--quiet",
        )
        done = canton("track", "train", "--scenes", "--steps", "2", "--out", *named, *tiny)
        assert done.status == 0, done.err
    done = canton("track", "export", *named, "--out", out)
    assert (done.status, done.out, done.err) == (0, f"{out}\n", "")
    model = (load_model(*named) if named else load_pretrained("visible", load_model)).model.eval()
    frames = torch.rand(5, 1, 3, 96, 120)
    with torch.no_grad():
        expected, after = model(frames)
    session = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    names: list[Any] = [i.name for i in session.get_inputs()][1:]
    fresh = {name: np.zeros(s.shape, np.float32) for name, s in zip(names, after, strict=True)}
    pieces = [frames[:2].numpy(), *(frame[None].numpy() for frame in frames[2:])]
    found = stream(out, "frames", pieces, fresh, "maps")
    assert_close(torch.cat(found), expected, "maps")


@pytest.mark.parametrize("what", ["text", "track"])
def test_export_must_not_overwrite_the_model(canton: Canton, model: Path, tmp_path: Path, what: str) -> None:
    before = model.read_bytes()
    assert "--out" in canton.complains(what, "export", model, "--out", model)
    assert model.read_bytes() == before

"""The network: streaming laws and geometry."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from canton.errors import UserError
from canton.track.model import ARTICLE, MAPS, Architecture, TrackModel
from tolerances import assert_close

SMALL = ((4, 5, True), (6, 3, True), (6, 3, False))
NETWORKS = {
    "strided": Architecture(stem=SMALL, early=0, memory=5),
    "pooled": Architecture(stem=SMALL, strided=False, early=0, memory=5, memory_layers=2),
    "early": Architecture(stem=SMALL, early=3, memory=5),
    "early alone": Architecture(stem=SMALL, early=3, memory=0),
    "article": ARTICLE,
}


def make_model(architecture: Architecture) -> TrackModel:
    torch.manual_seed(0)
    model = TrackModel(architecture)
    with torch.no_grad():
        model.maps.weight.mul_(5)  # so that the maps differ from place to place
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_chunks_and_steps_equal_one_run(name: str) -> None:
    model = make_model(NETWORKS[name])
    frames = torch.rand(5, 2, 3, 48, 64)
    with torch.no_grad():
        whole, end = model(frames)
        first, state = model(frames[:2])
        second, after = model(frames[2:], state)
        assert_close(torch.cat([first, second]), whole, "maps in two chunks")
        for k, (ours, theirs) in enumerate(zip(after, end, strict=True)):
            assert_close(ours, theirs, f"state {k} after two chunks")
        carried, steps = None, []
        for frame in frames:
            maps, carried = model.step(frame, carried)
            steps.append(maps)
        assert_close(torch.stack(steps), whole, "maps step by step")


@pytest.mark.parametrize("name", NETWORKS)
def test_causality(name: str) -> None:
    model = make_model(NETWORKS[name])
    frames = torch.rand(4, 1, 3, 48, 64)
    other = frames.clone()
    other[2] = torch.rand(1, 3, 48, 64)
    with torch.no_grad():
        a, b = model(frames)[0], model(other)[0]
    assert torch.equal(a[:2], b[:2])
    assert (a[3] - b[3]).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["strided", "early"])
def test_reset_clears_the_state(name: str) -> None:
    model = make_model(NETWORKS[name])
    frames = torch.rand(4, 2, 3, 48, 64)
    reset = torch.zeros(4, 2, dtype=torch.bool)
    reset[2, 1] = True
    with torch.no_grad():
        whole, _ = model(frames, None, reset)
        afresh, _ = model(frames[2:])
        carried, _ = model(frames)
    assert_close(whole[2:, 1], afresh[:, 1], "the row that restarts")
    assert_close(whole[:, 0], carried[:, 0], "the row that does not")


@pytest.mark.parametrize("name", ["strided", "early"])
def test_frames_are_independent_without_recurrence(name: str) -> None:
    model = make_model(replace(NETWORKS[name], recurrent=False))
    frames = torch.rand(4, 2, 3, 48, 64)
    with torch.no_grad():
        whole, state = model(frames)
        alone = torch.stack([model(frame[None])[0][0] for frame in frames])
    assert state == ()
    assert_close(whole, alone, "maps of frames alone")
    recurrent = TrackModel(NETWORKS[name])
    assert {k: v.shape for k, v in recurrent.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }


@pytest.mark.parametrize("strided", [True, False])
@pytest.mark.parametrize("same", [True, False])
def test_receptive_field_is_centred_on_the_cell(strided: bool, same: bool) -> None:
    """The receptive field of a cell is centred on offset + stride * column."""
    stem = ((2, 5, True), (2, 3, True), (2, 3, False))
    a = Architecture(stem=stem, strided=strided, same=same, early=0, memory=0, head=0, distractor_classes=())
    model = make_model(a)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_().add_(0.1)  # positive, so that nothing cancels
    frames = torch.rand(1, 1, 3, 96, 96, requires_grad=True)
    maps, _ = model(frames)
    assert maps.shape[-2:] == (a.cells(96), a.cells(96))
    row, column = 9, 7
    seen = torch.zeros(96, 96)
    for _ in range(200 if not strided else 1):  # the argmax of pooling varies between frames
        maps, _ = model(frames)
        (grad,) = torch.autograd.grad(maps[0, 0, 0, row, column], frames)
        seen += grad[0, 0].abs().sum(0)
        frames = torch.rand(1, 1, 3, 96, 96, requires_grad=True)
    rows, columns = seen.sum(1).nonzero().flatten(), seen.sum(0).nonzero().flatten()
    assert (rows.min() + rows.max() + 1) / 2 == a.offset + a.stride * row
    assert (columns.min() + columns.max() + 1) / 2 == a.offset + a.stride * column


def test_context_enlarges_the_receptive_field() -> None:
    """The field grows by three cells on every side."""
    seen = {}
    for context in (0, 3):
        stem = ((2, 5, True), (2, 3, True))
        model = make_model(
            Architecture(
                stem=stem, context=context, early=0, memory=0, head=0, distractor_classes=(), norm=False
            )
        )
        frames = torch.rand(1, 1, 3, 96, 96, requires_grad=True)
        (grad,) = torch.autograd.grad(model(frames)[0][0, 0, 0, 12, 12], frames)
        seen[context] = grad[0, 0].abs().sum((0, 1)).nonzero().flatten()
    assert int(seen[0].min() - seen[3].min()) == 3 * 4
    assert int(seen[3].max() - seen[0].max()) == 3 * 4


def test_batch_norm_folding() -> None:
    """Inference with folded batch normalisation gives the same output as without folding."""
    torch.manual_seed(0)
    model = TrackModel(NETWORKS["strided"])
    model(torch.rand(6, 2, 3, 48, 64) * 0.5)
    block = model.stem[0].eval()
    x = torch.rand(2, 3, 48, 64)
    with torch.no_grad():
        apart = torch.nn.functional.leaky_relu(block.norm(block.conv(x)), 0.2)
        assert_close(block(x), apart, "a folded block")
        assert (apart - torch.nn.functional.leaky_relu(block.conv(x), 0.2)).abs().max() > 0.1


def test_article_network() -> None:
    """Its heat map of a 128 x 128 frame is 25 x 25."""
    maps, (state,) = make_model(ARTICLE)(torch.rand(1, 1, 3, 128, 128))
    assert maps.shape == (1, 1, MAPS, 25, 25)
    assert state.shape == (1, 1, 16, 25, 25)


def test_architecture_json_and_validation() -> None:
    for architecture in (*NETWORKS.values(), Architecture()):
        import json

        assert Architecture.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture
    with pytest.raises(UserError, match="memory_kernel"):
        Architecture(memory_kernel=4)
    with pytest.raises(UserError, match="stem"):
        Architecture(stem=((0, 3, True),))
    with pytest.raises(UserError, match="Architecture"):
        Architecture.from_json({"cell": "gru"})

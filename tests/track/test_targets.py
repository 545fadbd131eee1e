"""Training targets and loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from canton.track.boxes import Box, LabelledBox
from canton.track.model import MAPS, Architecture
from canton.track.peaks import find_peaks
from canton.track.targets import Target, make_target, track_loss

NETWORK = Architecture(stem=((4, 3, True), (4, 3, True)), memory=4, distractor_classes=("bird",))
CELLS = (16, 20)


def test_maximum_is_at_the_centre_of_the_box() -> None:
    box = Box(30.0, 22.0, 14.0, 9.0)
    target = make_target([[LabelledBox("drone", box)], []], CELLS, NETWORK, target_class="drone")
    assert target.heatmap.shape == (2, 2, *CELLS)
    (peak,) = find_peaks(target.heatmap[0, 0], stride=NETWORK.stride, offset=NETWORK.offset)
    assert math.dist(peak.box.centre, box.centre) < 0.5 * NETWORK.stride
    assert target.heatmap[0, 0].max() == 1
    assert not target.heatmap[0, 1].any()
    assert not target.heatmap[1].any()
    row, column = np.unravel_index(int(target.heatmap[0, 0].argmax()), CELLS)
    np.testing.assert_allclose(target.sizes[0, :, row, column].exp(), [14, 9], rtol=1e-5)
    assert target.near[0].sum() == 9


def test_target_class_must_not_be_a_distractor() -> None:
    with pytest.raises(ValueError, match="target_class"):
        make_target([[]], (4, 4), Architecture(), target_class="bird")
    assert Architecture().for_target("bird").distractor_classes == ("drone", "airplane", "helicopter")
    assert Architecture(distractor_classes=("drone", "bird")).for_target("bird").distractor_classes == (
        "drone",
    )
    assert Architecture().for_target("drone") == Architecture()


def test_distractor_classes_have_maps_and_unknown_classes_have_none() -> None:
    named = [[LabelledBox("bird", Box(10, 10, 8, 8)), LabelledBox("kite", Box(40, 40, 8, 8))]]
    target = make_target(named, CELLS, NETWORK, target_class="drone")
    assert not target.heatmap[0, 0].any()
    assert target.heatmap[0, 1].max() == 1
    assert target.heatmap[0, 1, 8:].max() < 1e-3, "the kite is not on the birds' map"


def test_box_outside_the_frame() -> None:
    target = make_target([[LabelledBox("drone", Box(-60, 10, 8, 8))]], CELLS, NETWORK, target_class="drone")
    assert target.heatmap.max() < 1
    assert not target.near.any()


def test_boxes_in_the_corner_cells() -> None:
    """The maximum and the sizes are in the cell of the box's centre, and in its neighbours in the map."""
    height, width = CELLS
    for row, column in ((0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1), (0, 5), (7, 0)):
        x, y = (NETWORK.offset + NETWORK.stride * place for place in (column, row))
        box = LabelledBox("drone", Box.from_centre(x, y, 14, 9))
        target = make_target([[box]], CELLS, NETWORK, target_class="drone")
        assert np.argwhere(target.heatmap[0, 0].numpy() == 1).tolist() == [[row, column]]
        near = {(r, c) for r in (row - 1, row, row + 1) for c in (column - 1, column, column + 1)}
        near = {(r, c) for r, c in near if 0 <= r < height and 0 <= c < width}
        assert {tuple(place) for place in np.argwhere(target.near[0, 0].numpy()).tolist()} == near
        sized = {(r, c): target.sizes[0, :, r, c].exp().tolist() for r, c in near}
        assert all(sides == pytest.approx([14, 9]) for sides in sized.values())
        for outside in (
            Box.from_centre(x, y, 14, 9)._replace(x=-12.0),
            Box.from_centre(4 * width + 9, y, 14, 9),
        ):
            there = make_target([[LabelledBox("drone", outside)]], CELLS, NETWORK, target_class="drone")
            assert not there.near.any()


def test_the_gaussian_of_a_box() -> None:
    """Its standard deviations are a sixth of the sides, at least 0.6 cells."""
    for width, height in ((48.0, 24.0), (3.0, 60.0)):
        x, y = NETWORK.offset + NETWORK.stride * 9, NETWORK.offset + NETWORK.stride * 7
        box = LabelledBox("drone", Box.from_centre(x, y, width, height))
        heat = make_target([[box]], CELLS, NETWORK, target_class="drone").heatmap[0, 0]
        sigmas = [max(side / 6, 0.6 * NETWORK.stride) for side in (width, height)]
        for cells in (1, 2, 3):
            down, right = (math.exp(-0.5 * (cells * NETWORK.stride / sigma) ** 2) for sigma in sigmas[::-1])
            assert heat[7 + cells, 9] == pytest.approx(down, abs=1e-6)
            assert heat[7, 9 - cells] == pytest.approx(right, abs=1e-6)


def maps_of(target: Target) -> torch.Tensor:
    """Return maps that match the target."""
    heatmap = torch.logit(target.heatmap.clamp(1e-4, 1 - 1e-4))
    return torch.cat([heatmap[:, :, :1], target.sizes, heatmap[:, :, 1:]], 2)


def test_loss_is_lowest_at_the_target() -> None:
    named = [[LabelledBox("drone", Box(30, 22, 14, 9))], [LabelledBox("bird", Box(50, 30, 9, 9))]]
    target = make_target(named, CELLS, NETWORK, target_class="drone")
    target = Target(*(part[:, None] for part in target))
    right = maps_of(target)
    assert right.shape == (2, 1, MAPS + 1, *CELLS)
    best = track_loss(right, target)
    assert best < 0.1
    moved = right.roll(3, -1)
    assert track_loss(moved, target) > best + 1
    wrong_size = right.clone()
    wrong_size[:, :, 1] += 1
    assert math.isclose(track_loss(wrong_size, target) - best, (9 + 9) / 9 / 2, rel_tol=1e-4)
    swapped = right[:, :, [3, 1, 2, 0]]
    assert track_loss(swapped, target) > best + 1


def test_loss_by_hand() -> None:
    """A positive cell: (1 - p)^gamma * -log p; a negative one: p^gamma * -log(1 - p)."""
    for heatmap in (1.0, 0.0):
        target = Target(
            torch.full((1, 1, 1, 1, 1), heatmap),
            torch.zeros(1, 1, 2, 1, 1),
            torch.zeros(1, 1, 1, 1, 1),
            torch.ones(1, 1, 1, 1, 1),
        )
        maps = torch.tensor([0.7, 0.0, 0.0]).view(1, 1, 3, 1, 1)
        p = 1 / (1 + math.exp(-0.7))
        wanted = (1 - p) ** 2 * -math.log(p) if heatmap else p**2 * -math.log(1 - p)
        assert math.isclose(float(track_loss(maps, target, gamma=2.0)), wanted, rel_tol=1e-5)


def test_frames_that_nobody_labelled_have_no_loss() -> None:
    """The loss and its gradient are those of the labelled frames alone."""
    architecture = Architecture()
    boxes = [[LabelledBox("drone", Box(20 + 4 * t, 30, 9, 7))] for t in range(4)]
    known = np.array([True, False, True, False])
    maps = torch.randn(4, 1, 6, 16, 16, requires_grad=True)

    def target(part: list[int], labelled: np.ndarray | None) -> Target:
        made = make_target(
            [boxes[t] for t in part], (16, 16), architecture, target_class="drone", labelled=labelled
        )
        return Target(*(each[:, None] for each in made))

    loss = track_loss(maps, target([0, 1, 2, 3], known))
    loss.backward()
    assert maps.grad is not None
    assert torch.equal(maps.grad[[1, 3]], torch.zeros_like(maps.grad[[1, 3]]))
    assert maps.grad[[0, 2]].abs().sum() > 0
    torch.testing.assert_close(loss, track_loss(maps[[0, 2]], target([0, 2], None)))


def test_a_point_has_no_size() -> None:
    (point,) = make_target(
        [[LabelledBox("drone", Box(20, 30, 0, 0))]], (16, 16), Architecture(), target_class="drone"
    ).near
    assert point.sum() == 0
    target = make_target(
        [[LabelledBox("drone", Box(20, 30, 0, 0))]], (16, 16), Architecture(), target_class="drone"
    )
    assert target.heatmap[0, 0].max() == 1, "but a place"

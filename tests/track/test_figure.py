"""The article's figure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spots import clip

pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")

from canton.track.model import Architecture, TrackModel
from canton.track.render.figure import GAP, LEFT, TOP, draw_figure


def test_the_truth_row_shows_the_class_of_the_clip_only() -> None:
    torch.manual_seed(0)
    model = TrackModel(Architecture(stem=((4, 3, True), (4, 3, True)), memory=4, head=0, context=0)).eval()
    film = clip("one", "drone", 1)
    crossed = film._replace(classes=(("drone",), ("bird",), *((kind,) for kind in ["drone"] * 12)))
    height, width = film.frames.shape[1:3]
    for shown, bright in ((film, [True, True, True]), (crossed, [True, False, True])):
        sheet = draw_figure(model, shown, frames=3)
        truth = sheet[TOP + height + GAP : TOP + 2 * height + GAP]
        lefts = [LEFT + t * (width + GAP) for t in range(3)]
        assert [bool((truth[:, left : left + width] > 200).any()) for left in lefts] == bright
        bird = draw_figure(model, film._replace(class_name="bird"), frames=1)
        np.testing.assert_array_equal(
            bird[TOP + height + GAP :][:height, LEFT : LEFT + width], truth[:, LEFT : LEFT + width]
        )

"""Loss curve: JSON, merging, plot."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from canton.errors import UserError
from canton.training.curve import MAX_POINTS, Curve, plot_curve


def test_points_survive_json() -> None:
    curve = Curve()
    curve.add(10, 0.5, 3.25)
    curve.add(20, 1.0, math.nan)
    curve.add(30, 1.5, 2.5)
    curve.held_out.append((30, 2.75))
    again = Curve.from_json(json.loads(json.dumps(curve.to_json())))
    assert again.points == [(10, 0.5, 3.25), (30, 1.5, 2.5)]
    assert again.held_out == [(30, 2.75)]
    assert Curve.from_json(None).points == []


def test_merging_keeps_the_mean_loss() -> None:
    curve, steps, lost = Curve(), 0, 0.0
    for k in range(5 * MAX_POINTS):
        step = 1 + k % 3
        steps, lost = steps + step, lost + step * (k % 7)
        curve.add(steps, float(k), float(k % 7))
    assert MAX_POINTS // 2 <= len(curve.points) <= MAX_POINTS
    assert curve.points[-1][:2] == (steps, 5 * MAX_POINTS - 1)
    begun, mean = 0, 0.0
    for step, _, loss in curve.points:
        mean, begun = mean + (step - begun) * loss, step
    assert mean == pytest.approx(lost)


def test_the_plot_shows_the_curve(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (canton-torch[plot])")
    from matplotlib.image import imread

    def dark(curve: Curve, name: str) -> float:
        plot_curve(tmp_path / name, curve, unit="bits per byte")
        return float((imread(tmp_path / name)[..., :3].min(-1) < 0.5).mean())

    full = Curve()
    for k in range(100):
        full.add(k + 1, k / 10, 8 / (k + 1) + k % 5)
    assert dark(full, "full.png") > dark(Curve(), "empty.png") + 0.002
    with pytest.raises(UserError, match="docx"):
        plot_curve(tmp_path / "curve.docx", full, unit="loss")

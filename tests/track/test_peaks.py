"""Peaks: positions, selection and sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from canton.track.peaks import Peak, decode_peaks, find_peaks


def spots(
    height: int, width: int, centres: list[tuple[float, float]], sigma: float, top: float = 0.9
) -> Tensor:
    """Return Gaussians; centres as (x, y) in cells."""
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    heat = torch.zeros(height, width)
    for cx, cy in centres:
        spot = top * torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
        heat = torch.maximum(heat, spot)
    return heat


def positions(peaks: list[Peak]) -> np.ndarray:
    """Return (n, 3): x, y and score."""
    return np.array([(*peak.box.centre, peak.score) for peak in peaks])


def centres(peaks: list[Peak]) -> list[tuple[int, int]]:
    return [(round(peak.box.centre[0]), round(peak.box.centre[1])) for peak in peaks]


@pytest.mark.parametrize(
    ("sigma", "noise", "mean_error"),
    [
        (0.6, 0.0, 1e-3),
        (1.0, 0.0, 1e-3),
        (2.0, 0.0, 1e-3),
        (0.7, 0.02, 0.05),
        (1.0, 0.02, 0.05),
        (1.5, 0.02, 0.1),
    ],
)
def test_a_gaussian_is_located_below_the_cell_size(sigma: float, noise: float, mean_error: float) -> None:
    """The mean error without refinement is 0.38 cells."""
    draw = np.random.default_rng(0)
    errors = []
    for _ in range(200):
        x, y = draw.uniform(8, 23, 2)
        heat = spots(32, 32, [(x, y)], sigma, top=draw.uniform(0.7, 1.0))
        heat = (heat + noise * torch.from_numpy(draw.normal(size=(32, 32))).float()).clamp(0, 1)
        peak = find_peaks(heat, stride=1, offset=0, threshold=0.3)[0]
        errors.append(math.dist(peak.box.centre, (x, y)))
    assert np.mean(errors) < mean_error
    assert np.quantile(errors, 0.95) < 0.15


def test_positions_are_in_px_of_the_frame() -> None:
    peak = find_peaks(spots(20, 30, [(12.3, 7.6)], 1.0), stride=4, offset=2.5)[0]
    assert peak.box.centre[0] == pytest.approx(2.5 + 4 * 12.3, abs=0.01)
    assert peak.box.centre[1] == pytest.approx(2.5 + 4 * 7.6, abs=0.01)
    assert peak.box[2:] == (8, 8)  # without sizes: two cells


def test_a_shift_by_a_cell_shifts_by_the_stride() -> None:
    torch.manual_seed(0)
    heat = torch.rand(24, 24) ** 4
    inner = torch.zeros(32, 32)
    inner[3:27, 3:27] = heat
    shifted = inner.roll((2, 1), (0, 1))
    before = find_peaks(inner, stride=4, offset=0, threshold=0.3)
    after = find_peaks(shifted, stride=4, offset=0, threshold=0.3)
    assert len(before) > 5
    moved = positions(before) + np.array([4, 8, 0])
    np.testing.assert_allclose(positions(after), moved, atol=1e-6)


def test_one_peak_per_gaussian_highest_first() -> None:
    heat = spots(32, 32, [(8, 8), (16, 8), (8, 20)], 1.5) * 1.0
    heat[8, 16] = 0.95
    heat[20, 8] = 0.85
    found = find_peaks(heat, stride=1, offset=0, threshold=0.3)
    assert centres(found) == [(16, 8), (8, 8), (8, 20)]
    assert [p.score for p in found] == pytest.approx([0.95, 0.9, 0.85])


def test_the_higher_peak_within_the_radius_is_kept() -> None:
    heat = torch.zeros(16, 16)
    heat[8, 5], heat[8, 7] = 0.9, 0.8
    assert centres(find_peaks(heat, stride=1, offset=0)) == [(5, 8)]
    assert centres(find_peaks(heat, stride=1, offset=0, radius=1)) == [(5, 8), (7, 8)]


@pytest.mark.parametrize("radius", [1, 2, 3, None])
def test_no_cell_within_the_radius_is_higher(radius: int | None) -> None:
    """Against a search cell by cell, with scores and with logits; the default radius is 2."""
    torch.manual_seed(0)
    heat, given = torch.rand(24, 30), {} if radius is None else {"radius": radius}
    reach = radius or 2
    expected = [
        float(heat[row, column])
        for row in range(24)
        for column in range(30)
        if heat[row, column] >= 0.5
        and heat[row, column]
        == heat[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1].max()
    ]
    maps = torch.cat([heat.logit()[None], torch.zeros(2, 24, 30)])
    for found in (
        find_peaks(heat, stride=4, offset=2, max_peaks=999, **given),
        decode_peaks(maps, stride=4, offset=2, max_peaks=999, **given),
    ):
        assert [peak.score for peak in found] == pytest.approx(sorted(expected, reverse=True))
    assert len(find_peaks(heat, stride=4, offset=2, threshold=0.001, radius=1)) == 20, (
        "the default of max_peaks"
    )
    assert len(decode_peaks(maps, stride=4, offset=2, threshold=0.001, radius=1)) == 20


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_flat_top_is_one_peak(size: int) -> None:
    heat = torch.full((16, 16), 0.1)
    heat[6 : 6 + size, 6 : 6 + size] = 1.0
    found = find_peaks(heat, stride=1, offset=0)
    assert len(found) == 1
    assert math.dist(found[0].box.centre, (6 + (size - 1) / 2,) * 2) <= math.sqrt(2)


def test_logits_whose_sigmoid_rounds_to_one_are_distinguished() -> None:
    logits = torch.full((3, 16, 16), -5.0)
    logits[0, 5, 5:8] = torch.tensor([17.2, 17.9, 17.2])  # float32's sigmoid is 1 for each
    assert bool((logits[0, 5, 5:8].sigmoid() == 1).all())
    assert centres(decode_peaks(logits, stride=1, offset=0)) == [(6, 5)]


def test_threshold_and_max_peaks() -> None:
    heat = spots(40, 40, [(5 + 8 * i, 5 + 8 * j) for i in range(4) for j in range(4)], 0.8, top=0.6)
    assert len(find_peaks(heat, stride=1, offset=0)) == 16
    assert len(find_peaks(heat, stride=1, offset=0, max_peaks=7)) == 7
    assert find_peaks(heat, stride=1, offset=0, threshold=0.61) == []


def test_sizes_are_those_of_the_cell() -> None:
    heat = spots(16, 16, [(5.2, 9.9)], 1.0)
    sizes = torch.rand(2, 16, 16)
    sizes[:, 10, 5] = torch.tensor([31.0, 17.0])
    assert find_peaks(heat, stride=2, offset=0, sizes=sizes)[0].box[2:] == (31.0, 17.0)
    maps = torch.cat([heat.logit(eps=1e-6)[None], sizes.log(), torch.rand(2, 16, 16)])
    assert decode_peaks(maps, stride=2, offset=0)[0].box[2:] == pytest.approx((31.0, 17.0))


def test_logits_and_scores_give_the_same_peaks() -> None:
    heat = spots(16, 24, [(5.2, 9.9), (17.7, 4.1)], 1.0)
    maps = torch.stack([heat.logit(eps=1e-7), torch.zeros(16, 24), torch.ones(16, 24)])
    a, b = find_peaks(heat, stride=4, offset=2), decode_peaks(maps, stride=4, offset=2)
    assert len(a) == 2
    np.testing.assert_allclose(positions(a), positions(b), rtol=1e-6, atol=1e-3)


def test_extreme_sizes_are_clipped() -> None:
    for size in (float("inf"), float("nan"), 1e9, -1e9):
        maps = torch.full((3, 8, 8), size)
        maps[0] = -9.0
        maps[0, 4, 4] = 3.0
        peak = decode_peaks(maps, stride=4, offset=0)[0]
        assert 1 <= peak.box.width <= 1e4, size
        assert 1 <= peak.box.height <= 1e4, size


def test_zero_and_nan_scores_give_no_peak() -> None:
    assert find_peaks(torch.zeros(8, 8), stride=4, offset=0) == []
    assert find_peaks(torch.full((8, 8), float("nan")), stride=4, offset=0) == []


def test_peaks_at_the_border_are_refined_inside() -> None:
    for row, column in ((0, 4), (7, 4), (4, 0), (4, 7), (0, 0), (7, 7)):
        heat = spots(8, 8, [(column, row)], 1.0)
        peak = find_peaks(heat, stride=1, offset=0)[0]
        assert peak.box.centre == pytest.approx((column, row), abs=1e-4)
    assert find_peaks(torch.ones(1, 1), stride=4, offset=2)[0].box.centre == (2, 2)


def test_it_works_in_half_precision_and_under_autograd() -> None:
    heat = spots(16, 16, [(5.2, 9.9)], 1.0)
    peak = find_peaks(heat.bfloat16().requires_grad_(), stride=1, offset=0)[0]
    assert math.dist(peak.box.centre, (5.2, 9.9)) < 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"heatmap": torch.zeros(1, 8, 8)},
        {"threshold": 0.0},
        {"threshold": 1.5},
        {"max_peaks": 0},
        {"radius": 0},
        {"sizes": torch.zeros(2, 4, 4)},
    ],
)
def test_arguments_out_of_range_are_named(wrong: dict[str, object]) -> None:
    right = {"heatmap": torch.ones(8, 8), "stride": 4, "offset": 0}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        find_peaks(**{**right, **wrong})
    with pytest.raises(ValueError, match="maps"):
        decode_peaks(torch.zeros(2, 8, 8), stride=4, offset=0)

"""Camouflage: one frame tells nothing, to no statistic and no trained classifier; two frames tell all."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2", reason="opencv is not here (canton-torch[track])")

from canton.motion.scenes import make_scene

COUNT, WINDOW = 400, 24


def aligned_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b| after the whole-pixel shift, up to 2 px, that makes most of the picture agree."""
    best = (np.inf, 0, 0)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            moved = b[4 + dy : -4 + dy : 3, 4 + dx : -4 + dx : 3]
            rest = float(np.median(np.abs(a[4:-4:3, 4:-4:3] - moved)))
            best = min(best, (rest, -dy, -dx))
    return np.abs(a - np.roll(b, best[1:], (0, 1)))


@pytest.fixture(scope="module")
def patches() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of scenes with an object: pieces of single frames and of differences of two, (2 COUNT, WINDOW, WINDOW),
    the second half cut at a place without it; and which half.
    """
    singles, doubles = [[], []], [[], []]
    rng = np.random.default_rng(0)
    for seed in range(COUNT):
        scene = make_scene(seed, kind="camouflage", frames=2, present=True)
        grey = scene.frames.astype(np.float32).mean(-1)
        apart = aligned_difference(grey[0], grey[1])
        x, y = scene.centres[0].astype(int) - WINDOW // 2
        x, y = np.clip((x, y), 0, 128 - WINDOW)
        other = x, y
        while abs(other[0] - x) < 30 and abs(other[1] - y) < 30:
            other = tuple(rng.integers(0, 128 - WINDOW, 2))
        for k, (left, top) in enumerate(((x, y), other)):
            cut = slice(top, top + WINDOW), slice(left, left + WINDOW)
            singles[k].append(grey[0][cut] / grey[0].std())
            doubles[k].append(apart[cut] / apart.std())
    side = np.repeat([1.0, -1.0], COUNT)
    return np.array(singles[0] + singles[1]), np.array(doubles[0] + doubles[1]), side


def features(patch: np.ndarray) -> np.ndarray:
    """Pixels coarse and fine, their squares, edges, and moments of the whole: (N, features)."""
    count = len(patch)
    patch = patch - patch.mean((1, 2), keepdims=True)
    dx, dy = np.abs(np.diff(patch, axis=2)), np.abs(np.diff(patch, axis=1))

    def pooled(values: np.ndarray) -> np.ndarray:
        side = values.shape[1] // 4 * 4, values.shape[2] // 4 * 4
        cells = values[:, : side[0], : side[1]].reshape(count, side[0] // 4, 4, side[1] // 4, 4)
        return cells.mean((2, 4)).reshape(count, -1)

    moments = np.stack([patch.std((1, 2)), (patch**4).mean((1, 2)), dx.mean((1, 2)), dy.mean((1, 2))], 1)
    return np.concatenate([pooled(patch), pooled(patch**2), pooled(dx), pooled(dy), moments], 1)


def accuracy(patch: np.ndarray, side: np.ndarray) -> float:
    """Of a ridge classifier, trained on half of the scenes, on the other half."""
    table = features(patch)
    table = (table - table.mean(0)) / (table.std(0) + 1e-6)
    table = np.concatenate([table, np.ones((len(table), 1))], 1)
    train = np.tile(np.arange(COUNT) % 2 == 0, 2)
    gram = table[train].T @ table[train] + 30 * np.eye(table.shape[1])
    weights = np.linalg.solve(gram, table[train].T @ side[train])
    return float((np.sign(table[~train] @ weights) == side[~train]).mean())


def test_a_classifier_of_single_frames_stays_at_chance(
    patches: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    singles, doubles, side = patches
    chance = 0.5 + 4 * 0.5 / np.sqrt(COUNT)  # COUNT patches are tested: four standard deviations
    assert accuracy(singles, side) < chance
    assert accuracy(doubles, side) > 0.9


def test_no_statistic_of_single_frames_tells(patches: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """In pairs of a patch with and one without the object, each statistic is as often larger as smaller."""
    singles, doubles, _ = patches

    def larger(patch: np.ndarray) -> np.ndarray:
        table = features(patch)[:, -4:]
        return (table[:COUNT] > table[COUNT:]).mean(0)

    assert (np.abs(larger(singles) - 0.5) < 4 * 0.5 / np.sqrt(COUNT)).all()
    assert (larger(doubles) > 0.85).any()


def test_it_never_stands_still() -> None:
    for seed in range(40):
        scene = make_scene(seed, kind="camouflage", frames=8, present=True)
        steps = np.abs(np.diff(scene.boxes[:, :2], axis=0)).max(1)
        assert (steps >= 1).all()
        assert (scene.boxes[:, :2] == np.round(scene.boxes[:, :2])).all()
        assert 8 <= scene.boxes[:, 2:].max() <= 24

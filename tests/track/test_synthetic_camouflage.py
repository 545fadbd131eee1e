"""Camouflage: single frames carry no information about the target, pairs of frames do."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2", reason="opencv is not installed (canton-torch[track])")

from canton.track.synthetic import make_scene

COUNT, PAIRS, WINDOW = 1500, 300, 24


def aligned_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return |a - b| after the integer shift, up to 2 px, with the best agreement."""
    best = (np.inf, 0, 0)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            moved = b[4 + dy : -4 + dy : 3, 4 + dx : -4 + dx : 3]
            rest = float(np.median(np.abs(a[4:-4:3, 4:-4:3] - moved)))
            best = min(best, (rest, -dy, -dx))
    return np.abs(a - np.roll(b, best[1:], (0, 1)))


@pytest.fixture(scope="module")
def patches() -> tuple[np.ndarray, np.ndarray]:
    """Return patches of frames (2 COUNT, WINDOW, WINDOW) and of differences of two frames (2 PAIRS, ...).

    The first half of each shows the object, the second half the background.
    """
    frames: list[list[np.ndarray]] = [[], []]
    differences: list[list[np.ndarray]] = [[], []]
    before, seed = (0, 0), 0
    while len(frames[0]) < COUNT:
        both = len(differences[0]) < PAIRS
        scene = make_scene(seed, kind="camouflage", frames=1 + both, present=True)
        grey = scene.frames.astype(np.float32).mean(-1)
        place = tuple(np.clip(scene.centres[0].astype(int) - WINDOW // 2, 0, 128 - WINDOW))
        if max(abs(place[0] - before[0]), abs(place[1] - before[1])) > 30:
            difference = aligned_difference(grey[0], grey[1]) if both else None
            for k, (left, top) in enumerate((place, before)):
                cut = slice(top, top + WINDOW), slice(left, left + WINDOW)
                frames[k].append(grey[0][cut] / grey[0].std())
                if difference is not None:
                    differences[k].append(difference[cut] / difference.std())
        before, seed = place, seed + 1
    return np.array(frames[0] + frames[1]), np.array(differences[0] + differences[1])


def features(patch: np.ndarray) -> np.ndarray:
    """Return pixels at two scales, their squares, edges and moments: (N, features)."""
    count = len(patch)
    patch = patch - patch.mean((1, 2), keepdims=True)
    dx, dy = np.abs(np.diff(patch, axis=2)), np.abs(np.diff(patch, axis=1))

    def pooled(values: np.ndarray) -> np.ndarray:
        side = values.shape[1] // 4 * 4, values.shape[2] // 4 * 4
        cells = values[:, : side[0], : side[1]].reshape(count, side[0] // 4, 4, side[1] // 4, 4)
        return cells.mean((2, 4)).reshape(count, -1)

    moments = np.stack([patch.std((1, 2)), (patch**4).mean((1, 2)), dx.mean((1, 2)), dy.mean((1, 2))], 1)
    return np.concatenate([pooled(patch), pooled(patch**2), pooled(dx), pooled(dy), moments], 1)


def accuracy(patch: np.ndarray) -> float:
    """Return the test accuracy of a ridge classifier trained on half of the scenes."""
    count = len(patch) // 2
    side = np.repeat([1.0, -1.0], count)
    table = features(patch)
    table = (table - table.mean(0)) / (table.std(0) + 1e-6)
    table = np.concatenate([table, np.ones((len(table), 1))], 1)
    train = np.tile(np.arange(count) % 2 == 0, 2)
    gram = table[train].T @ table[train] + 30 * np.eye(table.shape[1])
    weights = np.linalg.solve(gram, table[train].T @ side[train])
    return float((np.sign(table[~train] @ weights) == side[~train]).mean())


def test_classifier_of_single_frames_is_at_chance(patches: tuple[np.ndarray, np.ndarray]) -> None:
    frames, differences = patches
    assert accuracy(frames) < 0.5 + 4 * 0.5 / np.sqrt(
        COUNT
    )  # COUNT patches are tested: four standard deviations
    assert accuracy(differences) > 0.9


def test_statistics_of_single_frames_are_at_chance(patches: tuple[np.ndarray, np.ndarray]) -> None:
    """With and without the target, each statistic is larger in half of the pairs."""

    def larger(patch: np.ndarray) -> np.ndarray:
        table = features(patch[:, 6:-6, 6:-6])[:, -4:]
        return (table[: len(table) // 2] > table[len(table) // 2 :]).mean(0)

    frames, differences = patches
    assert (np.abs(larger(frames) - 0.5) < 4 * 0.5 / np.sqrt(COUNT)).all()
    assert (larger(differences) > 0.85).any()


def test_target_never_stands_still() -> None:
    for seed in range(40):
        scene = make_scene(seed, kind="camouflage", frames=8, present=True)
        steps = np.abs(np.diff(scene.boxes[:, :2], axis=0)).max(1)
        assert (steps >= 1).all()
        assert (scene.boxes[:, :2] == np.round(scene.boxes[:, :2])).all()
        assert 8 <= scene.boxes[:, 2:].max() <= 24

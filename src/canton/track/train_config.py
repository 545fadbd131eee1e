"""The settings of a training run: what they are if nothing is said, and what they may be."""

from __future__ import annotations

import math
from typing import Any

from canton.errors import UserError

MOST_SEED = 2**63 - 1

RECIPE: dict[str, Any] = {
    "batch": 8,
    "length": 8,
    "pieces": 2,
    "singles": 0,
    "size": 128,
    "rate": 5e-3,
    "weight_decay": 0.01,
    "clip": 1.0,
    "average": 0.998,
    "fps": 10.0,
    "width": 640,
    "scene_share": 0.5,
    "scene_kind": "mixed",
    "sought": "drone",
    "modality": None,
    "seed": 0,
}
"""The settings of a run that says nothing else."""


def complete(given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run to which these were `given`.

    Raises: UserError for one that is of footage or of made scenes where there is none.
    """
    empty = dict.fromkeys(("start", "footage", "backgrounds", "scenes", "steps", "minutes"))
    chosen = {**RECIPE, **empty, **given}
    if chosen["scenes"] is None:
        chosen["scenes"] = chosen["footage"] is None
    for name in ("scene_share", "scene_kind", "backgrounds"):
        if name in given and not chosen["scenes"]:
            raise UserError(f"{name} is {given[name]}: it is for made scenes, of which none are asked for")
    for name in ("scene_share", "modality"):
        if name in given and chosen["footage"] is None:
            raise UserError(f"{name} is {given[name]}: it is for footage, of which none is given")
    if chosen["steps"] is None and chosen["minutes"] is None:
        chosen["minutes"] = 10.0
    return chosen


def check(settings: dict[str, Any], processes: int, workers: int, save_seconds: float) -> None:
    """Raises: UserError if a number is out of its range."""
    if not save_seconds >= 0:
        raise UserError(f"save_seconds is {save_seconds}: it is a number of at least 0")
    if settings["seed"] > MOST_SEED:
        raise UserError(f"seed is {settings['seed']}: it is a whole number of at most {MOST_SEED}")
    for name in ("rate", "clip", "fps"):
        if not 0 < settings[name] < math.inf:
            raise UserError(f"{name} is {settings[name]}: it is a number above 0")
    leasts = {"batch": 1, "length": 1, "pieces": 1, "singles": 0, "size": 32, "width": 32, "seed": 0}
    numbers = {name: settings[name] for name in leasts} | {"workers": workers}
    for name, number in numbers.items():
        if number < (least := leasts.get(name, 0)):
            raise UserError(f"{name} is {number}: it is a whole number of at least {least}")
    if not 0 <= settings["scene_share"] <= 1:
        raise UserError(f"scene_share is {settings['scene_share']}: it lies in [0, 1]")
    if not 0 <= settings["average"] < 1:
        raise UserError(f"average is {settings['average']}: it lies in [0, 1)")
    if processes > 0 and settings["batch"] % processes:
        raise UserError(f"batch is {settings['batch']}: {processes} processes cannot share it evenly")

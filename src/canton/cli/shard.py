"""Shards: the part of the inputs that one of several machines or processes takes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from canton.errors import UserError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """One of `count` parts. `number` counts from 1."""

    number: int
    count: int

    def take(self, items: Sequence[Item]) -> list[Item]:
        """Return every `count`-th item, starting with item `number`."""
        return list(items[self.number - 1 :: self.count])


def parse_shard(text: str) -> Shard:
    """Return the shard that "i/n" names, with 1 <= i <= n.

    Raises:
        UserError: the text has another form.
    """
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return Shard(int(number), int(count))
    raise UserError(f"--shard must be i/n with 1 <= i <= n, such as 2/8, got {text}")


def choose_shard(text: str | None, environment: Mapping[str, str] = os.environ) -> Shard:
    """Return the shard of --shard, or else the one that a job scheduler sets in the environment.

    Read are SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT (SLURM), RANK and WORLD_SIZE (torchrun), and
    JOB_COMPLETION_INDEX (Kubernetes) with JOB_COMPLETIONS. Ranks within an array task split its part.
    Kubernetes does not set JOB_COMPLETIONS: set it in the job's specification.

    Args:
        text: the value of --shard, "i/n". None: not given.
        environment: the environment variables.

    Raises:
        UserError: the text or a variable is invalid.
    """
    if text is not None:
        return parse_shard(text)
    index, count = 0, 1
    for part, parts in (_slurm(environment), _torchrun(environment), _kubernetes(environment)):
        index, count = index * parts + part, count * parts
    return Shard(index + 1, count)


def _slurm(environment: Mapping[str, str]) -> tuple[int, int]:
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return 0, 1
    task = _number(environment, "SLURM_ARRAY_TASK_ID")
    count = _number(environment, "SLURM_ARRAY_TASK_COUNT")
    first = _number(environment, "SLURM_ARRAY_TASK_MIN", 0)
    step = _number(environment, "SLURM_ARRAY_TASK_STEP", 1)
    return _checked("SLURM_ARRAY_TASK_ID", (task - first) // max(1, step), count)


def _torchrun(environment: Mapping[str, str]) -> tuple[int, int]:
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return 0, 1
    return _checked("RANK", _number(environment, "RANK"), _number(environment, "WORLD_SIZE"))


def _kubernetes(environment: Mapping[str, str]) -> tuple[int, int]:
    if "JOB_COMPLETION_INDEX" not in environment:
        return 0, 1
    index = _number(environment, "JOB_COMPLETION_INDEX")
    return _checked("JOB_COMPLETION_INDEX", index, _number(environment, "JOB_COMPLETIONS"))


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal():
        got = "nothing" if text is None else repr(text)
        raise UserError(f"{name} must be a number to choose the shard, got {got}: set it, or use --shard i/n")
    return int(text)


def _checked(name: str, index: int, count: int) -> tuple[int, int]:
    if not 0 <= index < count:
        raise UserError(f"{name} must be one of {count} parts, got part {index} from 0: use --shard i/n")
    return index, count

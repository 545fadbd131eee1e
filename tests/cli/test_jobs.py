"""Worker processes and shards of the commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from canton.cli.jobs import run_jobs
from canton.cli.shard import Shard, choose_shard
from canton.errors import UserError


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_every_item_is_in_one_shard(count: int) -> None:
    items = list(range(17))
    parts = [choose_shard(f"{k}/{count}", {}).take(items) for k in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({}, (1, 1)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "5"}, (4, 5)),
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "5", "SLURM_ARRAY_TASK_MIN": "1"}, (1, 5)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_STEP": "2",
            },
            (4, 4),
        ),
        ({"RANK": "0", "WORLD_SIZE": "2"}, (1, 2)),
        ({"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "3"}, (3, 3)),
        (
            {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2", "RANK": "1", "WORLD_SIZE": "4"},
            (6, 8),
        ),
    ],
)
def test_schedulers_set_the_shard(environment: dict[str, str], shard: tuple[int, int]) -> None:
    assert choose_shard(None, environment) == Shard(*shard)
    assert choose_shard("1/9", environment) == Shard(1, 9), "the option has priority"


@pytest.mark.parametrize("text", ["", "0/2", "3/2", "1", "a/b", "-1/2", "1/2/3"])
def test_an_invalid_shard(text: str) -> None:
    with pytest.raises(UserError, match="--shard"):
        choose_shard(text, {})


@pytest.mark.parametrize(
    "environment",
    [
        {"JOB_COMPLETION_INDEX": "0"},
        {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "2"},
        {"RANK": "x", "WORLD_SIZE": "2"},
    ],
)
def test_an_invalid_environment_is_named(environment: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"JOB_COMPLETIONS|SLURM_ARRAY_TASK_ID|RANK"):
        choose_shard(None, environment)


def square() -> Callable[[int], tuple[int, int]]:
    """Return a function that squares a number. 3 raises, and 5 kills the process."""

    def do(number: int) -> tuple[int, int]:
        if number == 3:
            raise UserError("three is broken")
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number, os.getpid()

    return do


def no_setup() -> Callable[[int], int]:
    raise UserError("no model")


def test_a_killed_worker_loses_one_job() -> None:
    ended = {one.job: one for one in run_jobs(square, range(8), workers=2)}
    assert sorted(ended) == list(range(8))
    assert ended[3].error == "three is broken"
    assert "SIGKILL" in str(ended[5].error)
    good = [one for one in ended.values() if one.error is None]
    assert [one.result[0] for one in good if one.result] == [one.job**2 for one in good]
    assert len(good) == 6
    assert len({one.result[1] for one in good if one.result} - {os.getpid()}) <= 3, "workers are reused"


def test_this_process_as_the_worker() -> None:
    ended = list(run_jobs(square, [1, 3, 2], workers=0))
    assert [one.error for one in ended] == [None, "three is broken", None]
    assert ended[2].result == (4, os.getpid())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_worker_that_cannot_start(workers: int) -> None:
    with pytest.raises(UserError, match="no model"):
        list(run_jobs(no_setup, [1, 2], workers=workers))


ORPHANS = """
import os, time
from canton.cli.jobs import run_jobs

def setup():
    print(os.getpid(), flush=True)
    return time.sleep

if __name__ == "__main__":
    list(run_jobs(setup, [60, 60], workers=1))
"""


def test_workers_end_with_a_killed_run(root: Path, tmp_path: Path) -> None:
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    run = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
    )
    assert run.stdout is not None
    worker = int(run.stdout.readline())
    run.kill()
    run.wait()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if "Z" in Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0]:
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its run")

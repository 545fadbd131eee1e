"""Devices, precision and processes, with Lightning Fabric."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from canton.errors import UserError, require
from canton.io.atomic import os_error_reason

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def world_size(processes: int, environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of processes of a run: those that torchrun started, or else `processes`.

    Raises: UserError if torchrun started another number than `processes` (1: any), or srun started several.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        started = int(environment["WORLD_SIZE"])
        if processes not in (1, started):
            raise UserError(f"processes must be {started}, as torchrun started, got {processes}: omit it")
        return started
    tasks = environment.get("SLURM_NTASKS", "1")
    if "SLURM_STEP_ID" in environment and tasks.isdecimal() and int(tasks) > 1:
        raise UserError(
            f"srun started {tasks} tasks, which would each train alone: start one task with --processes, or "
            "torchrun in each"
        )
    return processes


def make_fabric(
    *, accelerator: str = "cpu", processes: int = 1, precision: str = "32-true", log_dir: Path | None = None
) -> Fabric:
    """Return a Lightning Fabric for `fit`. With several processes its `launch` reruns this program in each.

    Args:
        accelerator: "cpu", "cuda", "mps" or "auto".
        processes: number of processes, one device each; on "cpu" they share the cores. torchrun's take their
            place.
        precision: Fabric's name, such as "32-true", "bf16-mixed", "16-mixed", "64-true".
        log_dir: directory for TensorBoard logs.

    Raises: UserError for a missing device or a setting that Fabric refuses; MissingExtra without Fabric, or,
    for `log_dir`, without TensorBoard.
    """
    if processes < 1:
        raise UserError(f"processes must be >= 1, got {processes}")
    devices = {"cuda": torch.cuda, "mps": torch.backends.mps}
    if accelerator in devices and not devices[accelerator].is_available():
        raise UserError(f"accelerator {accelerator} is not available to torch on this machine: use cpu")
    total = world_size(processes)
    local = int(os.environ["LOCAL_WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else processes
    fabric = require("lightning_fabric", extra="text")
    loggers = []
    if log_dir is not None:
        require("tensorboard", extra="log")
        try:
            log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot create the log directory {log_dir}: {os_error_reason(error)}") from error
        loggers = [fabric.loggers.TensorBoardLogger(str(log_dir), name="", version="")]
    try:
        result: Fabric = fabric.Fabric(
            accelerator=accelerator,
            devices=local,
            num_nodes=total // local,
            strategy="ddp" if total > 1 else "auto",
            precision=precision,
            loggers=loggers,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"cannot train with accelerator {accelerator} and precision {precision}: {error}"
        ) from error
    return result

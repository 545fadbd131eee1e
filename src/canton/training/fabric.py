"""Devices, precision and processes, with Lightning Fabric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from canton.errors import UserError, require
from canton.io.atomic import os_error_reason

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def make_fabric(
    *, accelerator: str = "cpu", processes: int = 1, precision: str = "32-true", log_dir: Path | None = None
) -> Fabric:
    """Return a Lightning Fabric for `fit`. With several processes its `launch` reruns this program in each.

    Args:
        accelerator: "cpu", "cuda", "mps" or "auto".
        processes: number of processes, one device each; on "cpu" they share the cores.
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
            devices=processes,
            strategy="ddp" if processes > 1 else "auto",
            precision=precision,
            loggers=loggers,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"cannot train with accelerator {accelerator} and precision {precision}: {error}"
        ) from error
    return result

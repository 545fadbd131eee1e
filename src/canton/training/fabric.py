"""Devices, precision and processes: Lightning Fabric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from canton.errors import UserError, require

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def make_fabric(
    *, accelerator: str = "cpu", processes: int = 1, precision: str = "32-true", log: str | None = None
) -> Fabric:
    """A Lightning Fabric for `fit`; with several processes its `launch` starts the others, by running this
    program again.

    Args:
        accelerator: "cpu", "cuda", "mps" or "auto".
        processes: how many, each with a device of its own (on "cpu": a share of the cores).
        precision: as Fabric names them, such as "32-true", "bf16-mixed", "16-mixed", "64-true".
        log: a directory for TensorBoard, or None.

    Raises: UserError for a device that is not there or a setting Fabric refuses; MissingExtra if Fabric, or
    for `log` TensorBoard, is missing.
    """
    if processes < 1:
        raise UserError(f"processes is {processes}: it is a whole number of at least 1")
    devices = {"cuda": torch.cuda, "mps": torch.backends.mps}
    if accelerator in devices and not devices[accelerator].is_available():
        raise UserError(f"accelerator is {accelerator}, and torch finds none here: take cpu")
    fabric = require("lightning_fabric", extra="text")
    loggers = []
    if log is not None:
        require("tensorboard", extra="log")
        try:
            Path(log).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to the folder {log}: {error.strerror}") from error
        loggers = [fabric.loggers.TensorBoardLogger(log, name="", version="")]
    try:
        made: Fabric = fabric.Fabric(
            accelerator=accelerator,
            devices=processes,
            strategy="ddp" if processes > 1 else "auto",
            precision=precision,
            loggers=loggers,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"cannot train so (accelerator {accelerator}, precision {precision}): {error}"
        ) from error
    return made

"""Saving a Can's weights and loading them, from safetensors files and from those of the 2017 library."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from canton.classic.registry import Registry
from canton.classic.weights_2017 import read_canton01, write_canton01
from canton.errors import UserError
from canton.io.atomic import os_error_reason
from canton.io.tensor_file import read_tensors, write_tensors

FORMATS = ("safetensors", "canton-0.1")
KIND = "canton-classic"


def save_can(can: Registry, filename: str | PathLike[str], format: str) -> bool:
    """See `Can.save_weights`."""
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}: it is 'safetensors' or 'canton-0.1'")
    entries = _entries(can)
    print(len(entries), "weights (and variables) obtained.")
    if format == "canton-0.1":
        write_canton01(Path(filename), [as_array(tensor) for _, tensor in entries])
    else:
        # A clone each: safetensors refuses a weight that stands under two names.
        write_tensors(Path(filename), {name: t.clone() for name, t in entries}, {}, format=KIND)
    print("successfully saved to", filename)
    return True


def load_can(can: Registry, filename: str | PathLike[str]) -> bool:
    """See `Can.load_weights`."""
    path = Path(filename)
    entries = _entries(can)
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise UserError(f"cannot read {path}: {os_error_reason(error)}") from error
    if start.startswith((b"PK", b"\x93NUMPY")):
        # A Can of float32 may be given the float64 of an old .npy: twice its size, and room for headers.
        room = sum(8 * tensor.numel() + 4096 for _, tensor in entries) + 65536
        loaded = [(None, torch.from_numpy(array)) for array in read_canton01(path, max_bytes=room)]
        _check(entries, [(None, tensor) for _, tensor in loaded])
        values = [tensor for _, tensor in loaded]
    else:
        tensors = read_tensors(path, format=KIND)[0]
        _check(entries, [(name, tensors[name]) for name in _in_order(entries, tensors)])
        values = [tensors[name] for name, _ in entries]
    print("successfully loaded from", filename)
    with torch.no_grad():
        for (_, tensor), value in zip(entries, values, strict=True):
            tensor.copy_(value)
    print(len(values), "weights assigned.")
    return True


def as_array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The tensor's numbers; NumPy has no bfloat16, whose numbers float32 holds as they are."""
    tensor = tensor.detach().cpu()
    array: np.ndarray[Any, Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _entries(can: Registry) -> list[tuple[str, Tensor]]:
    """All weights of the tree, then all variables: the order of the 2017 files."""
    return [*can._walk("weights"), *can._walk("variables")]


def _in_order(entries: list[tuple[str, Tensor]], tensors: dict[str, Tensor]) -> list[str]:
    """The file's names: those of the model in its order, then what the model does not have."""
    names = [name for name, _ in entries]
    return [*(name for name in names if name in tensors), *(name for name in tensors if name not in names)]


def _check(entries: list[tuple[str, Tensor]], loaded: list[tuple[str | None, Tensor]]) -> None:
    """The file's weights are the model's in number, in names where the file has names, and in shape."""
    for index in range(max(len(entries), len(loaded))):
        path, wanted = entries[index] if index < len(entries) else ("", None)
        name, found = loaded[index] if index < len(loaded) else (None, None)
        if wanted is None or found is None or found.shape != wanted.shape or (name or path) != path:
            has = "nothing" if found is None else f"{name + ': ' if name else ''}{_shape(found)}"
            wants = "nothing" if wanted is None else f"{path}: {_shape(wanted)}"
            what = f"weight {index}: the file has {has}, the model wants {wants}"
            if len(entries) == len(loaded):
                raise ValueError(what)
            raise NameError(
                f"number of weights (variables) from the file({len(loaded)}) differ from the "
                f"model({len(entries)}). First difference: {what}"
            )


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"

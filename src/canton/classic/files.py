"""Save and load the weights of a Can, as safetensors or in the format of the 2017 library."""

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
    """Implement `Can.save_weights`."""
    if format not in FORMATS:
        raise ValueError(f"format must be 'safetensors' or 'canton-0.1', got {format!r}")
    entries = _entries(can)
    print(len(entries), "weights (and variables) obtained.")
    if format == "canton-0.1":
        write_canton01(Path(filename), [as_array(tensor) for _, tensor in entries])
    else:
        # Clones, because safetensors refuses a weight with two names.
        write_tensors(Path(filename), {name: t.clone() for name, t in entries}, {}, format=KIND)
    print("successfully saved to", filename)
    return True


def load_can(can: Registry, filename: str | PathLike[str]) -> bool:
    """Implement `Can.load_weights`."""
    path = Path(filename)
    entries = _entries(can)
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise UserError(f"cannot read {path}: {os_error_reason(error)}") from error
    if start.startswith((b"PK", b"\x93NUMPY")):
        # An old .npy may have float64 for float32, and there are headers.
        max_bytes = sum(8 * tensor.numel() + 4096 for _, tensor in entries) + 65536
        loaded = [(None, torch.from_numpy(array)) for array in read_canton01(path, max_bytes=max_bytes)]
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
    """Return the tensor as an array. NumPy has no bfloat16, so that becomes float32."""
    tensor = tensor.detach().cpu()
    array: np.ndarray[Any, Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _entries(can: Registry) -> list[tuple[str, Tensor]]:
    """Return the names and tensors of all weights, then of all variables: the order of the 2017 files."""
    return [*can._walk("weights"), *can._walk("variables")]


def _in_order(entries: list[tuple[str, Tensor]], tensors: dict[str, Tensor]) -> list[str]:
    """Return the file's names: the model's in its order, then the others."""
    names = [name for name, _ in entries]
    return [*(name for name in names if name in tensors), *(name for name in tensors if name not in names)]


def _check(entries: list[tuple[str, Tensor]], loaded: list[tuple[str | None, Tensor]]) -> None:
    """Check that the file's weights have the model's number, shapes and, in safetensors, names."""
    for index in range(max(len(entries), len(loaded))):
        path, expected = entries[index] if index < len(entries) else ("", None)
        name, found = loaded[index] if index < len(loaded) else (None, None)
        if expected is None or found is None or found.shape != expected.shape or (name or path) != path:
            has = "nothing" if found is None else f"{name + ': ' if name else ''}{_shape(found)}"
            expects = "nothing" if expected is None else f"{path}: {_shape(expected)}"
            what = f"weight {index}: the file has {has}, the model expects {expects}"
            if len(entries) == len(loaded):
                raise ValueError(what)
            raise NameError(
                f"number of weights (variables) from the file({len(loaded)}) differ from the "
                f"model({len(entries)}). First difference: {what}"
            )


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"

"""The table that `Can.summary` prints."""

from __future__ import annotations

from collections import Counter

from torch import Tensor

from canton.classic.registry import Registry


def summarize(can: Registry) -> None:
    """Print the tables of weights and of variables, as the 2017 library does."""
    print("-------------------")
    print("Directly Trainable:")
    _table(list(can._walk("weights")))
    print("-------------------")
    print("Not Directly Trainable:")
    _table(list(can._walk("variables")))
    print("-------------------")


def _table(entries: list[tuple[str, Tensor]]) -> None:
    print("counting variables...")
    count: Counter[str] = Counter()
    for path, tensor in entries:
        shape = "".join(f"{size:>5}" for size in tensor.shape)
        name = path.rpartition(".")[2].partition(":")[0]
        label = f"{name}_{count[name]}" if count[name] else name  # as TensorFlow numbers equal names
        count[name] += 1
        print(f"{shape:>25}  ->  {tensor.numel():<6} {label}:0")
    total = sum(tensor.numel() for _, tensor in entries)
    print(f"{'tensors: ' + str(len(entries)):>25}  ->  {total:<6} variables")

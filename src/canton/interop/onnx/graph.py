"""A builder of ONNX graphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from canton.errors import require
from canton.io.atomic import atomic_write

OPSET = 19
"""The first operator set with Pad's mode "wrap", for circular convolutions."""

Size = int | str | None


def save_model(model: Any, path: str | Path | None) -> Any:
    """Save the onnx.ModelProto `model`, if there is a path, and return it.

    Raises:
        UserError: the file cannot be written.
    """
    if path is not None:
        with atomic_write(Path(path)) as file:
            file.write(model.SerializeToString())
    return model


class Graph:
    """The operators and constants of a graph. A value is its name, a string.

    Args:
        outer: the enclosing graph, if this one is the body of a Scan. It stores the constants of both.
    """

    def __init__(self, outer: Graph | None = None) -> None:
        self._onnx = require("onnx", extra="onnx")
        self._root: Graph = self if outer is None else outer._root
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._ends: tuple[list[Any], list[Any]] = ([], [])
        self._count = 0

    def name(self, kind: str) -> str:
        """Return a name that no other value has."""
        self._root._count += 1
        return f"{kind.lower()}_{self._root._count}"

    def input(self, name: str, shape: Sequence[Size], dtype: torch.dtype = torch.float32) -> str:
        """Add an input. An axis named by a string may have any size."""
        self._ends[0].append(self._value(name, shape, dtype))
        return name

    def output(
        self, value: str, name: str, shape: Sequence[Size], dtype: torch.dtype = torch.float32
    ) -> None:
        """Make `value` an output called `name`."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [value], [name]))
        self._ends[1].append(self._value(name, shape, dtype))

    def constant(self, value: Tensor | Sequence[int], *, keep_dtype: bool = False) -> str:
        """Add a constant, as float32 or int64 unless `keep_dtype`."""
        numbers = (
            value.detach().cpu() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.int64)
        )
        if not keep_dtype:
            numbers = numbers.float() if numbers.is_floating_point() else numbers.long()
        name = self.name("constant")
        array = numbers.contiguous().numpy()
        self._root._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, inputs: Sequence[str], attributes: dict[str, Any] | None = None) -> str:
        """Add an operator with one output, and return its name."""
        return self.ops(kind, inputs, 1, attributes)[0]

    def ops(
        self, kind: str, inputs: Sequence[str], outputs: int, attributes: dict[str, Any] | None = None
    ) -> list[str]:
        """Add an operator with several outputs, and return their names."""
        names = [self.name(kind) for _ in range(outputs)]
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), names, **(attributes or {})))
        return names

    def split(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Split `value` along `axis`."""
        if len(sizes) == 1:
            return [value]
        return self.ops("Split", [value, self.constant(sizes)], len(sizes), {"axis": axis})

    def shape(self, value: str, start: int, end: int | None = None) -> str:
        """Return the sizes of `value`'s axes `start` to `end` - 1, as integers."""
        attributes = {"start": start} if end is None else {"start": start, "end": end}
        return self.op("Shape", [value], attributes)

    def body(self) -> Any:
        """Return the graph as a GraphProto, for a Scan."""
        return self._onnx.helper.make_graph(self._nodes, self.name("body"), *self._ends)

    def model(self, name: str) -> Any:
        """Return the checked model.

        Raises:
            onnx.checker.ValidationError: the graph is invalid, which is a bug in Canton.
        """
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, name, *self._ends, initializer=self._constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=9, producer_name="canton")
        self._onnx.checker.check_model(model, full_check=True)
        return model

    def _value(self, name: str, shape: Sequence[Size], dtype: torch.dtype) -> Any:
        kinds = {torch.float32: "FLOAT", torch.int64: "INT64", torch.bool: "BOOL"}
        kind = getattr(self._onnx.TensorProto, kinds[dtype])
        return self._onnx.helper.make_tensor_value_info(name, kind, list(shape))

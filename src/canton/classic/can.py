"""Can: the base class of all layers, a container of weights and of other Cans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from canton.classic.files import as_array, load_can, save_can
from canton.classic.registry import Registry
from canton.classic.summary import summarize
from canton.classic.training_state import set_training_state


class Can(Registry):
    """A container of weights and of other Cans, and a torch.nn.Module.

    Define what it computes in one of three ways: override ``__call__`` (or torch's ``forward``), call
    `set_function`, or add Cans and call `chain`. Add Cans with `incan` or `add`, so that their weights are
    listed.

    Raises:
        NameError: on a call, if it does not define what to compute.
    """

    def make_weight(
        self,
        shape: Iterable[int],
        name: str = "W",
        mean: float = 0.0,
        stddev: float = 1e-2,
        initializer: Any = None,
    ) -> nn.Parameter:
        """Create a trainable tensor, from a normal distribution truncated at 2 `stddev`.

        Args:
            shape: its shape.
            name: its name until it is assigned to an attribute.
            mean, stddev: of the distribution before truncation; the true deviation is 0.88 of it.
            initializer: the initial value (array or tensor) instead of random numbers.
        """
        if initializer is None:
            value = torch.empty(tuple(shape))
            if stddev > 0:
                nn.init.trunc_normal_(value, mean, stddev, mean - 2 * stddev, mean + 2 * stddev)
            else:
                value.fill_(mean)
        else:
            value = torch.as_tensor(initializer).detach().clone()
        weight = nn.Parameter(value)
        self._register(weight, name, ("weights", "only_weights"))
        return weight

    def make_bias(self, shape: Iterable[int], name: str = "b", mean: float = 0.0) -> nn.Parameter:
        """Create a trainable tensor filled with `mean`."""
        bias = nn.Parameter(torch.full(tuple(shape), float(mean)))
        self._register(bias, name, ("weights", "biases"))
        return bias

    def make_variable(self, nparray: Any, name: str = "v") -> Tensor:
        """Create a tensor from an array that is saved with the weights and not trained."""
        variable = torch.as_tensor(nparray).detach().clone()
        self._register(variable, name, ("variables",))
        return variable

    def incan(self, c: nn.Module | Iterable[nn.Module]) -> None:
        """Add one Can, or several.

        Raises:
            TypeError: one of them is not a module; `Lambda` makes a Can of a function.
        """
        for can in [c] if isinstance(c, nn.Module) and not hasattr(c, "__iter__") else _all_of(c):
            if not isinstance(can, nn.Module):
                raise TypeError(f"c must be Cans (Lambda makes one of a function), got {can!r}")
            self._register_can(can)

    def add(self, c: Any) -> Any:
        """Add one Can, or several, and return the argument."""
        self.incan(c)
        return c

    def chain(self) -> None:
        """Compute by calling the added Cans one after the other."""
        self.set_function(self._call_in_turn)  # copy.deepcopy binds the method to the copy

    def _call_in_turn(self, i: Any) -> Any:
        for can in self.subcans:
            i = can(i)
        return i

    def set_function(self, func: Callable[..., Any]) -> None:
        """Compute by calling `func`."""
        self.func = func

    def forward(self, i: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute the output."""
        if not hasattr(self, "func"):
            raise NameError("You didnt override __call__(), nor called set_function()/chain()")
        return self.func(i, *args, **kwargs)

    def traverse(self, target: str = "weights", f: Callable[[Any], Any] = lambda x: x) -> list[Any]:
        """Return f(x) for every x in the list `target` of this Can and of all Cans inside.

        `target` is "weights", "biases", "only_weights", "variables", or another list that every Can inside
        has.
        """
        found = [f(x) for x in getattr(self, target)]
        for can in self.subcans:
            found += can.traverse(target, f) if isinstance(can, Can) else map(f, _of_torch(can, target))
        return list(_flat(found))

    def get_weights(self) -> list[Tensor]:
        """Return all trainable tensors, biases included."""
        return self.traverse("weights")

    def get_biases(self) -> list[Tensor]:
        """Return all tensors of `make_bias`."""
        return self.traverse("biases")

    def get_only_weights(self) -> list[Tensor]:
        """Return all tensors of `make_weight`."""
        return self.traverse("only_weights")

    def get_updates(self) -> list[Any]:
        """Return an empty list: PyTorch has no update operations."""
        return []

    def get_value_of(self, tensors: Iterable[Tensor]) -> list[Any]:
        """Return the tensors as NumPy arrays."""
        return [as_array(tensor) for tensor in tensors]

    def save_weights(self, filename: str | PathLike[str], format: str = "safetensors") -> bool:
        """Save all weights and variables to a file, and return True. After an error an existing file is
        unchanged.

        Args:
            filename: the file.
            format: "safetensors", or "canton-0.1" for a file that the 2017 library loads.

        Raises:
            ValueError: the format is unknown.
            UserError: the file cannot be written.
        """
        return save_can(self, filename, format)

    def load_weights(self, filename: str | PathLike[str]) -> bool:
        """Load all weights and variables from a file of this or of the 2017 library, and return True.

        Nothing in the file is executed. An error sets no weight.

        Raises:
            NameError: the file has another number of weights; the message names the first difference.
            ValueError: a weight has another shape, or the file is damaged or contains anything but numbers.
        """
        return load_can(self, filename)

    def infer(self, i: Any) -> Any:
        """Compute in inference mode and without gradients. Afterwards training is on, whatever it was before.

        Args:
            i: an array or a list of arrays; or tensors.

        Returns:
            An array; a tensor if `i` has a tensor.
        """
        is_list = isinstance(i, list)
        inputs_given = i if is_list else [i]
        like = next((t for t in self.get_weights() if t.is_floating_point()), torch.empty(0))
        inputs = [torch.as_tensor(x).to(like.device, like.dtype) for x in inputs_given]
        set_training_state(False)
        try:
            with torch.no_grad():
                out = self(inputs if is_list else inputs[0])
        finally:
            set_training_state(True)
        if any(isinstance(x, Tensor) for x in inputs_given) or not isinstance(out, Tensor):
            return out
        return as_array(out)

    def summary(self) -> None:
        """Print shape, size and name of every weight and variable."""
        summarize(self)


def _all_of(c: Any) -> list[Any]:
    return list(c) if hasattr(c, "__iter__") else [c]


def _of_torch(module: nn.Module, target: str) -> list[Any]:
    """Return the tensors of a torch module, which is not a Can, for one of the lists' names."""
    biases = [p for name, p in module.named_parameters() if name.rpartition(".")[2].startswith("bias")]
    lists: dict[str, Callable[[], list[Any]]] = {
        "weights": lambda: list(module.parameters()),
        "biases": lambda: biases,
        "only_weights": lambda: [p for p in module.parameters() if all(p is not b for b in biases)],
        "variables": lambda: list(module.buffers()),
    }
    return lists[target]() if target in lists else list(getattr(module, target))


def _flat(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item

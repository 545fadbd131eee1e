"""The Can: a container of weights and of other Cans, and what every layer of this interface is."""

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

    Give it something to compute in one of three ways: override ``__call__`` (or torch's ``forward``), or
    call `set_function`, or put Cans inside and call `chain`. Cans inside must be put in with `incan` or
    `add`: only then do their weights count.

    Raises:
        NameError: on a call, if it has nothing to compute.
    """

    def make_weight(
        self,
        shape: Iterable[int],
        name: str = "W",
        mean: float = 0.0,
        stddev: float = 1e-2,
        initializer: Any = None,
    ) -> nn.Parameter:
        """Make a trainable tensor: normal numbers, those beyond 2 `stddev` drawn again.

        Args:
            shape: its shape.
            name: what it is called until an attribute holds it.
            mean, stddev: of the normal distribution, before it is cut (which makes the true deviation 0.88
                of it).
            initializer: an array or tensor that is the first value, in place of drawn numbers.
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
        self._keep(weight, name, ("weights", "only_weights"))
        return weight

    def make_bias(self, shape: Iterable[int], name: str = "b", mean: float = 0.0) -> nn.Parameter:
        """Make a trainable tensor filled with `mean`."""
        bias = nn.Parameter(torch.full(tuple(shape), float(mean)))
        self._keep(bias, name, ("weights", "biases"))
        return bias

    def make_variable(self, nparray: Any, name: str = "v") -> Tensor:
        """Make a tensor, from an array, that is saved with the weights but not trained."""
        variable = torch.as_tensor(nparray).detach().clone()
        self._keep(variable, name, ("variables",))
        return variable

    def incan(self, c: nn.Module | Iterable[nn.Module]) -> None:
        """Put one Can inside, or several.

        Raises:
            TypeError: one of them is no module; `Lambda` makes a Can of a function.
        """
        for can in [c] if isinstance(c, nn.Module) and not hasattr(c, "__iter__") else _all_of(c):
            if not isinstance(can, nn.Module):
                raise TypeError(f"c holds {can!r}: incan takes Cans; Lambda makes one of a function")
            self._keep_can(can)

    def add(self, c: Any) -> Any:
        """`incan`, and return what was put inside."""
        self.incan(c)
        return c

    def chain(self) -> None:
        """Compute by calling the Cans inside one after the other."""
        self.set_function(self._call_in_turn)  # a bound method, which copy.deepcopy binds to the copy

    def _call_in_turn(self, i: Any) -> Any:
        for can in self.subcans:
            i = can(i)
        return i

    def set_function(self, func: Callable[..., Any]) -> None:
        """Compute `func`."""
        self.func = func

    def forward(self, i: Any, *args: Any, **kwargs: Any) -> Any:
        """What the Can computes."""
        if not hasattr(self, "func"):
            raise NameError("You didnt override __call__(), nor called set_function()/chain()")
        return self.func(i, *args, **kwargs)

    def traverse(self, target: str = "weights", f: Callable[[Any], Any] = lambda x: x) -> list[Any]:
        """One list of f(x) for every x in the list `target` of this Can and of the Cans inside.

        `target` is "weights", "biases", "only_weights", "variables", or any list of yours that every Can
        inside has.
        """
        found = [f(x) for x in getattr(self, target)]
        for can in self.subcans:
            found += can.traverse(target, f) if isinstance(can, Can) else map(f, _of_torch(can, target))
        return list(_flat(found))

    def get_weights(self) -> list[Tensor]:
        """All trainable tensors, biases too."""
        return self.traverse("weights")

    def get_biases(self) -> list[Tensor]:
        """All that `make_bias` made."""
        return self.traverse("biases")

    def get_only_weights(self) -> list[Tensor]:
        """All that `make_weight` made."""
        return self.traverse("only_weights")

    def get_updates(self) -> list[Any]:
        """Always empty: TensorFlow's update operations have no counterpart."""
        return []

    def get_value_of(self, tensors: Iterable[Tensor]) -> list[Any]:
        """The tensors as NumPy arrays."""
        return [as_array(tensor) for tensor in tensors]

    def save_weights(self, filename: str | PathLike[str], format: str = "safetensors") -> bool:
        """Write all weights and variables to a file, in its place only when it is whole; True.

        Args:
            filename: where to.
            format: "safetensors", or "canton-0.1" for a file that the 2017 library loads.

        Raises:
            ValueError: another format.
            UserError: the file cannot be written.
        """
        return save_can(self, filename, format)

    def load_weights(self, filename: str | PathLike[str]) -> bool:
        """Read all weights and variables from a file that this library or the 2017 one wrote; True.

        Nothing in the file is ever run. Either all weights are set or, on an error, none.

        Raises:
            NameError: the file has another number of weights; the message says where the first difference is.
            ValueError: a weight has another shape, or the file is damaged or holds anything but numbers.
        """
        return load_can(self, filename)

    def infer(self, i: Any) -> Any:
        """Compute with training off and without gradients; training is on afterwards, whatever it was before.

        Arrays go in (or a list of them) and an array comes out; with tensors, a tensor.
        """
        several = isinstance(i, list)
        given = i if several else [i]
        like = next((t for t in self.get_weights() if t.is_floating_point()), torch.empty(0))
        inputs = [torch.as_tensor(x).to(like.device, like.dtype) for x in given]
        set_training_state(False)
        try:
            with torch.no_grad():
                out = self(inputs if several else inputs[0])
        finally:
            set_training_state(True)
        if any(isinstance(x, Tensor) for x in given) or not isinstance(out, Tensor):
            return out
        return as_array(out)

    def summary(self) -> None:
        """Print every weight's and variable's shape, size and name."""
        summarize(self)


def _all_of(c: Any) -> list[Any]:
    return list(c) if hasattr(c, "__iter__") else [c]


def _of_torch(module: nn.Module, target: str) -> list[Any]:
    """The part of a torch module that is not a Can which answers to one of the old lists' names."""
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

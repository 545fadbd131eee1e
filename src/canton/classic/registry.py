"""How a Can keeps what was made in it: in torch's tables, where `.to()` finds it, and in order.

A list of tensors would go stale when ``.to()`` puts others in their place. So the lists hold keys into
torch's tables. What is made gets a key of its own, such as ``W:0`` or ``3``, until an attribute gives it a
better name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

LISTS = ("weights", "biases", "only_weights", "variables")


class Registry(nn.Module):
    """Torch's module, with the old lists `weights`, `biases`, `only_weights`, `variables` and `subcans`."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[str, list[str]] = {name: [] for name in (*LISTS, "subcans")}

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """What `make_weight` and `make_bias` made here, in order; not what the Cans inside hold."""
        return self._held("weights")

    @property
    def biases(self) -> tuple[Tensor, ...]:
        """What `make_bias` made here."""
        return self._held("biases")

    @property
    def only_weights(self) -> tuple[Tensor, ...]:
        """What `make_weight` made here."""
        return self._held("only_weights")

    @property
    def variables(self) -> tuple[Tensor, ...]:
        """What `make_variable` made here: saved with the weights, not trained."""
        return self._held("variables")

    @property
    def subcans(self) -> tuple[nn.Module, ...]:
        """The Cans directly inside, in the order in which they came; one added twice stands here twice."""
        found = [self._modules[key] for key in self._keys["subcans"]]
        return tuple(module for module in found if module is not None)

    def _held(self, name: str) -> tuple[Tensor, ...]:
        table: dict[str, Any] = self._buffers if name == "variables" else self._parameters
        return tuple(table[key] for key in self._keys[name])

    def _keep(self, tensor: Tensor, name: str, lists: tuple[str, ...]) -> None:
        """Register a parameter or a buffer under a key of its own and list it."""
        key = self._fresh(name)
        if isinstance(tensor, nn.Parameter):
            self.register_parameter(key, tensor)
        else:
            self.register_buffer(key, tensor)
        for each in lists:
            self._keys[each].append(key)

    def _keep_can(self, can: nn.Module) -> None:
        keys = [key for key, module in self._modules.items() if module is can]
        key = keys[0] if keys else self._fresh_can()
        self._modules[key] = can
        self._keys["subcans"].append(key)

    def _fresh(self, name: str) -> str:
        count = 0
        while f"{name}:{count}" in self._parameters or f"{name}:{count}" in self._buffers:
            count += 1
        return f"{name}:{count}"

    def _fresh_can(self) -> str:
        count = len(self._keys["subcans"])
        while str(count) in self._modules:
            count += 1
        return str(count)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Tensor, nn.Module)) and "_keys" in self.__dict__:
            self._name(name, value)
        super().__setattr__(name, value)

    def _name(self, name: str, value: Tensor | nn.Module) -> None:
        """If `value` has only a key of its own, give it the attribute's name, everywhere."""
        tables: tuple[dict[str, Any], ...] = (self._parameters, self._buffers, self._modules)
        for table in tables:
            for key in [k for k, held in table.items() if held is value and (":" in k or k.isdigit())]:
                if name in table:  # another was made under this name: it stays, under a key of its own
                    other = self._fresh(name) if table is not self._modules else self._fresh_can()
                    table[other] = table.pop(name)
                    self._rename(name, other)
                table[name] = table.pop(key)
                self._rename(key, name)
                self.__dict__.pop(name, None)

    def _rename(self, old: str, new: str) -> None:
        for keys in self._keys.values():
            keys[:] = [new if key == old else key for key in keys]

    def _walk(self, lists: str, path: str = "") -> Iterator[tuple[str, Tensor]]:
        """Path and tensor of all `lists` ("weights" or "variables"), Cans inside included, in order."""
        for key, tensor in zip(self._keys[lists], getattr(self, lists), strict=True):
            yield path + key, tensor
        for key, can in zip(self._keys["subcans"], self.subcans, strict=True):
            if isinstance(can, Registry):
                yield from can._walk(lists, f"{path}{key}.")
            else:
                named = can.named_parameters() if lists == "weights" else can.named_buffers()
                yield from ((f"{path}{key}.{name}", tensor) for name, tensor in named)

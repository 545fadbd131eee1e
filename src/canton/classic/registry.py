"""The ordered lists of a Can's weights, variables and Cans.

``.to()`` replaces tensors, so the lists have keys of torch's own dictionaries instead of tensors. A new
tensor has a generated key, such as ``W:0`` or ``3``, until it is assigned to an attribute.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

LISTS = ("weights", "biases", "only_weights", "variables")


class Registry(nn.Module):
    """A torch.nn.Module with the lists `weights`, `biases`, `only_weights`, `variables` and `subcans`."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[str, list[str]] = {name: [] for name in (*LISTS, "subcans")}

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """The tensors of `make_weight` and `make_bias`, in order, without those of the Cans inside."""
        return self._tensors("weights")

    @property
    def biases(self) -> tuple[Tensor, ...]:
        """The tensors of `make_bias`."""
        return self._tensors("biases")

    @property
    def only_weights(self) -> tuple[Tensor, ...]:
        """The tensors of `make_weight`."""
        return self._tensors("only_weights")

    @property
    def variables(self) -> tuple[Tensor, ...]:
        """The tensors of `make_variable`: saved with the weights, not trained."""
        return self._tensors("variables")

    @property
    def subcans(self) -> tuple[nn.Module, ...]:
        """The added Cans, in order. A Can that was added twice is listed twice."""
        found = [self._modules[key] for key in self._keys["subcans"]]
        return tuple(module for module in found if module is not None)

    def _tensors(self, name: str) -> tuple[Tensor, ...]:
        table: dict[str, Any] = self._buffers if name == "variables" else self._parameters
        return tuple(table[key] for key in self._keys[name])

    def _register(self, tensor: Tensor, name: str, lists: tuple[str, ...]) -> None:
        """Register a parameter or a buffer with a generated key, and add it to the lists."""
        key = self._unused_key(name)
        if isinstance(tensor, nn.Parameter):
            self.register_parameter(key, tensor)
        else:
            self.register_buffer(key, tensor)
        for each in lists:
            self._keys[each].append(key)

    def _register_can(self, can: nn.Module) -> None:
        keys = [key for key, module in self._modules.items() if module is can]
        key = keys[0] if keys else self._unused_can_key()
        self._modules[key] = can
        self._keys["subcans"].append(key)

    def _unused_key(self, name: str) -> str:
        count = 0
        while f"{name}:{count}" in self._parameters or f"{name}:{count}" in self._buffers:
            count += 1
        return f"{name}:{count}"

    def _unused_can_key(self) -> str:
        count = len(self._keys["subcans"])
        while str(count) in self._modules:
            count += 1
        return str(count)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Tensor, nn.Module)) and "_keys" in self.__dict__:
            self._name(name, value)
        super().__setattr__(name, value)

    def _name(self, name: str, value: Tensor | nn.Module) -> None:
        """Replace the generated key of `value` by the attribute's name, in all lists."""
        tables: tuple[dict[str, Any], ...] = (self._parameters, self._buffers, self._modules)
        for table in tables:
            for key in [k for k, v in table.items() if v is value and (":" in k or k.isdigit())]:
                if name in table:  # another tensor with this name gets a generated key again
                    other = self._unused_key(name) if table is not self._modules else self._unused_can_key()
                    table[other] = table.pop(name)
                    self._rename(name, other)
                table[name] = table.pop(key)
                self._rename(key, name)
                self.__dict__.pop(name, None)

    def _rename(self, old: str, new: str) -> None:
        for keys in self._keys.values():
            keys[:] = [new if key == old else key for key in keys]

    def _walk(self, lists: str, path: str = "") -> Iterator[tuple[str, Tensor]]:
        """Yield path and tensor of all `lists` ("weights" or "variables"), with the Cans inside, in order."""
        for key, tensor in zip(self._keys[lists], getattr(self, lists), strict=True):
            yield path + key, tensor
        for key, can in zip(self._keys["subcans"], self.subcans, strict=True):
            if isinstance(can, Registry):
                yield from can._walk(lists, f"{path}{key}.")
            else:
                named = can.named_parameters() if lists == "weights" else can.named_buffers()
                yield from ((f"{path}{key}.{name}", tensor) for name, tensor in named)

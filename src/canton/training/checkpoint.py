"""State of an unfinished run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from canton.errors import UserError

CARRIED = "carried."
"""Prefix of the tensors of the carried recurrent state."""


@dataclass(frozen=True)
class Checkpoint:
    """The state that `fit` needs to resume, besides the model's weights.

    tensors: optimizer state, carried recurrent state and weight average, by name. step: steps done. seconds:
    training time so far. rollbacks: how often the run diverged and went back.
    """

    tensors: dict[str, Tensor]
    step: int
    seconds: float
    rollbacks: int = 0

    def check_carried(self, state: Sequence[Tensor], *, rows: Sequence[int]) -> None:
        """Check the carried state. It may be absent before the first step.

        Args:
            state: a state for batch size 1; axis 1 is the batch.
            rows: the batch sizes that are allowed.

        Raises: UserError, which names a tensor of another name, shape or type.
        """
        found = {name: tensor for name, tensor in self.tensors.items() if name.startswith(CARRIED)}
        if not found and not self.step:
            return
        names = {f"{CARRIED}{k}" for k in range(len(state))}
        for name in sorted(names ^ set(found)):
            known = "missing" if name in names else "not part of the state"
            raise UserError(f"tensor {name} of the checkpoint is {known}")
        for k, like in enumerate(state):
            tensor, (first, _, *rest) = found[f"{CARRIED}{k}"], like.shape
            shapes = [(first, batch_size, *rest) for batch_size in rows]
            if tuple(tensor.shape) not in shapes or tensor.is_floating_point() != like.is_floating_point():
                raise UserError(
                    f"tensor {CARRIED}{k} of the checkpoint must be {shapes[0]} {like.dtype}, "
                    f"got {tuple(tensor.shape)} {tensor.dtype}"
                )

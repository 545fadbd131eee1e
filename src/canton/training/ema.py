"""Exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from canton.errors import UserError

if TYPE_CHECKING:
    from canton.training.checkpoint import Checkpoint

PREFIX = "ema."
Tensors = tuple[Tensor, ...] | list[Tensor]


class EMA:
    """Average of a model's weights and buffers over the training steps.

    Step k has weight 10 / (k + 9), but at least 1 - `decay`.

    Args:
        model: the model being trained.
        decay: in [0, 1); 0 keeps the last weights.
        resume: checkpoint to resume from.

    Raises: UserError if the checkpoint has no average of these weights.

    Source: Polyak & Juditsky 1992, doi:10.1137/0330046; Tarvainen & Valpola 2017, arXiv:1703.01780. The
    weights of the first steps are those of TensorFlow's ExponentialMovingAverage with num_updates.
    """

    def __init__(self, model: nn.Module, decay: float, resume: Checkpoint | None = None) -> None:
        self.model = model
        self.average = AveragedModel(model, multi_avg_fn=_lerp(decay), use_buffers=True)
        if resume is None:
            return
        saved = {n.removeprefix(PREFIX): t for n, t in resume.tensors.items() if n.startswith(PREFIX)}
        try:
            self.average.module.load_state_dict(saved)
        except RuntimeError as error:
            raise UserError("the checkpoint has no average of these weights: start a new run") from error
        self.average.n_averaged.fill_(resume.step)

    def update(self) -> None:
        """Add the current weights. Call it before every step and after the last."""
        self.average.to(next(self.model.parameters()).device)
        self.average.update_parameters(self.model)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint needs for `resume`."""
        return {PREFIX + name: tensor.clone() for name, tensor in self.average.module.state_dict().items()}

    def copy_to(self) -> None:
        """Copy the average into the model."""
        self.model.load_state_dict(self.average.module.state_dict())


def _lerp(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    @torch.no_grad()
    def update(average: Tensors, current: Tensors, step: Tensor | int) -> None:
        if average[0].is_floating_point():  # one call has one dtype
            torch._foreach_lerp_(average, current, max(1 - decay, 10 / (int(step) + 9)))
        else:  # a counter, such as BatchNorm's number of batches
            torch._foreach_copy_(average, current)

    return update

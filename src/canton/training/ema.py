"""A running average of a model's weights while it learns: what is kept of a run is the average, which errs
less than the weights of any one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from canton.errors import UserError

if TYPE_CHECKING:
    from canton.training.checkpoint import Checkpoint

PREFIX = "ema."


class EMA:
    """The weights of a model (and the statistics of its normalisations), averaged over the steps so far; give
    it to `canton.training.fit`.

    The k-th step counts 10 / (k + 9), but never less than 1 - `decay`: first mostly the last tenth of the
    steps, of which the first ones know little, then the last 1 / (1 - decay). Source: Polyak & Juditsky 1992,
    doi:10.1137/0330046; with a decay, Tarvainen & Valpola 2017, arXiv:1703.01780; the first steps as in
    TensorFlow's ExponentialMovingAverage with num_updates.

    Args:
        model: what learns.
        decay: the share of the past that a step keeps at most, in [0, 1); 0 keeps the last weights.
        resume: the checkpoint of a run that is gone on with.

    Raises: UserError if the checkpoint has no average of these weights.
    """

    def __init__(self, model: nn.Module, decay: float, resume: Checkpoint | None = None) -> None:
        self.model, self.decay = model, decay
        self.steps = resume.step - 1 if resume else -1  # the first weights of all are those of no step
        names = model.state_dict()
        kept = {name: resume.tensors.get(PREFIX + name) if resume else now for name, now in names.items()}
        self.tensors: dict[str, Tensor] = {}
        for name, now in names.items():
            found = kept[name]
            if found is None or found.shape != now.shape:
                raise UserError("the run was begun without an average of its weights: begin a new one")
            self.tensors[name] = found.detach().clone()

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now: once before every step, and once at the end."""
        self.steps += 1
        if self.steps == 0:
            return
        share = max(1 - self.decay, 10 / (self.steps + 9))
        for name, now in self.model.state_dict().items():
            kept = self.tensors[name]
            if kept.device != now.device:
                kept = self.tensors[name] = kept.to(now.device)
            if kept.is_floating_point():
                kept.lerp_(now, share)
            else:
                kept.copy_(now)

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint needs, so that `resume` goes on from there."""
        return {PREFIX + name: tensor.clone() for name, tensor in self.tensors.items()}

    def copy_to(self) -> None:
        """Put the average into the model."""
        self.model.load_state_dict(self.tensors)

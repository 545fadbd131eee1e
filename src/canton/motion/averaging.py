"""A running average of a model's weights while it learns: what is kept of a run is the average, which errs
less than the weights of any one step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from canton.training import Checkpoint

PREFIX = "average."


class Average:
    """The weights of a model (and the statistics of its normalisations), averaged over the steps so far.

    After k steps the last one counts 1 / (k + 1), later 1 - `decay`: first the plain mean, then the last
    1 / (1 - decay) steps or so (Polyak & Juditsky 1992, doi:10.1137/0330046; in this form Tarvainen & Valpola
    2017, arXiv:1703.01780).

    Args:
        model: what learns. resume: the checkpoint of a run that is gone on with.
    """

    def __init__(self, model: nn.Module, decay: float, resume: Checkpoint | None = None) -> None:
        self.model, self.decay = model, decay
        self.steps = resume.step - 1 if resume else -1  # the first weights of all are those of no step
        names = model.state_dict()
        self.tensors = {
            name: (resume.tensors[PREFIX + name] if resume else tensor).detach().clone()
            for name, tensor in names.items()
        }

    @torch.no_grad()
    def note(self) -> None:
        """Take in the weights as they are now: once before every step, and once at the end."""
        self.steps += 1
        if self.steps == 0:
            return
        share = max(1 - self.decay, 1 / self.steps)
        for name, now in self.model.state_dict().items():
            kept = self.tensors[name]
            if kept.device != now.device:
                kept = self.tensors[name] = kept.to(now.device)
            if kept.is_floating_point():
                kept.lerp_(now, share)
            else:
                kept.copy_(now)

    def attach(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with what this needs to go on from there."""
        mine: dict[str, Tensor] = {PREFIX + name: tensor.clone() for name, tensor in self.tensors.items()}
        return Checkpoint({**checkpoint.tensors, **mine}, checkpoint.step, checkpoint.seconds)

    def give(self) -> None:
        """Put the average into the model."""
        self.model.load_state_dict(self.tensors)

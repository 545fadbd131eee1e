"""Learning while reading: dynamic evaluation (Krause, Kahembwe, Murray & Renals 2018, arXiv:1709.07432).

After each stretch is scored, every weight w takes a step down its gradient g, and another back to where it
was trained to, w0::

    w <- w - rate * g / (sqrt(m) + epsilon) + decay * n * (w0 - w),    n = sqrt(m) / mean(sqrt(m))

where m is the mean of the squared gradients, and decay * n is kept to at most 1. The paper takes m once from
the training text; a model file has no training text beside it, so here m is the running mean over what was
read.

A model with counts (`canton.text.ngram.table`) also counts on, in a copy of its tables.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from canton.errors import UserError
from canton.text.model import ByteModel

RATE, DECAY, WEIGHT = 1e-3, 3e-4, 1  # of a dozen settings the best on training text held out


class Adapter:
    """Changes a copy of `model` by each stretch's loss; give `self.model` to `surprisals`, and `self` as
    `learn`.

    Args:
        rate: how far a stretch moves a weight whose gradient is as large as usual.
        decay: how strongly a weight is drawn back to its trained value.
        memory: the share of the past that the running mean of squared gradients keeps.
        epsilon: keeps a weight that is seldom used from leaping when it is.
        weight: how many times what is read counts beside what was counted before; 0 counts nothing.
        stretch: bytes scored, and then learned from, at a time.

    Raises: UserError for a value out of range.
    """

    def __init__(
        self,
        model: ByteModel,
        *,
        rate: float = RATE,
        decay: float = DECAY,
        memory: float = 0.99,
        epsilon: float = 1e-3,
        weight: int = WEIGHT,
        stretch: int = 64,
    ) -> None:
        for name, value, most in (("rate", rate, 10.0), ("decay", decay, 1.0), ("memory", memory, 0.9999)):
            if not 0 <= value <= most:
                raise UserError(f"{name} is {value}: it lies in [0, {most:g}]")
        for name, value, least in (("stretch", stretch, 1), ("weight", weight, 0)):
            if value < least:
                raise UserError(f"{name} is {value}: it is a whole number of at least {least}")
        self.stretch, self.weight = stretch, weight
        self.model = copy.deepcopy(model)
        self.weights = list(self.model.parameters())
        self.trained = [weight.detach().clone() for weight in self.weights]
        self.squares = [torch.zeros_like(weight) for weight in self.weights]
        self.rate, self.decay, self.memory, self.epsilon = rate, decay, memory, epsilon
        self.stretches = 0
        self.past = torch.zeros(self.model.reach, 1, dtype=torch.long)

    def __call__(self, loss: Tensor, read: Tensor, answers: Tensor) -> None:
        if self.model.counts is not None and self.weight:
            window = torch.cat([self.past, read.long()[:, None]])
            self.past = window[len(read) :]
            self.model.counts.add(window, self.model.reach, answers, weight=self.weight)
        gradients = torch.autograd.grad(loss, self.weights, allow_unused=True, materialize_grads=True)
        self.stretches += 1
        known = 1 - self.memory**self.stretches  # how much of the running mean, which began at zero, is real
        with torch.no_grad():
            torch._foreach_mul_(self.squares, self.memory)
            torch._foreach_addcmul_(self.squares, gradients, gradients, 1 - self.memory)
            sizes = [(square / known).sqrt_() for square in self.squares]
            usual = sum(float(size.sum()) for size in sizes) / sum(size.numel() for size in sizes)
            for weight, start, size, gradient in zip(
                self.weights, self.trained, sizes, gradients, strict=True
            ):
                pull = (size * (self.decay / max(usual, 1e-20))).clamp_(max=1.0)
                weight.add_(pull.mul_(start - weight))
                weight.addcdiv_(gradient, size.add_(self.epsilon), value=-self.rate)

"""Dynamic evaluation (Krause, Kahembwe, Murray & Renals 2018, arXiv:1709.07432): training while scoring.

After each chunk is scored, every weight w moves against its gradient g and towards its trained value w0::

    w <- w - rate * g / (sqrt(m) + epsilon) + decay * n * (w0 - w),    n = sqrt(m) / mean(sqrt(m))

where m is the mean of the squared gradients, and decay * n is at most 1. The paper computes m once on the
training text. A model file has no training text, so here m is the running mean over the text that is scored.

The n-gram tables (`canton.text.ngram.table`) of the adapted model also count the text.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from canton.errors import UserError
from canton.text.model import ByteModel

LEARNING_RATE, DECAY, COUNT_WEIGHT = 1e-3, 3e-4, 1
"""The best of a dozen settings on a held-out part of training text."""


class Adapter:
    """Dynamic evaluation of a copy of a model. Pass `self.model` to `surprisals`, and `self` as `on_chunk`.

    Args:
        model: the trained model.
        learning_rate: step of a weight whose gradient is as large as its running mean, 0 to 10.
        decay: strength of the pull back to the trained weights, 0 to 1.
        averaging: decay of the running mean of squared gradients per chunk, 0 to 0.9999.
        epsilon: limits the step of weights with gradients near zero.
        count_weight: how often a byte of the text counts in the n-gram tables; 0: not at all.
        chunk_size: bytes to score, and then train on, at a time.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        model: ByteModel,
        *,
        learning_rate: float = LEARNING_RATE,
        decay: float = DECAY,
        averaging: float = 0.99,
        epsilon: float = 1e-3,
        count_weight: int = COUNT_WEIGHT,
        chunk_size: int = 64,
    ) -> None:
        for name, value, maximum in (
            ("learning_rate", learning_rate, 10.0),
            ("decay", decay, 1.0),
            ("averaging", averaging, 0.9999),
        ):
            if not 0 <= value <= maximum:
                raise UserError(f"{name} must be in [0, {maximum:g}], got {value}")
        for name, value, minimum in (("chunk_size", chunk_size, 1), ("count_weight", count_weight, 0)):
            if value < minimum:
                raise UserError(f"{name} must be >= {minimum}, got {value}")
        self.chunk_size, self.count_weight = chunk_size, count_weight
        self.learning_rate, self.decay = learning_rate, decay
        self.averaging, self.epsilon = averaging, epsilon
        self.model = copy.deepcopy(model)
        self.weights = list(self.model.parameters())
        self.trained = [weight.detach().clone() for weight in self.weights]
        self.squares = [torch.zeros_like(weight) for weight in self.weights]
        self.chunks = 0
        self.past = torch.zeros(self.model.lookback, 1, dtype=torch.long)

    def __call__(self, loss: Tensor, inputs: Tensor, targets: Tensor) -> None:
        """Train on a chunk; see `canton.text.likelihood.OnChunk`."""
        if self.model.ngrams is not None and self.count_weight:
            window = torch.cat([self.past, inputs.long()[:, None]])
            self.past = window[len(inputs) :]
            self.model.ngrams.update(window, self.model.lookback, targets, weight=self.count_weight)
        gradients = torch.autograd.grad(loss, self.weights, allow_unused=True, materialize_grads=True)
        self.chunks += 1
        correction = 1 - self.averaging**self.chunks  # the running mean starts at zero
        with torch.no_grad():
            torch._foreach_mul_(self.squares, self.averaging)
            torch._foreach_addcmul_(self.squares, gradients, gradients, 1 - self.averaging)
            rms_gradients = [(square / correction).sqrt_() for square in self.squares]
            mean = sum(float(rms.sum()) for rms in rms_gradients) / sum(rms.numel() for rms in rms_gradients)
            for weight, start, rms, gradient in zip(
                self.weights, self.trained, rms_gradients, gradients, strict=True
            ):
                pull = (rms * (self.decay / max(mean, 1e-20))).clamp_(max=1.0)
                weight.add_(pull.mul_(start - weight))
                weight.addcdiv_(gradient, rms.add_(self.epsilon), value=-self.learning_rate)

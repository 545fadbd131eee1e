"""Sampling of one byte from logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from canton.text.config import Sampling

Floats = npt.NDArray[np.floating]


def sample_byte(
    logits: Floats,
    uniform: float,
    sampling: Sampling | None = None,
    *,
    recent: bytes = b"",
    allowed: npt.NDArray[np.bool_] | None = None,
) -> int:
    """Sample a byte by inverting the cumulative distribution of the logits at `uniform`.

    Args:
        logits: (256,).
        uniform: a number in [0, 1).
        sampling: the settings; None: the defaults. With top-k or top-p the distribution is sorted, the
            likeliest byte first; otherwise it is in byte order.
        recent: the text so far, of which the last `repetition_window` bytes are penalised.
        allowed: (256,) the bytes that may be sampled; applied first. None: all.
    """
    sampling = sampling or Sampling()
    scores = logits.astype(np.float64)
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    if sampling.logit_bias:
        scores = scores + bias_vector(sampling)
    if sampling.repetition_penalty != 1:
        seen = np.unique(np.frombuffer(recent[-sampling.repetition_window :], np.uint8))
        penalty, old = sampling.repetition_penalty, scores[seen]
        scores[seen] = np.where(old > 0, old / penalty, old * penalty)
    if sampling.temperature == 0:
        return int(scores.argmax())
    by_score = sampling.top_k or sampling.top_p < 1
    order = np.argsort(-scores, kind="stable") if by_score else np.arange(256)
    if sampling.top_k:
        order = order[: sampling.top_k]
    weights = np.exp((scores[order] - scores.max()) / sampling.temperature)
    if sampling.top_p < 1:
        ends = weights.cumsum()
        weights = weights[: int(np.searchsorted(ends, sampling.top_p * ends[-1])) + 1]
    ends = np.where(weights < sampling.min_p, 0.0, weights).cumsum()  # the likeliest byte has weight 1
    place = int(np.searchsorted(ends, uniform * ends[-1], side="right"))
    last = int(
        np.searchsorted(ends, ends[-1])
    )  # the last byte with a probability above 0; rounding can exceed it
    return int(order[min(place, last)])


def bias_vector(sampling: Sampling) -> npt.NDArray[np.float32]:
    """Return what `logit_bias` adds to each logit, (256,). A byte's later pair replaces an earlier one."""
    added = np.zeros(256, np.float32)
    for byte, bias in sampling.logit_bias:
        added[byte] = bias
    return added

"""Score a sensor stream: a GRU predicts the next reading; the score is the reading's surprisal in bits.

It is trained on data without faults. Prints how well the score separates faults from normal readings.
"""

import torch
from torch import Tensor, nn

import canton


def readings(steps: int, batch: int, generator: torch.Generator) -> Tensor:
    """Return (steps, batch, 3): three noisy sensors of a machine that turns at a varying speed."""
    speed = 0.35 + 0.15 * torch.sin(torch.arange(steps) / 60).unsqueeze(1)
    angle = 6.28 * torch.rand(batch, generator=generator) + speed.cumsum(0)
    clean = torch.stack([angle.sin(), (2 * angle).cos(), angle.cos() * angle.sin()], -1)
    return clean + 0.05 * torch.randn(steps, batch, 3, generator=generator)


def bits(expected: Tensor, x: Tensor) -> Tensor:
    """Return the surprisal in bits of x (..., 3); `expected` has the normals' means and log deviations."""
    mean, log_deviation = expected.chunk(2, -1)
    z = (x - mean) / log_deviation.exp()
    return ((0.5 * z * z + log_deviation + 0.919) / 0.693).sum(-1)  # log sqrt(2 pi); nats to bits


def main() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    rnn, readout = canton.GRU(3, 32), nn.Linear(32, 6)
    optimizer = torch.optim.Adam([*rnn.parameters(), *readout.parameters()], 1e-2)
    for _ in range(120):
        xs = readings(100, 16, generator)
        loss = bits(readout(rnn(xs[:-1])[0]), xs[1:]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    stream = readings(3000, 1, generator)
    faulty = torch.zeros(3000, dtype=torch.bool)
    for start in range(500, 3000, 500):  # a sensor repeats a normal value for 5 readings
        stream[start : start + 5, 0, 1] = stream[start - 1, 0, 1]
        faulty[start + 1 : start + 6] = True  # and the step back after them
    state, expected, scores = None, torch.zeros(1, 6), []
    with torch.no_grad():
        for x in stream:
            scores.append(bits(expected, x))
            y, state = rnn.step(x, state)
            expected = readout(y)
    score = torch.cat(scores)
    higher = (score[faulty].unsqueeze(1) > score[~faulty]).float().mean()
    normal, fault = score[~faulty].median(), score[faulty].median()
    print(f"median bits per reading: {normal:.1f} without a fault, {fault:.1f} with a fault")
    print(f"a fault scores higher than a normal reading in {100 * higher:.1f} % of pairs (chance: 50 %)")


if __name__ == "__main__":
    main()

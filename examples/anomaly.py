"""A sensor's stream, scored as it comes: a dense GRU says what it expects next, and the score is how many
bits the value that came instead was worth. It never saw a fault. Prints how well the score finds them.
"""

import torch
from torch import Tensor, nn

import canton


def readings(steps: int, batch: int, generator: torch.Generator) -> Tensor:
    """(steps, batch, 3): three sensors of a machine that turns faster and slower, with noise."""
    speed = 0.35 + 0.15 * torch.sin(torch.arange(steps) / 60).unsqueeze(1)
    angle = 6.28 * torch.rand(batch, generator=generator) + speed.cumsum(0)
    clean = torch.stack([angle.sin(), (2 * angle).cos(), angle.cos() * angle.sin()], -1)
    return clean + 0.05 * torch.randn(steps, batch, 3, generator=generator)


def bits(expected: Tensor, x: Tensor) -> Tensor:
    """(...): the surprise of x (..., 3) under a normal distribution of `expected` mean and log deviation."""
    mean, log_deviation = expected.chunk(2, -1)
    z = (x - mean) / log_deviation.exp()
    return ((0.5 * z * z + log_deviation + 0.919) / 0.693).sum(-1)  # log sqrt(2 pi), and nats to bits


def main() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    rnn, read = canton.GRU(3, 32), nn.Linear(32, 6)
    optimizer = torch.optim.Adam([*rnn.parameters(), *read.parameters()], 1e-2)
    for _ in range(120):
        xs = readings(100, 16, generator)
        loss = bits(read(rnn(xs[:-1])[0]), xs[1:]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    stream = readings(3000, 1, generator)
    faulty = torch.zeros(3000, dtype=torch.bool)
    for start in range(500, 3000, 500):  # a sensor sticks for 5 readings, at values it may well have
        stream[start : start + 5, 0, 1] = stream[start - 1, 0, 1]
        faulty[start + 1 : start + 6] = True  # and the leap back
    state, expected, scores = None, torch.zeros(1, 6), []
    with torch.no_grad():
        for x in stream:
            scores.append(bits(expected, x))
            y, state = rnn.step(x, state)
            expected = read(y)
    score = torch.cat(scores)
    higher = (score[faulty].unsqueeze(1) > score[~faulty]).float().mean()
    sound, stuck = score[~faulty].median(), score[faulty].median()
    print(f"median bits a reading: {sound:.1f} while all is well, {stuck:.1f} at a fault")
    print(
        f"a faulty reading scores higher than a sound one in {100 * higher:.1f} % of pairs (guessing: 50 %)"
    )


if __name__ == "__main__":
    main()

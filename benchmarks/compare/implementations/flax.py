"""Flax linen under jax.jit: nn.RNN(GRUCell), and a ConvGRU with nn.scan."""

from __future__ import annotations

from collections.abc import Callable

from ..workloads import Workload


def versions() -> dict[str, str]:
    import flax
    import jax

    return {"flax": flax.__version__, "jax": jax.__version__}


def build(name: str, work: Workload, threads: int) -> Callable[[], object]:
    import os

    # XLA has no setting for its number of threads
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import jax
    import jax.numpy as jnp
    from flax import linen as nn

    key = jax.random.key(0)
    if name == "W1":
        return _text_step(work)
    if name == "W7":
        return _generate(work)

    class ConvGRU(nn.Module):
        @nn.compact
        def __call__(self, h, x):  # type: ignore[no-untyped-def]
            k = (work.kernel_size,) * 2
            z, r = jnp.split(nn.sigmoid(nn.Conv(2 * work.hidden, k)(jnp.concatenate([x, h], -1))), 2, -1)
            c = jnp.tanh(nn.Conv(work.hidden, k)(jnp.concatenate([x, r * h], -1)))
            h = (1 - z) * h + z * c
            return h, h

    if name.startswith("W3"):
        model = nn.RNN(nn.GRUCell(work.hidden), time_major=True)
        xs = jax.random.normal(key, (work.steps, work.batch, work.c_in))
        parameters = model.init(key, xs)

        def apply(p, xs):  # type: ignore[no-untyped-def]
            return model.apply(p, xs)
    elif name.startswith("W4"):
        scan = nn.scan(ConvGRU, variable_broadcast="params", split_rngs={"params": False})()
        xs = jax.random.normal(key, (work.steps, work.batch, *work.space, work.c_in))
        start = jnp.zeros((work.batch, *work.space, work.hidden))
        parameters = scan.init(key, start, xs)

        def apply(p, xs):  # type: ignore[no-untyped-def]
            return scan.apply(p, start, xs)[1]
    else:
        raise NotImplementedError("not written for Flax")
    weight = jax.random.normal(key, (*xs.shape[:-1], work.hidden))
    if not work.backward:
        forward = jax.jit(apply)
        return lambda: jax.block_until_ready(forward(parameters, xs))
    both = jax.jit(jax.grad(lambda p, x: (apply(p, x) * weight).sum(), argnums=(0, 1)))
    return lambda: jax.block_until_ready(both(parameters, xs))


def _text_step(work: Workload) -> Callable[[], object]:
    import jax
    import optax
    from flax import linen as nn

    class Text(nn.Module):
        @nn.compact
        def __call__(self, data):  # type: ignore[no-untyped-def]
            h = nn.RNN(nn.GRUCell(work.hidden), time_major=True)(jax.nn.one_hot(data, 256))
            return nn.Dense(256)(nn.elu(nn.Dense(64)(h)))

    key = jax.random.key(0)
    data = jax.random.randint(key, (work.steps + 1, work.batch), 0, 256)
    model, optimiser = Text(), optax.adam(1e-3)
    parameters = model.init(key, data[:-1])
    current = [parameters, optimiser.init(parameters)]

    @jax.jit
    def step(p, o):  # type: ignore[no-untyped-def]
        def loss(p):  # type: ignore[no-untyped-def]
            return optax.softmax_cross_entropy_with_integer_labels(model.apply(p, data[:-1]), data[1:]).mean()

        updates, o = optimiser.update(jax.grad(loss)(p), o)
        return optax.apply_updates(p, updates), o

    def run() -> None:
        current[:] = jax.block_until_ready(step(*current))

    return run


def _generate(work: Workload) -> Callable[[], object]:
    import jax
    import jax.numpy as jnp
    from flax import linen as nn

    class Step(nn.Module):
        @nn.compact
        def __call__(self, h, byte):  # type: ignore[no-untyped-def]
            h, y = nn.GRUCell(work.hidden)(h, jax.nn.one_hot(byte, 256))
            return h, nn.Dense(256)(nn.elu(nn.Dense(64)(y)))

    key, model = jax.random.key(0), Step()
    start = jnp.zeros((1, work.hidden))
    parameters = model.init(key, start, jnp.zeros(1, int))

    @jax.jit
    def generate(p, key):  # type: ignore[no-untyped-def]
        def one(carry, key):  # type: ignore[no-untyped-def]
            h, logits = model.apply(p, *carry)
            byte = jax.random.categorical(key, logits)
            return (h, byte), byte

        return jax.lax.scan(one, (start, jnp.zeros(1, int)), jax.random.split(key, work.steps))[1]

    return lambda: jax.block_until_ready(generate(parameters, key))

"""Keras 3 on TensorFlow: GRU, which resets after the map, and ConvLSTM2D, since Keras has no ConvGRU."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..workloads import Workload


def versions() -> dict[str, str]:
    import keras
    import tensorflow as tf

    return {"keras": keras.__version__, "tensorflow": tf.__version__}


def build(name: str, work: Workload, threads: int) -> Callable[[], object]:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if name == "W1":
        model = keras.Sequential(
            [
                keras.Input((work.steps, 256)),
                keras.layers.GRU(256, return_sequences=True),
                keras.layers.Dense(64, activation="elu"),
                keras.layers.Dense(256),
            ]
        )
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        data = np.random.default_rng(0).integers(256, size=(work.batch, work.steps + 1))
        xs, ys = np.eye(256, dtype="float32")[data[:, :-1]], data[:, 1:]
        return lambda: model.train_on_batch(xs, ys)
    if name.startswith("W3"):
        layer = keras.layers.GRU(work.hidden, return_sequences=True)
        shape: tuple[int, ...] = (work.batch, work.steps, work.c_in)
    elif name.startswith("W4"):
        layer = keras.layers.ConvLSTM2D(work.hidden, work.kernel_size, padding="same", return_sequences=True)
        shape = (work.batch, work.steps, *work.space, work.c_in)
    else:
        raise NotImplementedError("not written for Keras")
    xs = tf.random.normal(shape)
    weight = tf.random.normal((*shape[:-1], work.hidden))
    layer.build(shape)

    @tf.function
    def forward() -> object:
        return layer(xs)

    @tf.function
    def both() -> object:
        with tf.GradientTape() as tape:
            tape.watch(xs)
            loss = tf.reduce_sum(layer(xs) * weight)
        return tape.gradient(loss, [xs, *layer.trainable_variables])

    return both if work.backward else forward

"""onnxruntime with ONNX operators, forward only. The weights are random and differ from the others'."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..workloads import Workload


def versions() -> dict[str, str]:
    import onnxruntime

    return {"onnxruntime": onnxruntime.__version__}


def build(name: str, work: Workload, threads: int) -> Callable[[], object]:
    if work.backward:
        raise NotImplementedError("onnxruntime computes no gradients")
    import onnxruntime

    graph = {"W6": _detector, "W7": _text_step}.get(name, _gru)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(graph(work), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    if name == "W6":
        frame = rng.random((1, work.c_in, *work.space), np.float32)
        state = [np.zeros((1, work.hidden, 53, 73), np.float32)]

        def stream() -> None:
            state[0] = session.run(["state_out"], {"frame": frame, "state": state[0]})[0]

        return stream
    if name == "W7":

        def generate() -> None:
            byte, state = np.zeros((1, 1), np.int64), np.zeros((1, 1, work.hidden), np.float32)
            for _ in range(work.steps):
                p, state = session.run(None, {"byte": byte, "state": state})
                byte = np.searchsorted(np.cumsum(p[0]), rng.random()).clip(max=255).reshape(1, 1)

        return generate
    xs = rng.standard_normal((work.steps, work.batch, work.c_in), np.float32)
    return lambda: session.run(["ys"], {"xs": xs})


def _weights(*shape: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32) / np.float32(shape[-1] ** 0.5)


def _gru(work: Workload) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    h = work.hidden
    start = [numpy_helper.from_array(_weights(1, 3 * h, n), key) for key, n in (("w", work.c_in), ("r", h))]
    node = helper.make_node("GRU", ["xs", "w", "r"], ["ys"], hidden_size=h, linear_before_reset=0)
    inputs = [helper.make_tensor_value_info("xs", TensorProto.FLOAT, (work.steps, work.batch, work.c_in))]
    outputs = [helper.make_tensor_value_info("ys", TensorProto.FLOAT, (work.steps, 1, work.batch, h))]
    return _model([node], inputs, outputs, start)


def _text_step(work: Workload) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    h = work.hidden
    tensors = {
        "rows": np.eye(256, dtype=np.float32),
        "w": _weights(1, 3 * h, 256),
        "r": _weights(1, 3 * h, h),
        "w1": _weights(h, 64),
        "w2": _weights(64, 256),
        "flat": np.array([1, h]),
    }
    nodes = [
        helper.make_node("Gather", ["rows", "byte"], ["x"]),
        helper.make_node(
            "GRU", ["x", "w", "r", "", "", "state"], ["", "state_out"], hidden_size=h, linear_before_reset=0
        ),
        helper.make_node("Reshape", ["state_out", "flat"], ["y"]),
        helper.make_node("MatMul", ["y", "w1"], ["a"]),
        helper.make_node("Elu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["c"]),
        helper.make_node("Softmax", ["c"], ["p"], axis=-1),
    ]
    inputs = [
        helper.make_tensor_value_info("byte", TensorProto.INT64, (1, 1)),
        helper.make_tensor_value_info("state", TensorProto.FLOAT, (1, 1, h)),
    ]
    outputs = [
        helper.make_tensor_value_info("p", TensorProto.FLOAT, (1, 256)),
        helper.make_tensor_value_info("state_out", TensorProto.FLOAT, (1, 1, h)),
    ]
    return _model(nodes, inputs, outputs, [numpy_helper.from_array(v, k) for k, v in tensors.items()])


def _detector(work: Workload) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    shapes = {"c1": (16, 3), "c2": (16, 16), "c3": (16, 16), "zr": (32, 32), "c": (16, 32)}
    start = [numpy_helper.from_array(_weights(*s, 5, 5), k) for k, s in shapes.items()]
    start.append(numpy_helper.from_array(_weights(1, 16, 1, 1), "head"))
    start.append(numpy_helper.from_array(np.array(1, np.float32), "one"))
    same = {"pads": [2, 2, 2, 2]}
    nodes = [
        helper.make_node("Conv", ["frame", "c1"], ["a1"]),
        helper.make_node("LeakyRelu", ["a1"], ["b1"], alpha=0.2),
        helper.make_node("MaxPool", ["b1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "c2"], ["a2"]),
        helper.make_node("LeakyRelu", ["a2"], ["b2"], alpha=0.2),
        helper.make_node("MaxPool", ["b2"], ["p2"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p2", "c3"], ["a3"]),
        helper.make_node("LeakyRelu", ["a3"], ["x"], alpha=0.2),
        helper.make_node("Concat", ["x", "state"], ["xh"], axis=1),
        helper.make_node("Conv", ["xh", "zr"], ["zra"], **same),
        helper.make_node("Sigmoid", ["zra"], ["gates"]),
        helper.make_node("Split", ["gates"], ["z", "r"], axis=1, num_outputs=2),
        helper.make_node("Mul", ["r", "state"], ["rh"]),
        helper.make_node("Concat", ["x", "rh"], ["xrh"], axis=1),
        helper.make_node("Conv", ["xrh", "c"], ["ca"], **same),
        helper.make_node("Tanh", ["ca"], ["cand"]),
        helper.make_node("Sub", ["one", "z"], ["keep"]),
        helper.make_node("Mul", ["keep", "state"], ["old"]),
        helper.make_node("Mul", ["z", "cand"], ["new"]),
        helper.make_node("Add", ["old", "new"], ["state_out"]),
        helper.make_node("Conv", ["state_out", "head"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    inputs = [
        helper.make_tensor_value_info("frame", TensorProto.FLOAT, (1, work.c_in, *work.space)),
        helper.make_tensor_value_info("state", TensorProto.FLOAT, (1, 16, "h", "w")),
    ]
    outputs = [
        helper.make_tensor_value_info(key, TensorProto.FLOAT, (1, c, "h", "w"))
        for key, c in (("score", 1), ("state_out", 16))
    ]
    return _model(nodes, inputs, outputs, start)


def _model(nodes: list, inputs: list, outputs: list, start: list) -> bytes:  # type: ignore[type-arg]
    from onnx import helper

    graph = helper.make_graph(nodes, "peer", inputs, outputs, start)
    opset = [helper.make_opsetid("", 20)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())

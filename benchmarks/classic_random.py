"""Compare canton.classic with the published 2017 package, on random layers and sizes.

Run `record` in an environment with the package, then `compare` here:

    python -m venv old && old/bin/pip install tensorflow-cpu canton==0.1.22
    old/bin/python benchmarks/classic_random.py record FOLDER
    python benchmarks/classic_random.py compare FOLDER [--write benchmarks/results/classic_random.json]

The package runs on tensorflow.compat.v1 with one thread. Layers that are newer than 0.1.22 are not compared.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import random
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
Shapes = list[tuple[int, ...]]


def random_cases(count: int = 200) -> Iterator[tuple[str, Shapes]]:
    """Yield constructors, equal in both libraries, and the shapes of their inputs."""
    rng = random.Random(7)
    for _ in range(count):
        b, c, d, few = (rng.randint(*bounds) for bounds in ((1, 3), (1, 5), (1, 5), (1, 4)))
        h, w, t = (rng.randint(*bounds) for bounds in ((5, 12), (5, 12), (1, 20)))
        k, rate = rng.randint(1, 5), rng.choice([1, 1, 2, 3])
        std, padding = rng.randint(1, 4) if rate == 1 else 1, rng.choice(["SAME", "VALID"])
        margin = (k - 1) * rate  # so that VALID has an output
        yield rng.choice(
            [
                (
                    f"Conv2D({c}, {d}, {k}, {std}, {few > 2}, {rate}, '{padding}')",
                    [(b, h + margin, w + margin, c)],
                ),
                (f"AvgPool2D({few}, {std}, '{padding}')", [(b, h, w, c)]),
                (f"MaxPool2D({few}, {std}, '{padding}')", [(b, h, w, c)]),
                (f"GRU({c}, {d + 1})", [(b, t, c)]),
                (f"GRUConv2D({c}, {d}, k={k}, rate={min(rate, 2)})", [(b, t, h, w, c)]),
                (f"Glimpse2D({k + few}, {rng.choice([5, 20, 33])})", [(b, h, w, c), (b, 2)]),
                (f"GRU_Glimpse2D({d}, {k + few}, {c}, {rng.choice([8, 20])})", [(b, t, h, w, c)]),
                (f"ResConv({4 * c}, {4 * rng.choice([c, 2 * d])}, {min(std, 2)})", [(b + 1, h, w, 4 * c)]),
                (f"BatchNorm({c}, {rng.choice([1e-3, 1e-5, 0.1])})", [(b + 3, h, w, c)]),
                (f"LayerNorm({c + 3})", [(b, h, w, c + 3)]),
                (f"LayerNormDense({c + 3}, {d + 3}, bias={few > 2})", [(b, c + 3)]),
                (f"Up2D({few})", [(b, h, w, c)]),
                (f"Expansion({c}, {d})", [(b, c)]),
                (f"LastDimDense({c}, {d})", [(b, h, 2, w, c)]),
                (f"TimeDistributedDense({c}, {d}, bias={few > 2})", [(b, t, c)]),
            ]
        )


def record(folder: Path) -> None:
    """Record inputs, weights, outputs, and the gradients of a weighted sum of the outputs."""
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    sys.modules["tensorflow"] = tf
    import canton

    rng, table = np.random.default_rng(3), {}
    one = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    for n, (code, shapes) in enumerate(random_cases()):
        tf.reset_default_graph()
        tf.set_random_seed(n)
        run = tf.Session(config=one)
        canton.set_session(run)
        with contextlib.redirect_stdout(io.StringIO()):
            can = eval(code, vars(canton))
            x = [tf.placeholder(tf.float32, shape) for shape in shapes]
            y = can(x if len(x) > 1 else x[0], **_shaper(code, lambda i: tf.shape(i)[0]))
        run.run(canton.gvi())
        weights, variables = can.get_weights(), can.traverse("variables")
        for w in weights:
            run.run(tf.assign(w, run.run(w) + 0.2 * rng.normal(size=w.shape).astype("f4")))
        found = {f"w{k}": run.run(w) for k, w in enumerate(weights)}
        found |= {f"v{k}": run.run(v) for k, v in enumerate(variables)}
        found |= {f"x{k}": rng.normal(size=shape).astype("f4") for k, shape in enumerate(shapes)}
        feed = {placeholder: found[f"x{k}"] for k, placeholder in enumerate(x)}
        found["y"] = run.run(y, feed)
        found["probe"] = rng.normal(size=found["y"].shape).astype("f4")
        grads = tf.gradients(tf.reduce_sum(y * found["probe"]), [*x, *weights])
        found |= {f"g{k}": run.run(g, feed) for k, g in enumerate(grads) if g is not None}
        table.update({f"{n}/{name}": value for name, value in found.items()})
    np.savez_compressed(folder / "random.npz", **table)
    versions = {name: version(name) for name in ("canton", "tensorflow-cpu", "numpy")}
    (folder / "random.json").write_text(
        json.dumps({**versions, "python": platform.python_version()}), "utf-8"
    )


def compare(folder: Path) -> dict[str, Any]:
    """Return the largest errors by layer, relative to the largest value of each array (at least 1e-3)."""
    import torch

    import canton

    torch.set_num_threads(1)
    figures: dict[str, dict[str, Any]] = {}
    with np.load(folder / "random.npz") as table:
        for n, (code, shapes) in enumerate(random_cases()):
            prefix = f"{n}/"
            z = {name.removeprefix(prefix): table[name] for name in table.files if name.startswith(prefix)}
            ours, truth = (_ours(code, z, dtype) for dtype in (torch.float32, torch.float64))
            worst = figures.setdefault(code.partition("(")[0], {"cases": 0})
            worst["cases"] += 1
            for name, value in ours.items():
                kind = "output" if name == "y" else "gradient"
                for column, error in (
                    (kind, _error(value, z[name])),
                    (f"{kind}, canton from float64", _error(value, truth[name])),
                    (f"{kind}, the package from float64", _error(z[name], truth[name])),
                ):
                    if error >= worst.get(column, 0.0):
                        worst[column] = error
                        if column == kind:
                            worst[f"{kind} of"] = f"{code} of {shapes}"
    return {
        "what": "canton.classic and the 2017 package on random layers and sizes, in float32: largest errors, "
        "relative to the largest value of the array (at least 1e-3), and the errors of both against float64",
        "cases": sum(worst["cases"] for worst in figures.values()),
        "worst": {kind: max(worst[kind] for worst in figures.values()) for kind in ("output", "gradient")},
        "by layer": dict(sorted(figures.items())),
        "recorded with": json.loads((folder / "random.json").read_text("utf-8")),
        "compared with": {"canton": canton.__version__, "torch": torch.__version__},
        "machine": f"{platform.machine()} {platform.system()}, one thread",
    }


def _ours(code: str, z: dict[str, np.ndarray], dtype: Any) -> dict[str, np.ndarray]:
    """Return output and gradients for the recorded weights and inputs, by their recorded names."""
    import torch

    from canton import classic

    can = eval(code, vars(classic)).to(dtype)
    weights = can.get_weights()
    with torch.no_grad():
        for letter, tensors in (("w", weights), ("v", can.traverse("variables"))):
            for k, tensor in enumerate(tensors):
                tensor.copy_(torch.from_numpy(z[f"{letter}{k}"]))
    x = [torch.from_numpy(z[name]).to(dtype).requires_grad_() for name in ("x0", "x1") if name in z]
    y = can(x if len(x) > 1 else x[0], **_shaper(code, len))
    loss = (y * torch.from_numpy(z["probe"])).sum()
    grads = torch.autograd.grad(loss, [*x, *weights], allow_unused=True)
    return {"y": y.detach().numpy()} | {f"g{k}": g.numpy() for k, g in enumerate(grads) if g is not None}


def _shaper(code: str, rows: Any) -> dict[str, Any]:
    if code.startswith("GRU_Glimpse2D"):
        return {"state_shaper": lambda i, num_h: [rows(i), num_h]}
    return {}


def _error(found: np.ndarray, recorded: np.ndarray) -> float:
    assert found.shape == recorded.shape, f"{found.shape}, recorded {recorded.shape}"
    return float(np.abs(found - recorded).max() / max(np.abs(recorded).max(), 1e-3))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Compare canton.classic with the 2017 package on random layers."
    )
    parser.add_argument("step", choices=("record", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", type=Path, help="JSON file for the results")
    arguments = parser.parse_args(argv)
    if arguments.step == "record":
        record(arguments.folder)
        return
    text = json.dumps(compare(arguments.folder), indent=2) + "\n"
    print(text, end="")
    if arguments.write is not None:
        arguments.write.write_text(text, "utf-8")


if __name__ == "__main__":
    main()

"""Largest differences of outputs and gradients between Canton and other libraries with the same weights.

    python benchmarks/peers_weights.py [--write benchmarks/results/peers_weights.json]

torch.nn and onnxruntime run here; the results of the others are recorded (record_peers.py).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "interop")]

import test_from_torch  # noqa: E402
import test_onnx_export  # noqa: E402
from peers import RECORDED, peers, results  # noqa: E402

import canton  # noqa: E402
from canton.interop.onnx.export import export  # noqa: E402
from canton.interop.torch_nn import from_torch  # noqa: E402

Worst = dict[str, float]


def error(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest value of `expected`."""
    scale = max(expected.abs().max().item(), 1e-3)
    return (found - expected).abs().max().item() / scale


def update(worst: Worst, kind: str, found: Tensor, expected: Tensor) -> None:
    worst[kind] = max(worst.get(kind, 0.0), error(found.detach(), expected.detach()))


def recorded() -> dict[str, Worst]:
    systems: dict[str, Worst] = {}
    for peer in peers():
        worst = systems.setdefault(peer.system, {"cases": 0})
        worst["cases"] += 1
        ours, expected = results(peer)
        for name, value in expected.items():
            update(worst, "gradients" if name.startswith("g_") else "outputs", ours[name], value)
    return systems


def torch_nn() -> Worst:
    worst: Worst = {"cases": len(test_from_torch.GRID)}
    for case in test_from_torch.GRID:
        theirs = test_from_torch.make(*case)
        ours, x = from_torch(theirs), torch.randn(4, 3, 3)
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, expected = ours(one)[0], theirs(other)[0]
        update(worst, "outputs", y, expected)
        y.sin().sum().backward()
        expected.sin().sum().backward()
        assert one.grad is not None
        assert other.grad is not None
        update(worst, "gradients", one.grad, other.grad)
        ours_grad, theirs_grad = ours.cells[0].input_map.weight.grad, theirs.weight_ih_l0.grad
        if isinstance(theirs, nn.GRU):
            r, z, n = theirs_grad.chunk(3)
            theirs_grad = torch.cat([-z, r, n])
        update(worst, "gradients", ours_grad, theirs_grad)
    return worst


def onnxruntime() -> Worst:
    worst: Worst = {"cases": len(test_onnx_export.LAYERS)}
    for case, (_, space) in test_onnx_export.LAYERS.items():
        layer = test_onnx_export.make(case)
        x, state = torch.randn(4, 4, layer.input_size, *space), test_onnx_export.states_of(layer, 4, space)
        found = test_onnx_export.runner(export(layer)).run(None, test_onnx_export.feed(x, state))
        with torch.no_grad():
            y, _ = layer(x, test_onnx_export.one_or_all(state))
        update(worst, "outputs", torch.from_numpy(found[0]), y)
    return worst


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Largest differences from other libraries with the same weights."
    )
    parser.add_argument("--write", type=Path, help="JSON file for the results")
    path = parser.parse_args(argv).write
    torch.manual_seed(0)
    versions = json.loads((RECORDED / "versions.json").read_text("utf-8"))
    figures = {
        name: {"versions": versions[name], "run": "recorded", **worst} for name, worst in recorded().items()
    }
    figures["torch.nn"] = {"versions": {"torch": torch.__version__}, "run": "here", **torch_nn()}
    both = {name: version(name) for name in ("onnx", "onnxruntime")}
    figures["onnx"] = {"versions": both, "run": "here", **onnxruntime()}
    table = {
        "what": "largest difference between Canton and the library, relative to the array's largest value",
        "canton": canton.__version__,
        "machine": f"{platform.machine()} {platform.system()}, Python {platform.python_version()}",
        "systems": figures,
    }
    text = json.dumps(table, indent=2) + "\n"
    print(text, end="")
    if path is not None:
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()

"""Every exportable public layer with each option, single, stacked and bidirectional, in onnxruntime."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import pytest
import torch

import canton

pytest.importorskip("onnx", reason="onnx is not installed (canton-torch[onnx])")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (canton-torch[dev])")

from test_onnx_export import compare, feed, one_or_all, runner, states_of

from canton.interop.onnx.export import export, export_step

OPTIONS: dict[str, list[Any]] = {
    "bias": [False],
    "reset": ["after", False],  # GRU: where; MGU: whether
    "nonlinearity": ["relu"],
    "layer_norm": [True],
    "peephole": [True],
    "proj_size": [2],
    "gate_input": [False],
    "groups": [2],
    "dilation": [2],
    "padding_mode": ["circular"],
    "zoneout": [0.3],
    "learn_initial_state": [True],
    "batch_first": [True],
}
SHAPES = {"1d": (6,), "2d": (5, 6), "3d": (3, 4, 5)}


def space_of(name: str) -> tuple[int, ...]:
    return SHAPES.get(name[-2:], ())


def is_exportable_layer(name: str) -> bool:
    make = getattr(canton, name)
    if not callable(make) or "num_layers" not in inspect.signature(make).parameters:
        return False
    try:
        export(make(2, 2, **({"kernel_size": 1} if space_of(name) else {})).eval())
    except ValueError:
        return False
    return True


LAYERS = [name for name in canton.__all__ if is_exportable_layer(name)]


def cases() -> list[tuple[str, dict[str, Any]]]:
    """Return each layer with its defaults, and with each of its options."""
    found = []
    for name in LAYERS:
        parameters = inspect.signature(getattr(canton, name)).parameters
        found.append((name, {}))
        for option, values in OPTIONS.items():
            if option in parameters:
                right = str if isinstance(parameters[option].default, str) else bool
                values = [v for v in values if option != "reset" or isinstance(v, right)]
                found += [(name, {option: value}) for value in values]
    return found


def test_all_layers_are_tested() -> None:
    kinds = {"GRU", "LSTM", "RNN"}
    dense = kinds | {"MGU", "MinGRU"}
    assert set(LAYERS) == dense | {f"Conv{kind}{axes}d" for kind, axes in itertools.product(kinds, (1, 2, 3))}
    assert len(cases()) > 100


@pytest.mark.parametrize(
    ("num_layers", "bidirectional"), [(1, False), (2, True)], ids=["single", "two layers, bidirectional"]
)
@pytest.mark.parametrize(("name", "options"), cases(), ids=str)
def test_onnxruntime_computes_it(
    name: str, options: dict[str, Any], num_layers: int, bidirectional: bool
) -> None:
    space = space_of(name)
    kernel = {"kernel_size": 3} if space else {}
    layer = getattr(canton, name)(
        4, 6, num_layers=num_layers, bidirectional=bidirectional, **kernel, **options
    ).eval()
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(std=0.3 if p.ndim < 3 else p[0].numel() ** -0.5)
    sequence, step = runner(export(layer)), None if bidirectional else runner(export_step(layer))
    for steps, batch, more in ((4, 2, 0), (1, 3, 1)):
        sizes = tuple(size + more for size in space)
        lead = (batch, steps) if layer.batch_first else (steps, batch)
        x, state = torch.randn(*lead, 4, *sizes), states_of(layer, batch, sizes)
        with torch.no_grad():
            compare(sequence.run(None, feed(x, state)), *layer(x, one_or_all(state)))
            if step is not None:
                one = x[:, 0] if layer.batch_first else x[0]
                compare(step.run(None, feed(one, state)), *layer.step(one, one_or_all(state)))

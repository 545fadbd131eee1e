"""What C++ must not read raises an error, and an assert guards nothing in the package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import canton
from canton.kernels import cpu
from canton.kernels.cpu import conv2d, linear
from canton.kernels.cpu.address import address, strided_address
from tolerances import assert_close

X = torch.arange(12.0)

BAD: dict[str, Tensor] = {
    "size": X[:11],
    "dtype": X.double(),
    "device": X.to("meta"),
    "order": X.view(3, 4).t(),
    "step": torch.arange(24.0)[::2],
    "expanded": X[:1].expand(12),
    "negated": torch._neg_view(X),
    "zero": torch._efficientzerotensor(12),
}


class Wrapped(Tensor):
    """A tensor whose numbers lie in another one, negated, as those of a quantised weight do."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapped:
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=inner.device)

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        def unwrap(x: object) -> object:
            return -x.inner if isinstance(x, Wrapped) else x

        args, kwargs = torch.utils._pytree.tree_map(unwrap, (args, kwargs or {}))
        if func is torch.ops.aten.detach.default:
            return Wrapped(-args[0])
        return func(*args, **kwargs)


@pytest.mark.parametrize("name", BAD)
def test_a_tensor_that_cpp_cannot_read_raises(name: str) -> None:
    with pytest.raises(ValueError, match=r"^gx "):
        address("gx", BAD[name], 12)


@pytest.mark.parametrize("name", ["size", "dtype", "device", "negated", "zero"])
def test_a_strided_tensor_that_cpp_cannot_read_raises(name: str) -> None:
    with pytest.raises(ValueError, match=r"^x "):
        strided_address("x", BAD[name], (12,))


def test_the_address_is_that_of_the_first_element() -> None:
    assert address("gx", X[2:], 10) == X.data_ptr() + 8
    assert strided_address("x", X[1::2], (6,)) == X.data_ptr() + 4
    assert address("reset", torch.zeros(3, dtype=torch.bool), 3, torch.bool)


def quantise(module: nn.Linear) -> None:
    module.weight = nn.Parameter(Wrapped(-module.weight.detach()), requires_grad=False)


@pytest.mark.parametrize("which", ["input_map", "hidden_map", "candidate_map"])
def test_a_weight_of_a_subclass_reaches_no_kernel(which: str) -> None:
    layer, xs = canton.GRU(64, 32), torch.randn(20, 128, 64)  # so large that the input half would be C++ too
    with torch.no_grad():
        expected, _ = layer(xs)
        quantise(getattr(layer.cells[0], which))
        assert_close(layer(xs)[0], expected)
        assert_close(layer.step(xs[0])[0], expected[0])
    if which == "input_map":
        return
    for kernel, reason in layer.explain(xs)[0].reasons.items():
        assert "subclass Wrapped" in str(reason)
        layer.kernel = kernel
        with pytest.raises(ValueError, match="subclass Wrapped"):
            layer(xs)


@pytest.mark.skipif(not cpu.available(), reason=str(cpu.why_not()))
def test_the_input_half_of_a_subclass_is_torchs() -> None:
    dense, rows = nn.Linear(64, 96), torch.randn(2560, 64)
    conv, images = nn.Conv2d(8, 8, 3, padding="same"), torch.randn(2, 8, 9, 9)
    assert linear.unsupported_reason(dense, rows) is None or cpu.instruction_set() == "portable"
    assert conv2d.unsupported_reason(conv, images) is None
    assert "Wrapped" in str(linear.unsupported_reason(dense, Wrapped(rows)))
    assert "Wrapped" in str(conv2d.unsupported_reason(conv, Wrapped(images)))


def test_asserts_only_narrow_types(root: Path) -> None:
    """``python -O`` removes an assert: a condition that guards a result must raise."""
    wrong = []
    for path in sorted((root / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Assert) and not _narrows(node.test):
                wrong += [f"{path.relative_to(root)}:{node.lineno}: {ast.unparse(node.test)}"]
    assert not wrong, "\n".join(wrong)


def _narrows(test: ast.expr) -> bool:
    if isinstance(test, ast.Call):
        return isinstance(test.func, ast.Name) and test.func.id == "isinstance"
    return isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.IsNot) and len(test.ops) == 1

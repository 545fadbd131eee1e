"""Every argument of a layer in every layout in memory, each kernel against the reference loop.

Run as a script under ``python -O`` it compares a fixed choice and exits with the differences. It uses no
assert, which -O removes.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from canton import maps
from canton.core.recurrent import Recurrent
from canton.kernels import cpu
from cases import given, parts

STEPS, BATCH, C_IN, HIDDEN = 6, 3, 4, 8

KERNELS = ("manual", "cpp", "associative_scan", "auto")
"""The kernels of the CPU."""

PLACES: dict[str, tuple[maps.Map, tuple[int, ...]]] = {
    "dense": (maps.dense, ()),
    "conv1d": (maps.conv1d(3), (6,)),
    "conv2d": (maps.conv2d(3), (5, 9)),
}


def _transposed(x: Tensor) -> Tensor:
    backwards = tuple(reversed(range(x.ndim)))
    return x.permute(backwards).contiguous().permute(backwards)


def _inside(x: Tensor, margin: int, step: int) -> Tensor:
    """Return `x` as a part of a larger tensor, whose other entries are NaN, True or out of range."""
    filler = True if x.dtype == torch.bool else 99 if not x.is_floating_point() else float("nan")
    larger = x.new_full([2 * margin + step * size for size in x.shape], filler)
    view = larger[tuple(slice(margin, margin + step * size, step) for size in x.shape)]
    view.copy_(x)
    return view


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "transposed": _transposed,
    "sliced": lambda x: _inside(x, 1, 1),
    "strided": lambda x: _inside(x, 0, 2),
    "expanded-first": lambda x: x[:1].expand_as(x),
    "expanded-last": lambda x: x[..., :1].expand_as(x),
}

ARGUMENTS = ("input", "hx", "weights", "reset", "reset_state", "lengths", "mask", "gradient")


OPTIONAL = ("hx", "reset", "reset_state", "lengths", "mask")
"""Those that a call may leave out. Lengths make the library copy `reset`, so it is also tried without."""


@dataclass(frozen=True)
class Case:
    """A layer, its options and the layout of each of `ARGUMENTS`, contiguous where none is given."""

    layer: type[Recurrent]
    place: str = "dense"
    dtype: torch.dtype = torch.float32
    batch_first: bool = False
    bidirectional: bool = False
    learn_initial_state: bool = False
    recompute: bool = False
    optional: frozenset[str] = frozenset(OPTIONAL)
    layouts: dict[str, str] = field(default_factory=dict)

    def lay_out(self, name: str, x: Tensor) -> Tensor:
        """Return `x` in the layout of the argument `name`."""
        return LAYOUTS[self.layouts.get(name, "contiguous")](x)


def differences(case: Case, kernel: str) -> list[str] | None:
    """Return where `kernel` differs from the reference loop; None where it cannot run the case."""
    torch.manual_seed(5)
    made, space = PLACES[case.place]
    layer = case.layer(
        C_IN,
        HIDDEN,
        batch_first=case.batch_first,
        bidirectional=case.bidirectional,
        learn_initial_state=case.learn_initial_state,
        recompute=case.recompute,
        kernel=kernel,
        map=made,
        dtype=case.dtype,
    )
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
        parameter.data = case.lay_out("weights", parameter.data)
    lead = (BATCH, STEPS) if case.batch_first else (STEPS, BATCH)
    xs = torch.randn(*lead, C_IN, *space, dtype=case.dtype)
    shapes = [(len(layer.cells), BATCH, size, *space) for size in layer.state_sizes]
    options: dict[str, Tensor] = {}
    if "reset" in case.optional:
        options["reset"] = case.lay_out("reset", torch.rand(lead) < 0.4)
    if "lengths" in case.optional:
        options["lengths"] = case.lay_out("lengths", torch.tensor([STEPS, 0, 3])[:BATCH])
    if "mask" in case.optional:
        options["mask"] = case.lay_out("mask", torch.rand(lead) < 0.7)
    states = [name for name in ("hx", "reset_state") if name in case.optional]
    leaves = {"input": [xs]} | {
        name: [torch.rand(shape, dtype=case.dtype) + 0.1 for shape in shapes] for name in states
    }
    try:
        found = _results(case, layer, leaves, options, as_given=True)
    except ValueError as error:
        if f"kernel={kernel!r}" in str(error):
            return None
        raise
    plain = copy.deepcopy(layer)
    plain.kernel = "loop"
    for parameter in plain.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    expected = _results(case, plain, leaves, options, as_given=False)
    return [f"{kernel}: {name}: {error:.2g}" for name in expected if (error := _error(name, found, expected))]


def _results(
    case: Case,
    layer: Recurrent,
    leaves: dict[str, list[Tensor]],
    options: dict[str, Tensor],
    *,
    as_given: bool,
) -> dict[str, Tensor]:
    """Return outputs, state and gradients; arguments and gradients lie contiguous unless `as_given`."""

    def place(name: str, x: Tensor) -> Tensor:
        laid = case.lay_out(name, x)
        return laid if as_given else laid.contiguous()

    copies = {name: [leaf.clone().requires_grad_() for leaf in group] for name, group in leaves.items()}
    placed = {name: given(tuple(place(name, leaf) for leaf in group)) for name, group in copies.items()}
    placed |= options if as_given else {name: t.contiguous() for name, t in options.items()}
    ys, after = layer(**placed)
    results = {"ys": ys, **{f"state {k}": s for k, s in enumerate(parts(after))}}
    steady = [torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape) for y in results.values()]
    weights = [place("gradient", weight) for weight in steady]
    targets = {f"{name} {k}": leaf for name, group in copies.items() for k, leaf in enumerate(group)}
    targets |= dict(layer.named_parameters())
    grads = torch.autograd.grad(list(results.values()), list(targets.values()), weights, allow_unused=True)
    results |= {f"{name} gradient": g for name, g in zip(targets, grads, strict=True) if g is not None}
    return {name: value.detach() for name, value in results.items()}


def _error(name: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Return the error relative to the largest expected value; 0 where it is within rounding."""
    if name not in found or found[name].shape != expected[name].shape:
        return float("inf")
    wanted = expected[name].double()
    error = float((found[name].double() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-3))
    return 0.0 if error <= (1e-10 if expected[name].dtype == torch.float64 else 6e-5) else error


def main() -> None:
    """Compare every layout of all arguments at once, on every cell with a kernel of its own."""
    from canton import GRU, LSTM, SLSTM, MinGRU

    if __debug__:
        sys.exit("run this script with python -O")
    torch.set_num_threads(1)
    compared, wrong = 0, []
    for layer in (GRU, LSTM, SLSTM, MinGRU):
        for place in ("dense", "conv1d"):
            for layout, optional in itertools.product(LAYOUTS, (OPTIONAL, ("reset", "reset_state"))):
                case = Case(
                    layer,
                    place,
                    batch_first=True,
                    optional=frozenset(optional),
                    layouts=dict.fromkeys(ARGUMENTS, layout),
                )
                for kernel in KERNELS[:-1]:  # "auto" is one of the others
                    found = differences(case, kernel)
                    compared += found is not None
                    wrong += [f"{case}: {line}" for line in found or ()]
    of_cpp = 3 * 2 if cpu.available() else 0  # not minGRU, which runs there without reset and lengths only
    expected = 2 * len(LAYOUTS) * (4 * 2 + of_cpp)
    if wrong or compared != expected:
        sys.exit("\n".join([*wrong, f"compared {compared} of {expected}"]))
    print(f"compared {compared}")


if __name__ == "__main__":
    main()

"""Types for users: py.typed is in the package; strict pyright and mypy accept a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import canton

PROGRAM = """\
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from canton import GRU, LSTM, MGU, RNN, Cell, ConvGRU2d, ConvLSTM2d, GRUCell, LSTMCell, MinGRU
from canton import Recurrent, detach, gates
from canton.maps import conv2d, dense, separable2d
from canton.track import Architecture, TrackModel, Tracker, find_peaks


def mine(c_in: int, c_out: int, bias: bool) -> nn.Module:
    return nn.Linear(c_in, c_out, bias=bias)


class Leaky(Cell):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, gates=1, state_sizes=(hidden_size,), map=mine)

    def advance(
        self, gx: Tensor, state: tuple[Tensor, ...], dropout_mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        (h,) = state
        return (gates.lerp_gate(h, gates.gate(gx), gates.candidate(gx)),)


layers: list[Recurrent] = [
    GRU(3, 4, num_layers=2, map=mine), LSTM(3, 4, proj_size=2, map=dense), MGU(3, 4), RNN(3, 4), MinGRU(3, 4),
    ConvGRU2d(3, 4, 3), ConvLSTM2d(3, 4, 3), GRU(3, 4, map=conv2d(3)), GRU(3, 4, map=separable2d(3)),
    Recurrent([GRUCell(3, 4), LSTMCell(4, 4)]), Recurrent([Leaky(3, 4)], dropout=0.1),
]
xs = torch.randn(5, 2, 3)
ys, state = layers[0](xs, lengths=torch.tensor([5, 2]))
y, state = layers[0].step(xs[0], state)
mask = torch.ones(5, 2, dtype=torch.bool)
all_h: Tensor = GRU(3, 4)(xs, mask=mask, return_all=True)[2]
all_of_h, all_of_c = LSTM(3, 4)(xs, reset=mask, reset_state=LSTM(3, 4)(xs)[1], return_all=True)[2]
one_n: Tensor = GRU(3, 4).step(xs[0], mask=mask[0], reset=mask[0])[1]
both_all: Tensor = all_of_h + all_of_c
cut = detach(state)
h_n: Tensor = detach(GRU(3, 4, kernel="loop", layer_norm=True)(xs)[1])
lstm_h, lstm_c = LSTM(3, 4).step(xs[0])[1]
both: Tensor = lstm_h + lstm_c
packed: PackedSequence = ConvGRU2d(3, 4, 3, zoneout=0.1)(pack_sequence([xs[:, 0]]))[0]


class Mine(GRU):
    pass


mine_n: Tensor = Mine(3, 4)(input=xs, hx=h_n)[1]
name: str = layers[0].which(xs)
model = TrackModel(Architecture(memory=8))
maps, memory = model.step(torch.rand(1, 3, 32, 32))
tracks = Tracker(10.0).update(find_peaks(torch.rand(4, 4), stride=8, offset=3.5))
centres: list[tuple[float, float]] = [track.box.centre for track in tracks]
"""


def check(folder: Path, program: str) -> list[str]:
    """Return the errors of strict pyright in `program`, a file that uses Canton as an installed package."""
    (folder / "program.py").write_text(program, "utf-8")
    settings = {"include": ["program.py"], "typeCheckingMode": "strict", "pythonVersion": "3.10"}
    # pyright does not find editable installs that use an import hook
    settings["extraPaths"] = [str(Path(canton.__file__).parents[1])]
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    try:
        output = json.loads(done.stdout)
    except json.JSONDecodeError:
        pytest.skip(f"pyright does not run: {done.stderr[-300:]}")
    return [
        f"{found['range']['start']['line'] + 1}: {found['message']}" for found in output["generalDiagnostics"]
    ]


def test_py_typed_is_shipped() -> None:
    assert (Path(canton.__file__).parent / "py.typed").is_file()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is not installed")
def test_strict_pyright_accepts_the_program(tmp_path: Path) -> None:
    assert check(tmp_path, PROGRAM) == []


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is not installed")
@pytest.mark.parametrize(
    "call",
    [
        'GRU("3", 4)',
        'GRU(3, 4, kernel="fast")',
        'ConvGRU2d(3, 4, 3, dtype="float32")',
        "ConvGRU2d(3, 4, 3, recompile=True)",
        "len(GRU(3, 4)(torch.zeros(1, 1, 3))[1].nothing)",
    ],
)
def test_strict_pyright_rejects_a_wrong_argument(tmp_path: Path, call: str) -> None:
    errors = check(
        tmp_path, f"import torch\nfrom canton import GRU, ConvGRU2d\n\n_ = torch, GRU, ConvGRU2d\n{call}\n"
    )
    assert errors
    assert all(error.startswith("5:") for error in errors)


@pytest.mark.slow
def test_strict_mypy_accepts_the_program(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, "utf-8")
    source = str(Path(canton.__file__).parents[1])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--python-version=3.10",
            "program.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": source},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout

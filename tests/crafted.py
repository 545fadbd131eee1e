"""Model files that somebody crafted: random mutations with a fresh checksum, each opened in a process."""

from __future__ import annotations

import copy
import json
import math
import os
import resource
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from canton.errors import UserError
from canton.io.tensor_file import DTYPES, read_tensors, write_tensors

MAX_SECONDS, MAX_BYTES = 5, 1 << 30

VALUES: tuple[Any, ...] = (
    0, 1, 2, 3, 7, 1000, -1, 2**16, 2**31, 2**40, 2**63, 10**400, 0.5, -0.5, 1e-300, 1e300, math.nan,
    math.inf, "", "x", "nan", "cuda", "\0", None, True, False, [], {}, [[]], [0], [-1], ["x"], [[1, 2], [3]],
    [[2, 2**40]], [[2**40, 2]], [1] * 300, {"": 0},
)  # fmt: skip


@dataclass(frozen=True)
class Opened:
    """What became of a mutated file: `outcome` is ok, refused, traceback, crash, slow, large or nan."""

    outcome: str
    mutation: str
    detail: str = ""


def mutate(
    tensors: dict[str, Tensor], header: dict[str, Any], rng: np.random.Generator
) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Return a copy with one to three mutations, and a description of them."""
    tensors, header = dict(tensors), copy.deepcopy(header)
    told = [
        _mutate_tensor(tensors, rng) if rng.random() < 0.5 else _mutate_header(header, rng)
        for _ in range(rng.integers(1, 4))
    ]
    return tensors, header, "; ".join(told)


def _mutate_header(header: dict[str, Any], rng: np.random.Generator) -> str:
    places = list(_places(header, ()))
    place = places[rng.integers(len(places))]
    inner: Any = header
    for key in place[:-1]:
        inner = inner[key]
    key, kind = place[-1], rng.integers(6)
    old = inner[key]
    if kind == 0:
        del inner[key]
        return f"delete {place}"
    if kind == 1 and isinstance(old, (int, float)):
        inner[key] = (old + 1, old * 2, -old, old * 1000)[rng.integers(4)]
    elif kind == 2 and isinstance(old, list):
        inner[key] = old * 2 if rng.random() < 0.5 else old[:-1]
    elif kind == 3 and isinstance(old, dict):
        old["added"] = 1
    else:
        inner[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
    return f"{place} = {inner.get(key) if isinstance(inner, dict) else inner[key]!r}"[:120]


def _places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from _places(each, (*path, key))


def _mutate_tensor(tensors: dict[str, Tensor], rng: np.random.Generator) -> str:
    names = sorted(tensors)
    name = names[rng.integers(len(names))]
    tensor = tensors[name]
    kind = rng.integers(12)
    if kind == 0:
        del tensors[name]
        return f"delete {name}"
    if kind == 1:
        other = names[rng.integers(len(names))]
        tensors[name] = tensors.get(other, tensor)
        return f"{name} = {other}"
    if kind == 2:
        tensors[name + ("x", ".0", "")[rng.integers(3)]] = tensors.pop(name)
        return f"rename {name}"
    if kind == 3:
        tensors[
            ("x", "run.x", "run.carried.9", "run.optimizer.x.y", "model.x", "beside.x")[rng.integers(6)]
        ] = tensor
        return f"copy {name} to a new name"
    if kind == 4:
        tensors[name] = tensor.to(DTYPES[rng.integers(len(DTYPES))])
        return f"{name} to {tensors[name].dtype}"
    if kind == 5:
        shapes = (
            tensor.flatten(),
            tensor[None],
            tensor.new_zeros(0),
            tensor.mT if tensor.ndim > 1 else tensor[None],
        )
        tensors[name] = shapes[rng.integers(4)].contiguous()
        return f"{name} to {tuple(tensors[name].shape)}"
    if kind == 6 and tensor.ndim:
        tensors[name] = (tensor[:-1], torch.cat([tensor, tensor]))[rng.integers(2)].contiguous()
        return f"{name} to {tuple(tensors[name].shape)}"
    filled = tensors[name] = tensor.clone()
    if kind == 7:
        raw = torch.from_numpy(rng.integers(0, 256, filled.numel() * filled.element_size(), np.uint8))
        tensors[name] = raw.view(tensor.dtype).view_as(tensor) if tensor.dtype != torch.bool else filled
        return f"{name}: random bytes"
    value = (math.nan, math.inf, -math.inf, -1.0, 1e38, -1e38, 0.0, 255.0, 1e-40)[rng.integers(9)]
    if not filled.is_floating_point():
        value = (-1, 0, 255, 2**31 - 1, -(2**31))[rng.integers(5)] if filled.dtype != torch.uint8 else 255
    if rng.random() < 0.5 or not filled.numel():
        filled.fill_(value)
    else:
        filled.view(-1)[int(rng.integers(filled.numel()))] = value
    return f"{name}: {value}"


def open_mutations(
    file: Path, folder: Path, *, format: str, seeds: range, use: Callable[[Path], None]
) -> list[Opened]:
    """Mutate `file` once for each seed, and call `use` with each in a process of its own."""
    tensors, header = read_tensors(file, format=format)
    found = []
    for seed in seeds:
        path = folder / "crafted.safetensors"
        table, head, told = mutate(tensors, header, np.random.default_rng(seed))
        write_tensors(path, {name: tensor.clone() for name, tensor in table.items()}, head, format=format)
        found.append(_run(use, path, f"{format} {seed}: {told}"))
    return found


def _run(use: Callable[[Path], None], path: Path, told: str) -> Opened:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        _child(use, path, write)
    os.close(write)
    with os.fdopen(read) as pipe:
        lines = pipe.read()
    _, status, usage = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        slow = os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM)
        return Opened("slow" if slow else "crash", told, f"signal {os.WTERMSIG(status)}")
    if usage.ru_maxrss * 1024 > MAX_BYTES:
        return Opened("large", told, f"{usage.ru_maxrss >> 10} MiB")
    outcome, _, detail = lines.partition("\n")
    return Opened(outcome, told, detail)


def _child(use: Callable[[Path], None], path: Path, pipe: int) -> None:
    """Run `use`, write the outcome to `pipe` and end the process."""
    outcome, detail = "ok", ""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)  # of processor time: other processes may be running
        signal.setitimer(signal.ITIMER_REAL, 20 * MAX_SECONDS)
        use(path)
    except UserError as error:
        outcome, detail = "refused", str(error)
    except NotFinite as error:
        outcome, detail = "nan", str(error)
    except BaseException:
        outcome, detail = "traceback", traceback.format_exc()
    with suppress(OSError), os.fdopen(pipe, "w") as out:
        out.write(f"{outcome}\n{detail}")
    os._exit(0)


class NotFinite(Exception):
    """A result that is NaN or infinite and was reported by no error."""


def describe(path: Path) -> None:
    """Print what `canton info` prints."""
    from canton.cli.info import info

    info(path)


def use_text(path: Path) -> None:
    """Describe a byte model, score a text plainly and adapting, and generate."""
    from canton.text import Adapter, generate, load_model, score
    from canton.text.config import Sampling

    text = np.frombuffer(b"What is past is prologue. " * 4, np.uint8)
    model = load_model(path).model
    describe(path)
    totals = score(model, text, adapter=Adapter(model))
    _check_finite(totals.bits_per_byte, totals.adapted)
    assert len(b"".join(generate(model, 20, sampling=Sampling(temperature=0.5, top_k=20)))) == 20


def resume_text(path: Path, corpus: Path) -> None:
    """Resume a run for two steps, then finish."""
    from canton.text import train
    from canton.text.checkpoint import load_config

    config = replace(load_config(path), device="cpu", processes=1, precision="32-true", eval_count=0)
    with suppress(_Stop):
        trained = train(
            config, out=path, files=[corpus], resume=True, on_progress=_Stopper(), progress_seconds=0
        )
        assert trained is not None
        _check_finite(trained.held_out)


def use_track(path: Path) -> None:
    """Describe a tracking model and run it on three frames."""
    from canton.track.checkpoint import load_model
    from canton.track.pipeline import track_video
    from canton.track.video.reader import Frame

    loaded = load_model(path)
    describe(path)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)
    frames = [Frame(k, k / 10, image, k == 0) for k, image in enumerate(pixels)]
    threshold = float(loaded.header.get("threshold", 0.5))
    for result in track_video(loaded.model, frames, fps=10.0, threshold=threshold):
        _check_finite(result.max_score, *(peak.score for peak in result.peaks))
        _check_finite(*(side for peak in result.peaks for side in peak.box))


def resume_track(path: Path) -> None:
    """Resume a run for two steps, then finish."""
    from canton.track.checkpoint import load_config
    from canton.track.train import train

    config = replace(load_config(path), device="cpu", processes=1, precision="32-true", workers=0)
    with suppress(_Stop):
        train(config, out=path, resume=True, on_progress=_Stopper(), progress_seconds=0)


class _Stop(Exception):
    pass


class _Stopper:
    """Raise `_Stop` at the third report."""

    def __init__(self) -> None:
        self.reports = 0

    def __call__(self, progress: object) -> None:
        self.reports += 1
        if self.reports > 2:
            raise _Stop


def _check_finite(*numbers: float | None) -> None:
    for number in numbers:
        if number is not None and not math.isfinite(number):
            raise NotFinite(str(number))


def make_text(path: Path, corpus: Path) -> None:
    """Write the checkpoint of a run of a small byte model to `path`, a finished one to `path`.finished."""
    from canton.text import Architecture, TrainConfig, train

    model = Architecture(
        hidden_size=8, embedding_size=4, contexts=((2, 16),), ngram_orders=(1, 3), ngram_words=(1,),
        ngram_rows=50, history_orders=(2,), history_words=(0,), history_size=64,
    )  # fmt: skip
    config = TrainConfig(model=model, steps=8, batch_size=2, sequence_length=8, save_seconds=0.0)
    train(config, out=path.with_suffix(".finished"), files=[corpus])
    with suppress(_Stop):
        train(config, out=path, files=[corpus], on_progress=_Stopper(), progress_seconds=0)


def make_track(path: Path) -> None:
    """Write the checkpoint of a run of a small network to `path`, a finished one to `path`.finished."""
    from canton.track.checkpoint import load_model, save_model
    from canton.track.model import Architecture
    from canton.track.train import train
    from canton.track.train_config import TrainConfig

    model = Architecture(stem=((4, 3, True), (5, 3, True)), early=2, memory=3, head=3, context=1)
    config = TrainConfig(
        model=model, steps=8, batch_size=2, frames_per_step=2, crop_size=32, save_seconds=0.0, workers=0
    )
    with suppress(_Stop):
        train(config, out=path, on_progress=_Stopper(), progress_seconds=0)
    loaded = load_model(path)
    header = {**loaded.header, "threshold": 0.1, "held_out": {"f1": 0.5, "frames": 3}}
    del header["step"], header["seconds"]
    save_model(path.with_suffix(".finished"), loaded.model, header)


def main(count: int, folder: Path) -> int:
    """Open `count` mutations of each of four files; print the outcomes, and return how many were wrong."""
    import canton.text.train  # before the processes are forked
    import canton.track.train  # noqa: F401
    from canton.text.checkpoint import FORMAT as TEXT
    from canton.track.checkpoint import FORMAT as TRACK

    torch.set_num_threads(1)
    corpus, text, track = folder / "corpus", folder / "text.run", folder / "track.run"
    corpus.write_text("What is past is prologue: ä. " * 60)
    for made in (_run(lambda path: make_text(path, corpus), text, "text"), _run(make_track, track, "track")):
        assert made.outcome == "ok", made
    jobs: list[tuple[Path, str, Callable[[Path], None]]] = [
        (text.with_suffix(".finished"), TEXT, use_text),
        (text, TEXT, lambda path: resume_text(path, corpus)),
        (track.with_suffix(".finished"), TRACK, use_track),
        (track, TRACK, resume_track),
    ]
    wrong = 0
    for number, (file, kind, use) in enumerate(jobs):
        unchanged = _run(use, file, "unchanged")
        seeds = range(number * count, (number + 1) * count)
        found = [unchanged, *open_mutations(file, folder, format=kind, seeds=seeds, use=use)]
        counts = Counter(each.outcome for each in found)
        print(file.name, json.dumps(counts))
        bad = [each for each in found if each.outcome not in ("ok", "refused")]
        bad += [unchanged] * (unchanged.outcome != "ok")
        for each in bad:
            print(f"{each.outcome}: {each.mutation}\n{each.detail}")
        wrong += len(bad)
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(int(sys.argv[1]), Path(sys.argv[2])), 100))

"""`canton track` on annotated footage: trained for a budget of processor minutes on one thread, then measured
on the test clips (see track_rows.py).

    python benchmarks/track_quality.py FOOTAGE MINUTES OUT [--modality IR] [--no-memory] [--singles N]

Writes the model to OUT and the figures beside it, OUT with .json for an ending. The processes that prepare
windows are not counted, nor is decoding the clips. Convolutions are in bfloat16 while it learns; what is
measured afterwards is in float32.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import replace
from pathlib import Path

import torch
from track_rows import rows

from canton.motion.learning import Progress, train
from canton.motion.model import Architecture
from canton.motion.modelfile import load_model


def say(now: Progress) -> None:
    print(f"{now.fraction:4.0%}  step {now.step}  loss {now.loss:.3f}", flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("footage", type=Path)
    parser.add_argument("minutes", type=float)
    parser.add_argument("out", type=Path)
    parser.add_argument("--modality")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument(
        "--singles", type=int, default=0, help="steps, at first, that learn from single frames"
    )
    a = parser.parse_args(argv)
    torch.set_num_threads(1)
    network = replace(Architecture(), recurrent=not a.no_memory)
    began = time.process_time()
    trained = train(
        a.out,
        footage=a.footage,
        modality=a.modality,
        precision="bf16-mixed",
        singles=a.singles,
        architecture=network,
        minutes=a.minutes,
        clock=time.process_time,
        show=say,
        show_seconds=20.0,
    )
    assert trained is not None
    if not trained.finished:
        raise SystemExit(f"stopped at step {trained.report.step}: nothing is measured")
    spent = time.process_time() - began
    held = load_model(a.out)
    figures = {
        "command": f"benchmarks/track_quality.py FOOTAGE {a.minutes:g} OUT"
        + "".join(f" {flag}" for flag in (f"--modality {a.modality}" if a.modality else "",) if flag)
        + (" --no-memory" if a.no_memory else "")
        + (f" --singles {a.singles}" if a.singles else ""),
        "machine": f"{platform.machine()}, 1 thread",
        "torch": torch.__version__,
        "processor_seconds": round(spent),
        "parameters": sum(p.numel() for p in held.model.parameters()),
        "steps": trained.report.step,
        "validation": trained.held_out,
        "test": rows(a.out, a.footage, [a.modality] if a.modality else ["IR", "V"]),
    }
    a.out.with_suffix(".json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

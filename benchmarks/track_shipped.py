"""Train the motion model that ships with Canton: `canton track watch` without a model watches with it.

    python benchmarks/track_shipped.py FOOTAGE MINUTES

It is the network with memory of track_quality.py, learned in the same way from the train clips of annotated
footage, infrared and visible; the first 1,000 steps from single frames. Processor minutes, one thread; the
processes that prepare windows are not counted. The model goes to src/canton/motion/models/track.safetensors,
its figures on the validation clips into its header; track_rows.py measures it on the test clips.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from canton.motion import train

SHIPPED = Path(__file__).parents[1] / "src" / "canton" / "motion" / "models" / "track.safetensors"


def main(footage: str, minutes: str) -> None:
    torch.set_num_threads(1)
    SHIPPED.parent.mkdir(exist_ok=True)
    done = train(
        SHIPPED,
        footage=Path(footage),
        singles=1000,
        precision="bf16-mixed",
        minutes=float(minutes),
        clock=time.process_time,
        show=lambda now: print(f"{now.fraction:4.0%}  step {now.step}  loss {now.loss:.3f}", flush=True),
        show_seconds=30.0,
    )
    assert done is not None
    print(done.held_out, SHIPPED.stat().st_size, "bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])

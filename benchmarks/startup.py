"""Measure `canton --help`, a text's first byte and `import canton` against `import torch`.

Interleaved processes, medians.

python benchmarks/startup.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import canton
from compare.runner import machine

COMMANDS = {
    "canton --help": [sys.executable, "-m", "canton", "--help"],
    "canton text generate --bytes 1": [sys.executable, "-m", "canton", "text", "generate", "--bytes", "1"],
    "import torch": [sys.executable, "-c", "import torch"],
    # the public names are lazy: use one
    "import canton": [sys.executable, "-c", "import canton; canton.GRU"],
}


def main(repetitions: int = 9) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for k in range(repetitions + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if k:  # the first round is a warm-up
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(values, seconds["import torch"], strict=True))
        for name, values in seconds.items()
    }
    for name, median in medians.items():
        print(f"{name:30} {median:.3f} s, {ratios[name]:.3f} x import torch")
    result = {
        "machine": machine(),
        "versions": {"canton": canton.__version__, "torch": torch.__version__},
        "median_s": medians,
        "ratio_to_import_torch": ratios,
    }
    target = Path(__file__).parent / "results" / "startup.json"
    target.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

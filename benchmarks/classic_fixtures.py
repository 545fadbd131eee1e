"""Compare canton.classic with recordings of the 2017 library: files passed, largest error by kind.

    python benchmarks/classic_fixtures.py [--write benchmarks/results/classic_fixtures.json]

Reads shared/canton-0.1 beside the project. Without it the exit status is 2.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import numpy  # noqa: E402
import torch  # noqa: E402

import canton  # noqa: E402
from classic.recorded import failures, fixtures  # noqa: E402
from classic.recorded_models import compare  # noqa: E402


def measure() -> dict[str, object]:
    """Return the results of all recorded files."""
    recorded, passed, failed = fixtures(), Counter[str](), []
    worst: dict[str, dict[str, object]] = {}
    for fixture in recorded:
        found = compare(fixture)
        exceeded = failures(found)
        passed[fixture["kind"]] += not exceeded
        failed += [f"{fixture['file']}: {line}" for line in exceeded]
        for c in found:
            kind = f"{fixture['kind']}: {c.kind}"
            if kind not in worst or c.error > worst[kind]["error"]:  # type: ignore[operator]
                worst[kind] = {"error": c.error, "where": f"{fixture['file']} {c.name}"}
    total = Counter(fixture["kind"] for fixture in recorded)
    return {
        "what": "recorded files of Canton 0.1.22 and 0.1.21 that canton.classic reproduces",
        "error": "largest difference, relative to the array's largest value; number of different bytes",
        "passed": sum(passed.values()),
        "of": len(recorded),
        "by_kind": {kind: {"passed": passed[kind], "of": total[kind]} for kind in total},
        "worst": worst,
        "failed": failed,
        "versions": {
            "canton": canton.__version__,
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
        },
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    if not fixtures():
        print("no recordings: the folder shared/canton-0.1 beside the project is missing", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    figures = measure()
    print(f"passed {figures['passed']} of {figures['of']}")
    for kind, entry in sorted(figures["worst"].items()):  # type: ignore[attr-defined]
        print(f"{kind:28} {entry['error']:8.1e}  {entry['where']}")
    for line in figures["failed"]:  # type: ignore[attr-defined]
        print(line)
    if arguments.write:
        arguments.write.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    return 1 if figures["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""The process of one contestant: builds its work, then times one repetition for every line it reads.

``python -m compare.worker CONTESTANT WORKLOAD THREADS`` answers with one line of JSON each: first
``{"ready": versions}`` or ``{"refused": reason}``, then ``{"seconds": s}`` for every line on standard input.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time

from .workloads import WORKLOADS


def main(argv: list[str]) -> None:
    contestant, workload, threads = argv
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = threads
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not look like an answer
    work = WORKLOADS[workload]
    try:
        module = importlib.import_module(f".peers.{contestant}", __package__)
        run = module.build(workload, work, int(threads))
        for _ in range(2):
            run()
    except (ImportError, NotImplementedError) as error:
        print(json.dumps({"refused": f"{type(error).__name__}: {error}"}), file=answers)
        return
    print(json.dumps({"ready": module.versions()}), file=answers)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(work.repeats):
            run()
        print(json.dumps({"seconds": (time.perf_counter() - start) / work.repeats}), file=answers)


if __name__ == "__main__":
    main(sys.argv[1:])

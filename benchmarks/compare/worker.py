"""Process of one implementation: build a workload, then time one repetition for every line of standard input.

``python -m compare.worker IMPLEMENTATION WORKLOAD THREADS`` writes lines of JSON: first
``{"versions": ...}`` or ``{"skip_reason": ...}``, then ``{"seconds": ...}`` for every input line.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time

from .workloads import WORKLOADS, OutputMismatch


def main(argv: list[str]) -> None:
    implementation, workload, threads = argv
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = threads
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries may print to standard output
    work = WORKLOADS[workload]
    try:
        module = importlib.import_module(f".implementations.{implementation}", __package__)
        run = module.build(workload, work, int(threads))
        for _ in range(2):
            run()
    except (ImportError, NotImplementedError, OutputMismatch) as error:
        print(json.dumps({"skip_reason": f"{type(error).__name__}: {error}"}), file=answers)
        return
    print(json.dumps({"versions": module.versions()}), file=answers)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(work.repeats):
            run()
        print(json.dumps({"seconds": (time.perf_counter() - start) / work.repeats}), file=answers)


if __name__ == "__main__":
    main(sys.argv[1:])

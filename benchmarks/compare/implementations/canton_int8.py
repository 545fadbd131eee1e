"""Canton, generating with int8 weights."""

from __future__ import annotations

from ..workloads import Workload
from . import canton
from . import shared_torch as common


def versions() -> dict[str, str]:
    return canton.versions()


def build(name: str, work: Workload, threads: int) -> common.Run:
    if name != "W7":
        raise NotImplementedError("int8 is for text generation only")
    common.prepare(threads)
    return canton.generate(work, precision="int8")

"""The names of canton.classic, and the errors for missing packages."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("package", ["numpy", "safetensors"])
def test_a_missing_package_names_the_extra(package: str) -> None:
    done = run(f"import sys; sys.modules['{package}'] = None\nimport canton.classic")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert f"{package} is not installed: pip install 'canton-torch[classic]'" in last


def test_star_import_gives_the_listed_names() -> None:
    pytest.importorskip("numpy", reason="canton.classic needs numpy (canton-torch[classic])")
    pytest.importorskip("safetensors", reason="canton.classic needs safetensors (canton-torch[classic])")
    import canton.classic

    scope: dict[str, object] = {}
    exec("from canton.classic import *", scope)
    assert set(scope) - {"__builtins__"} == set(canton.classic.__all__)
    undocumented = [name for name in canton.classic.__all__ if not getattr(canton.classic, name).__doc__]
    assert not undocumented

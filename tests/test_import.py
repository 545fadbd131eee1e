"""The library imports no dependency of the applications, and `canton --help` does not import torch."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

APPLICATIONS = {"typer", "click", "rich", "lightning_fabric", "lightning", "safetensors", "tensorboard"}
needs_cli = pytest.mark.skipif(
    find_spec("typer") is None, reason="typer is not installed (canton-torch[text])"
)


def modules_after(code: str) -> set[str]:
    """Return the modules that a new Python process has imported after `code`."""
    code += "\nimport json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_library_imports_torch_and_jaxtyping_only() -> None:
    torch_alone = modules_after("import torch, torch.nn")
    with_canton = modules_after("import canton; [getattr(canton, name) for name in canton.__all__]")
    assert "torch" in with_canton
    assert "canton.core.recurrent" in with_canton
    new = with_canton - torch_alone
    assert not {name.partition(".")[0] for name in new} & APPLICATIONS
    assert "numpy" not in new  # except through torch


@needs_cli
def test_help_does_not_import_torch() -> None:
    code = """
import sys
from canton.cli import main
sys.argv = ["canton", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    loaded = modules_after(code)
    assert "canton.cli" in loaded
    assert not loaded & {"torch", "numpy", "lightning_fabric", "tensorboard"}


def test_without_typer_the_command_names_the_extra() -> None:
    code = "import sys; sys.modules['typer'] = None\nfrom canton.cli import main\nsys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "typer" in done.stderr
    assert "canton-torch[text]" in done.stderr
    assert "Traceback" not in done.stderr

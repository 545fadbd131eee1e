"""The conversions import optional packages on first use; the error names the missing extra."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys, torch
before = {name.partition(".")[0] for name in sys.modules}  # torch brings numpy where it is installed
import canton
from canton.interop import flax, keras, keras_files, raft, torch_nn
from canton.interop.onnx import export
loaded = {name.partition(".")[0] for name in sys.modules} - before
print(*sorted(loaded & {"canton", "h5py", "numpy", "onnx", "onnxruntime"}))
for name in ("h5py", "numpy", "onnx"):
    sys.modules[name] = None
for use in (
    lambda: keras_files.load_keras("model.keras"),
    lambda: keras.from_keras([[1.0], [1.0]]),
    lambda: export.export(canton.GRU(3, 4)),
):
    try:
        use()
    except ImportError as error:
        print(type(error).__name__, error)
"""


def test_optional_packages_are_imported_when_needed() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded, *missing = done.stdout.splitlines()
    assert loaded == "canton"
    assert len(missing) == 3
    extras = {"h5py": "weights", "numpy": "weights", "onnx": "onnx"}
    for line, (package, extra) in zip(missing, extras.items(), strict=True):
        assert line.startswith(f"MissingExtra {package} ")
        assert f"canton-torch[{extra}]" in line

"""Compress two texts with the pretrained model, xz, bzip3 and zpaq: size, seconds, and what `score` says.

python benchmarks/text_compress.py

A program that is not installed is left out. Only Canton has seen text of the first kind before: its model was
trained on the first 90 % of the documentation whose last part is compressed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import canton
from canton.text import Corpus, compress, decompress, load_model, score
from compare.runner import machine

ROOT = Path(__file__).parents[1]
SOURCE_BYTES = 60_000
PROGRAMS = {
    "xz -9e": (["xz", "-9e", "-T1", "-k", "text"], ["xz", "-d", "-k", "-f", "-c", "text.xz"], "text.xz"),
    "bzip3 -b 64": (["bzip3", "-e", "-b", "64", "-k", "text"], ["bzip3", "-d", "-c", "text.bz3"], "text.bz3"),
    "zpaq -m5": (
        ["zpaq", "add", "text.zpaq", "text", "-m5", "-threads", "1"],
        ["zpaq", "extract", "text.zpaq", "text", "-to", "out", "-threads", "1", "-force"],
        "text.zpaq",
    ),
}
"""Name: command to compress, command to decompress, the file that is written."""


def texts() -> dict[str, bytes]:
    """Return the texts by name."""
    corpus = Corpus()
    sources = b"".join(path.read_bytes() for path in sorted((ROOT / "src" / "canton").rglob("*.py")))
    return {
        "held-out Python documentation": corpus.read(corpus.split, len(corpus)).tobytes(),
        "Python source": sources[:SOURCE_BYTES],
    }


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def run_program(name: str, text: bytes) -> dict[str, float]:
    """Return size and seconds of an installed program."""
    pack, unpack, written = PROGRAMS[name]
    with TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "text").write_bytes(text)

        def run(command: list[str]) -> None:
            subprocess.run(command, cwd=folder, check=True, capture_output=True)

        return {
            "compress_s": seconds_of(lambda: run(pack)),
            "bytes": (folder / written).stat().st_size,
            "decompress_s": seconds_of(lambda: run(unpack)),
        }


def main() -> None:
    with as_file(files("canton").joinpath("text/models/text.safetensors")) as path:
        model = load_model(path).model
    table: dict[str, dict[str, object]] = {}
    for name, text in texts().items():
        packed: list[bytes] = []
        compress_s = seconds_of(lambda text=text, packed=packed: packed.append(compress(model, text)))  # type: ignore[misc]
        unpacked: list[bytes] = []
        decompress_s = seconds_of(lambda p=packed, u=unpacked: u.append(decompress(model, p[0])))  # type: ignore[misc]
        assert unpacked == [text]
        scored = score(model, np.frombuffer(text, np.uint8)).bits_per_byte * len(text) / 8
        rows: dict[str, object] = {
            "canton": {"bytes": len(packed[0]), "compress_s": compress_s, "decompress_s": decompress_s}
        }
        rows |= {
            program: run_program(program, text) for program in PROGRAMS if shutil.which(program.split()[0])
        }
        table[name] = {"text_bytes": len(text), "score_bytes": round(scored, 1), **rows}
        print(f"{name}: {len(text):,} bytes, score says {scored:,.0f}")
        for program, row in rows.items():
            assert isinstance(row, dict)
            speeds = [len(text) / row[f"{direction}_s"] / 1000 for direction in ("compress", "decompress")]
            bits = f"{8 * row['bytes'] / len(text):.3f} bits/byte"
            print(
                f"  {program:12} {row['bytes']:8,} bytes {bits}, {speeds[0]:8.1f} and {speeds[1]:8.1f} KB/s"
            )
    result = {
        "machine": machine(),
        "versions": {"canton": canton.__version__, "constriction": version("constriction")},
        "texts": table,
    }
    target = Path(__file__).parent / "results" / "text_compress.json"
    target.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

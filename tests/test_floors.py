"""Imports go only downward through the floors of the house; rooms blind to each other stay so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

# From the ground up. A floor holds rooms, a room modules. On a blind floor no room imports its neighbour.
FLOORS: list[tuple[str, dict[str, set[str]]]] = [
    ("blind", {"errors": {"errors"}}),
    ("blind", {name: {name} for name in ("gates", "maps", "norms", "kernels", "storage")}),
    ("blind", {"cells": {"cell", "cells", "lstm"}}),
    ("blind", {"recurrent": {"recurrent", "recompute", "sequences", "layers", "conv_layers"}}),
    ("open", {"weights": {"weights"}, "classic": {"classic"}}),
    ("blind", {"training": {"training", "averaging", "learning_rate"}}),
    ("blind", {"modelfile": {"modelfile"}, "curve": {"curve"}}),
    ("blind", {"text": {"text"}, "motion": {"motion"}}),
    ("blind", {"bench": {"bench"}}),
    ("blind", {"ui": {"ui"}}),
    ("blind", {"cli": {"cli", "__main__"}}),
]
ROOMS = {
    module: (floor, room, kind)
    for floor, (kind, rooms) in enumerate(FLOORS)
    for room, modules in rooms.items()
    for module in modules
}
PUBLIC = ROOMS["recurrent"][0]
"""The floor on which the highest of the public names live."""


def imported(tree: ast.Module, package: list[str]) -> Iterator[tuple[int, str]]:
    """Line and first module below canton of every import, inside functions too; "" is canton itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            head, _, rest = name.partition(".")
            if head == "canton":
                yield node.lineno, rest.split(".")[0]


def breaches(source: str, module: str, package: list[str]) -> list[str]:
    """What a module of this source, the `module` below canton, imports against the rules."""
    floor, room, kind = ROOMS[module]
    found = []
    for line, name in imported(ast.parse(source), package):
        if name in ("__version__", "_version"):
            continue
        if name not in ROOMS and floor > PUBLIC:
            continue  # canton's own public names, all of which live further down
        if name not in ROOMS:
            found.append(f"line {line}: imports canton.{name}, which is no room: name its module")
            continue
        their_floor, their_room, _ = ROOMS[name]
        if their_floor > floor:
            found.append(f"line {line}: {room} imports {their_room}, which is a floor above it")
        elif their_floor == floor and their_room != room and kind == "blind":
            found.append(f"line {line}: {room} imports {their_room}, to which it is blind")
    return found


def test_imports_go_only_downward(root: Path) -> None:
    house = root / "src" / "canton"
    wrong = []
    files = [path for path in sorted(house.rglob("*.py")) if path != house / "__init__.py"]
    assert files
    for path in files:
        parts = path.relative_to(house).with_suffix("").parts
        if parts[0] not in ROOMS:
            wrong.append(f"{'/'.join(parts)}.py: is in no room: give it one in tests/test_floors.py")
            continue
        package = ["canton", *parts[:-1]]
        wrong += [f"{'/'.join(parts)}.py: {b}" for b in breaches(path.read_text("utf-8"), parts[0], package)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("gates", "from canton import maps", "blind"),
        ("kernels", "import canton.gates", "blind"),
        ("gates", "from canton.recurrent import Recurrent", "above"),
        ("cells", "def f():\n    from .recurrent import Recurrent", "above"),
        ("text", "from canton.motion.peaks import find", "blind"),
        ("motion", "def f():\n    from canton.text import Corpus", "blind"),
        ("recurrent", "from canton import GRU", "no room"),
        ("cells", "import canton", "no room"),
        ("bench", "import canton", None),
        ("recurrent", "from canton.cells import GRUCell\nfrom . import kernels", None),
        ("classic", "from canton.weights import load", None),
        ("text", "from canton import __version__", None),
    ],
)
def test_the_rule_sees(module: str, source: str, complaint: str | None) -> None:
    found = breaches(source, module, ["canton"])
    assert len(found) == (complaint is not None), found
    assert complaint is None or complaint in found[0]


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "examples"])
def test_files_stay_short(root: Path, folder: str) -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in (root / folder).rglob("*.py")}
    long = [f"{path.relative_to(root)}: {n} lines" for path, n in lengths.items() if n > 300]
    assert not long, "one idea a file, at most 300 lines: " + ", ".join(long)

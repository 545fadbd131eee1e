"""Every file imports lower layers only, and there is no import cycle."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

# Lowest first. A file imports lower layers and its own package, but no other package of its layer.
LAYERS: list[set[str]] = [
    {"errors"},
    {"gates", "maps", "io"},
    {"kernels"},
    {"core"},
    {"cells"},
    {"interop", "training"},
    {"classic", "text", "track"},
    {"ui"},
    {"cli"},
    {"__main__"},
]
# The same within packages.
INNER: dict[str, list[set[str]]] = {
    "kernels": [
        {"spec"},
        {"support"},
        {"double_backward"},
        {"cpu", "associative_scan"},
        {"steps"},
        {"cuda_graphs", "triton"},
        {"__init__"},
    ],
}
LAYER_OF = {name: k for k, names in enumerate(LAYERS) for name in names}


def imports(tree: ast.Module, package: list[str], modules: set[str]) -> Iterator[tuple[int, str]]:
    """Return line and module of every import from canton, also in functions and under TYPE_CHECKING.

    ``from a import b`` is an import of a.b where that is a module, else of a; canton itself is "".
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            names = [(".".join(base), alias.name) for alias in node.names]
        else:
            continue
        for module, name in names:
            head, _, rest = module.partition(".")
            if head != "canton" or name == "__version__":
                continue
            inner = f"{rest}.{name}".strip(".")
            yield node.lineno, inner if inner in modules else rest


def upward(module: str, target: str) -> str | None:
    """Return why `module` must not import `target`, or None. Both are dotted names below canton."""
    here, there = module.split(".")[0], target.split(".")[0]
    if there not in LAYER_OF:
        return f"imports canton.{target}, which is on no layer: name its module"
    if here == there:
        inner = INNER.get(here)
        if inner is None:
            return None
        layer = {name: k for k, names in enumerate(inner) for name in names}
        mine, theirs = ([*m.split("."), "__init__"][1] for m in (module, target))
        if mine == theirs or theirs not in layer or mine not in layer or layer[theirs] < layer[mine]:
            return None
        return f"imports {target}, which is not below it in {here}"
    if LAYER_OF[there] < LAYER_OF[here]:
        return None
    word = "above" if LAYER_OF[there] > LAYER_OF[here] else "beside"
    return f"imports {target}, a layer {word} it"


def cycle(graph: Mapping[str, set[str]]) -> list[str] | None:
    """Return one cycle of `graph` as a list of nodes, or None."""
    done: set[str] = set()
    for start in graph:
        path: list[str] = []
        stack = [(start, iter(sorted(graph[start])))] if start not in done else []
        if stack:
            path.append(start)
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                done.add(node)
                stack.pop()
                path.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                path.append(following)
                stack.append((following, iter(sorted(graph.get(following, ())))))
    return None


def sources(root: Path) -> dict[str, tuple[Path, list[str]]]:
    """Return every module below canton, with its file and its package for relative imports."""
    top = root / "src" / "canton"
    found = {}
    for path in sorted(top.rglob("*.py")):
        parts = list(path.relative_to(top).with_suffix("").parts)
        package = ["canton", *parts[:-1]]
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if parts:  # canton/__init__.py only re-exports
            found[".".join(parts)] = path, package
    return found


def test_imports_go_only_down(root: Path) -> None:
    files = sources(root)
    assert len(files) > 100
    wrong = []
    for module, (path, package) in files.items():
        if module.split(".")[0] not in LAYER_OF:
            wrong.append(f"{module}: is on no layer of tests/test_layering.py")
            continue
        for line, target in imports(ast.parse(path.read_text("utf-8")), package, set(files)):
            if reason := upward(module, target):
                wrong.append(f"{path.relative_to(root)}:{line}: {reason}")
    assert not wrong, "\n".join(wrong)


def test_there_is_no_import_cycle(root: Path) -> None:
    files = sources(root)
    graph = {
        module: {
            target
            for _, target in imports(ast.parse(path.read_text("utf-8")), package, set(files))
            if target != module
        }
        for module, (path, package) in files.items()
    }
    found = cycle(graph)
    assert found is None, " -> ".join(found or [])


@pytest.mark.parametrize(
    ("module", "target", "complaint"),
    [
        ("gates", "maps", "beside"),
        ("kernels.spec", "gates", None),
        ("gates", "core.recurrent", "above"),
        ("text.train", "track.peaks", "beside"),
        ("core.recurrent", "", "no layer"),
        ("kernels.spec", "kernels.steps", "not below"),
        ("kernels.steps.loop", "kernels.steps.base", None),
        ("cells.gru", "core.cell", None),
    ],
)
def test_forbidden_imports_are_reported(module: str, target: str, complaint: str | None) -> None:
    found = upward(module, target)
    assert (found is None) == (complaint is None), found
    assert complaint is None or complaint in str(found)


def test_imports_in_functions_and_type_checking_are_found() -> None:
    source = """
from typing import TYPE_CHECKING
import canton.gates
from canton import GRU, maps, __version__
if TYPE_CHECKING:
    from canton.core.cell import Cell
def f():
    from . import spec
"""
    found = imports(ast.parse(source), ["canton", "kernels"], {"gates", "maps", "core.cell", "kernels.spec"})
    assert [target for _, target in found] == ["gates", "", "maps", "core.cell", "kernels.spec"]


def test_a_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]

"""Mutation test: plant small faults in the source, one at a time, and count how many the tests find.

    python tools/mutate.py --sample 12 --out found.json                  every file of `TESTS`
    python tools/mutate.py --files src/canton/text/utf8.py --sample 0    all mutants of one file

A mutant changes one operator, constant, condition, call or statement. It is found if a test of the file
fails, cannot start or takes too long. A mutant that computes the same as the original cannot be found: it is
listed in `EQUIVALENT` with the reason. Annotations, messages of errors and docstrings are not changed.

The sources and tests are copied to a temporary folder, and every mutant runs in a fork of this process, which
has already imported torch. Not for CI: a mutant takes as long as the tests of its file.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]

STEPS = "tests/kernels/test_kernels.py tests/kernels/test_kernels_drawn.py tests/kernels/test_dispatch.py"
CORE = "tests/core/test_laws.py tests/core"
NGRAM = "tests/text/test_ngram_table.py tests/text/test_ngram_history.py tests/text/test_engine.py"
FIT = "tests/training tests/text/test_train.py"

TESTS: dict[str, str] = {
    **dict.fromkeys(("autograd", "base", "gru", "loop", "lstm", "mgu", "products", "rnn"), STEPS),
    "min_gru": "tests/kernels/test_associative_scan.py tests/kernels/test_kernels_drawn.py",
    "slstm": "tests/core/test_laws.py tests/cells tests/kernels/test_cpu_cells.py",
}
TESTS = {f"src/canton/kernels/steps/{name}.py": tests for name, tests in TESTS.items()}
TESTS |= {
    f"src/canton/core/{name}.py": CORE
    for name in ("cell", "checkpointing", "explain", "layer", "norms", "packing", "recurrent")
}
TESTS |= {
    "src/canton/text/generate.py": "tests/text/test_generate.py tests/text/test_engine.py",
    "src/canton/text/utf8.py": "tests/text/test_utf8.py",
    "src/canton/text/corpus.py": "tests/text/test_corpus.py",
    **{f"src/canton/text/ngram/{name}.py": NGRAM for name in ("history", "keys", "mixer", "table")},
    **{f"src/canton/training/{name}.py": FIT for name in ("fit", "schedule")},
    "src/canton/training/settings.py": "tests/training tests/text/test_model.py tests/cli/test_options.py "
    "tests/text/test_train.py",
    "src/canton/track/metrics.py": "tests/track/test_metrics.py",
    "src/canton/track/peaks.py": "tests/track/test_peaks.py",
    "src/canton/track/targets.py": "tests/track/test_targets.py",
    "src/canton/track/video/shot_boundary.py": "tests/track/test_shot_boundary.py",
    "src/canton/track/data/augment.py": "tests/track/test_augment.py",
    "src/canton/track/data/batches.py": "tests/track/test_track_training.py",
}
"""The tests that are to find the faults of a file."""

PRELOAD = "torch numpy hypothesis pytest lightning_fabric safetensors cv2 torch.func torch.utils.checkpoint"

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
CALLS = {
    "add_": "copy_",
    "mul_": "add_",
    "sub_": "add_",
    "copy_": "add_",
    "min": "max",
    "max": "min",
    "minimum": "maximum",
    "maximum": "minimum",
    "any": "all",
    "all": "any",
    "sigmoid": "tanh",
    "tanh": "sigmoid",
    "floor": "ceil",
    "ceil": "floor",
    "argmax": "argmin",
    "sum": "mean",
    "zeros": "ones",
    "new_zeros": "new_ones",
    "zeros_like": "ones_like",
    "reversed": "list",
    "sorted": "list",
}

EQUIVALENT: dict[str, str] = {}
"""Mutants that no test can find, as `file: line: change`, and why. The line is without indentation."""


Path_ = tuple[tuple[str, int | None], ...]
"""The way from a tree to a node: names of fields, with the place if the field is a list."""

Change = Callable[[Any], ast.AST]
"""A function that changes a node, or returns its replacement."""


class Mutant(NamedTuple):
    """One changed source file.

    Attributes:
        line: number of the changed line.
        change: the old code and the new.
        text: the whole file.
    """

    line: int
    change: str
    text: str


def places(tree: ast.AST) -> list[tuple[Path_, Change]]:
    """Return where a parsed source file can be changed, and how, in the order of its lines."""
    found = [(path, change) for path in _paths(tree) for change in _changes(_at(tree, path))]
    return sorted(found, key=lambda each: getattr(_at(tree, each[0]), "lineno", 0))


def plant(tree: ast.AST, path: Path_, change: Change) -> Mutant:
    """Return the mutant with one change."""
    changed = copy.deepcopy(tree)
    node = _at(changed, path)
    old, line = ast.unparse(node), getattr(node, "lineno", 0)
    new = change(node)
    parent, (field, place) = _at(changed, path[:-1]), path[-1]
    if place is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[place] = new
    text = ast.unparse(ast.fix_missing_locations(changed))
    return Mutant(line, f"{_short(old)} -> {_short(ast.unparse(new))}", text)


def _short(code: str) -> str:
    return code.splitlines()[0][:90]


def _at(tree: ast.AST, path: Path_) -> Any:
    node: Any = tree
    for field, place in path:
        node = getattr(node, field) if place is None else getattr(node, field)[place]
    return node


def _paths(tree: ast.AST, path: Path_ = ()) -> Iterator[Path_]:
    """Yield the paths of all nodes whose change alters what the code computes."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list", "bases", "type_params", "msg"):
            continue
        for place, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            here = (*path, (field, place))
            if not isinstance(child, ast.AST) or _is_skipped(child):
                continue
            yield here
            yield from _paths(child, here)


def _is_skipped(node: ast.AST) -> bool:
    """Return whether a node is text, a type, an error's message or a check for the type checker."""
    if isinstance(node, (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.JoinedStr)):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name) and ast.unparse(node.value).startswith(
            ("Callable[", "TypeVar(", "tuple[")
        ):
            return True  # a type alias
    return isinstance(node, ast.FunctionDef) and node.name in ("extra_repr", "__repr__")


def _changes(node: ast.AST) -> list[Change]:
    """Return the changes of a node; they are applied to a copy."""
    if isinstance(node, ast.Compare):
        return [_set("ops", [new(), *node.ops[1:]]) for new in COMPARISONS[type(node.ops[0])]]
    if isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in OPERATORS:
        return [_set("op", OPERATORS[type(node.op)]())]
    if isinstance(node, ast.BoolOp):
        return [_set("op", ast.And() if isinstance(node.op, ast.Or) else ast.Or())]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub, ast.Invert)):
        return [lambda copied: copied.operand]
    if isinstance(node, (ast.If, ast.IfExp)):
        return [_set("test", ast.Constant(value)) for value in (True, False)]
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return [_set("value", not node.value)]
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return [_set("value", node.value + 1), _set("value", node.value - 1)]
    if isinstance(node, ast.Constant) and isinstance(node.value, float):
        return [_set("value", node.value * 1.25 + 0.01)]
    if isinstance(node, ast.Attribute) and node.attr in CALLS:
        return [_set("attr", CALLS[node.attr])]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
        return [_set("func", ast.Name(CALLS[node.func.id], ast.Load()))]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return [lambda copied: ast.Pass()]
    if isinstance(node, (ast.Break, ast.Continue)):
        return [lambda copied: ast.Pass()]
    return []


def _set(field: str, value: Any) -> Change:
    def change(node: Any) -> ast.AST:
        setattr(node, field, value)
        return node  # type: ignore[no-any-return]

    return change


def run_tests(folder: Path, tests: list[str], timeout_s: float) -> str:
    """Run tests in a fork of this process, in `folder`. Return "passed", "failed" or "timeout"."""
    child = os.fork()
    if not child:
        os.setsid()
        os.chdir(folder)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        sys.path[:0] = [str(folder / "src")]
        os.environ["PYTHONPATH"] = str(folder / "src")  # for the tests' own processes
        import pytest

        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests])
        os._exit(int(code))
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "passed" if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0 else "failed"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def copy_project(folder: Path) -> None:
    """Copy what the tests read; `shared` beside it, if there is one."""
    for name in ("src", "tests", "examples", "benchmarks", "docs", "tools", "pyproject.toml", "README.md"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    if (ROOT.parent / "shared").is_dir():
        (folder.parent / "shared").symlink_to((ROOT.parent / "shared").resolve())


def main() -> None:
    """Run the mutants of the files and write the survivors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--files", nargs="+", default=list(TESTS), help="source files (default: all in TESTS)"
    )
    parser.add_argument("--sample", type=int, default=12, help="mutants per file, drawn at random; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument(
        "--timeout", type=float, default=10.0, help="seconds beside five times the usual time"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    given = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    for name in PRELOAD.split():
        __import__(name)
    results: dict[str, list[dict[str, Any]]] = {}
    usual: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "project"
        folder.mkdir()
        copy_project(folder)
        for name in given.files:
            tests = TESTS[name].split()
            if TESTS[name] not in usual:
                started = time.monotonic()
                if run_tests(folder, tests, 900) != "passed":
                    raise SystemExit(f"{TESTS[name]} must pass before a fault is planted")
                usual[TESTS[name]] = time.monotonic() - started
            source = (folder / name).read_text()
            tree = ast.parse(source)
            chosen = places(tree)
            if given.sample and len(chosen) > given.sample:
                drawn = random.Random(f"{given.seed} {name}").sample(range(len(chosen)), given.sample)
                chosen = [chosen[k] for k in sorted(drawn)]
            lines, results[name] = source.splitlines(), []
            for path, change in chosen:
                mutant = plant(tree, path, change)
                (folder / name).write_text(mutant.text)
                outcome = run_tests(folder, tests, given.timeout + 5 * usual[TESTS[name]])
                line = lines[mutant.line - 1].strip() if mutant.line else ""
                if outcome == "passed" and f"{name}: {line}: {mutant.change}" in EQUIVALENT:
                    outcome = "equivalent"
                results[name].append(
                    {"line": mutant.line, "code": line, "change": mutant.change, "outcome": outcome}
                )
                if outcome == "passed":
                    print(f"  SURVIVED {name}:{mutant.line}: {line}: {mutant.change}", flush=True)
            (folder / name).write_text(source)
            print(f"{name}: {summary(results[name])}", flush=True)
            if given.out is not None:
                given.out.write_text(json.dumps(results, indent=1))
    print("all:", summary([one for each in results.values() for one in each]))


def summary(found: list[dict[str, Any]]) -> str:
    """Return how many mutants were found, of those that are not equivalent."""
    equivalent = sum(one["outcome"] == "equivalent" for one in found)
    survived = sum(one["outcome"] == "passed" for one in found)
    count = len(found) - equivalent
    share = 100 * (count - survived) / max(count, 1)
    return f"{count - survived} of {count} found ({share:.1f} %), {equivalent} equivalent"


if __name__ == "__main__":
    main()

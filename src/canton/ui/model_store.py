"""The models on offer: shipped ones, those in the current folder, and what a visitor brought.

A visitor names a model by its place on this shelf; what is not on it cannot be opened.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Generic, TypeVar

from torch import nn

from canton.errors import UserError
from canton.io.tensor_file import read_header
from canton.training.model_file import ModelFile
from canton.ui.uploads import MODEL_BYTES, take

Model = TypeVar("Model", bound=nn.Module)
KEPT = 4
"""Models held in memory."""


class Shelf(Generic[Model]):
    """Models of one format.

    format: of their files. load: reads such a file. package: its folder models/ holds the shipped ones.
    folder: of the user, whose files are on offer. kept: a folder for what visitors bring.
    """

    def __init__(
        self,
        format: str,
        load: Callable[[Path], ModelFile[Model]],
        *,
        package: str,
        folder: Path,
        kept: Path,
    ) -> None:
        self._format, self._load, self._package = format, load, package
        self._folder, self._kept = folder, kept
        self._brought: dict[str, dict[str, Path]] = {}
        self._formats: dict[tuple[Path, int, int], bool] = {}
        self._held: OrderedDict[tuple[Path, int, int], ModelFile[Model]] = OrderedDict()
        self._lock = threading.Lock()

    def names(self, visitor: str) -> list[str]:
        """What this visitor may choose from, the best to begin with first."""
        return list(self._offers(visitor))

    def open(self, name: str | None, visitor: str) -> ModelFile[Model]:
        """The model of this name; without a name, the first on offer.

        Raises: UserError if there is no such model on the shelf, or its file is damaged.
        """
        offers = self._offers(visitor)
        path = offers.get(name) if name else next(iter(offers.values()), None)
        if path is None:
            raise UserError(f"no model {name!r}" if name else "there is no model yet: drop a model file")
        mark = _mark(path)
        with self._lock:  # whoever comes second waits, and finds it read
            if mark not in self._held:
                self._held[mark] = self._load(path)
            self._held.move_to_end(mark)
            while len(self._held) > KEPT:
                self._held.popitem(last=False)
            return self._held[mark]

    def bring(self, upload: str | Path, visitor: str, *, within: Path) -> str:
        """Put a visitor's file on the shelf, for that visitor alone, and tell its name there.

        Raises: UserError for a file that is no model of this format.
        """
        path = take(upload, self._kept, within=within, most_bytes=MODEL_BYTES)
        try:
            self._load(path)
        except UserError as error:
            path.unlink()
            raise UserError(str(error).replace(str(path), "the file")) from error
        with self._lock:
            brought = self._brought.setdefault(visitor, {})
            name = "yours" if not brought else f"yours, no. {len(brought) + 1}"
            brought[name] = path
        return name

    def forget(self, visitor: str) -> None:
        """Drop what a visitor brought: the page was left."""
        with self._lock:
            brought = self._brought.pop(visitor, {})
        for path in brought.values():
            path.unlink(missing_ok=True)

    def _offers(self, visitor: str) -> dict[str, Path]:
        shipped = Path(str(files(self._package))) / "models"
        offers = {f"{path.stem}, shipped": path for path in sorted(shipped.glob("*.safetensors"))}
        offers |= {path.name: path for path in sorted(self._folder.glob("*.safetensors")) if self._fits(path)}
        with self._lock:
            return {**offers, **self._brought.get(visitor, {})}

    def _fits(self, path: Path) -> bool:
        """Whether a file is of this format; looked up once for each state of the file."""
        try:
            mark = _mark(path)
            if mark not in self._formats:
                small = path.stat().st_size <= MODEL_BYTES
                self._formats[mark] = small and read_header(path).get("format") == self._format
        except (UserError, OSError):
            return False
        return self._formats[mark]


def _mark(path: Path) -> tuple[Path, int, int]:
    """Changes when the file does."""
    status = path.stat()
    return path, status.st_mtime_ns, status.st_size

"""Models on the page: pretrained ones, those in the current folder, and a visitor's uploads.

A visitor selects a model by its name in the store; no other file can be opened.
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
from canton.ui.uploads import MAX_MODEL_BYTES, save_upload

Model = TypeVar("Model", bound=nn.Module)
Key = tuple[Path, int, int]
"""Path, modification time and size of a file: it changes when the file does."""
CACHE_SIZE = 4
"""Models in memory."""


class ModelStore(Generic[Model]):
    """Models of one format. Thread-safe.

    Args:
        format: of the model files.
        load: reads a model file.
        package: its folder models/ has the pretrained models.
        folder: the user's folder, whose models are listed.
        storage: folder for uploaded models.
    """

    def __init__(
        self,
        format: str,
        load: Callable[[Path], ModelFile[Model]],
        *,
        package: str,
        folder: Path,
        storage: Path,
    ) -> None:
        self._format, self._load, self._package = format, load, package
        self._folder, self._storage = folder, storage
        self._uploaded: dict[str, dict[str, Path]] = {}
        self._is_format: dict[Key, bool] = {}
        self._cache: OrderedDict[Key, ModelFile[Model]] = OrderedDict()
        self._lock = threading.Lock()

    def names(self, visitor: str) -> list[str]:
        """Return the names of the models that a visitor may open, the default first."""
        return list(self._paths(visitor))

    def open(self, name: str | None, visitor: str) -> ModelFile[Model]:
        """Return a model by name; the default model for None.

        Raises: UserError if there is no such model, or its file is damaged.
        """
        paths = self._paths(visitor)
        path = paths.get(name) if name else next(iter(paths.values()), None)
        if path is None:
            raise UserError(f"no model {name!r}" if name else "there is no model: upload a model file")
        key = _key(path)
        with self._lock:  # a second visitor waits, and finds it in the cache
            if key not in self._cache:
                self._cache[key] = self._load(path)
            self._cache.move_to_end(key)
            while len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
            return self._cache[key]

    def add(self, upload: str | Path, visitor: str, *, uploads: Path) -> str:
        """Add an uploaded model, for this visitor only, and return its name.

        Raises: UserError if the file is not a model of this format.
        """
        path = save_upload(upload, self._storage, uploads=uploads, max_bytes=MAX_MODEL_BYTES)
        try:
            self._load(path)
        except UserError as error:
            path.unlink()
            raise UserError(str(error).replace(str(path), "the file")) from error
        with self._lock:
            uploaded = self._uploaded.setdefault(visitor, {})
            name = "uploaded" if not uploaded else f"uploaded {len(uploaded) + 1}"
            uploaded[name] = path
        return name

    def forget(self, visitor: str) -> None:
        """Delete a visitor's uploads."""
        with self._lock:
            uploaded = self._uploaded.pop(visitor, {})
        for path in uploaded.values():
            path.unlink(missing_ok=True)

    def _paths(self, visitor: str) -> dict[str, Path]:
        pretrained = Path(str(files(self._package))) / "models"
        paths = {f"{path.stem} (pretrained)": path for path in sorted(pretrained.glob("*.safetensors"))}
        paths |= {
            path.name: path for path in sorted(self._folder.glob("*.safetensors")) if self._has_format(path)
        }
        with self._lock:
            return {**paths, **self._uploaded.get(visitor, {})}

    def _has_format(self, path: Path) -> bool:
        """Return whether a file has this store's format; its header is read once per state of the file."""
        try:
            key = _key(path)
            if key not in self._is_format:
                small = path.stat().st_size <= MAX_MODEL_BYTES
                self._is_format[key] = small and read_header(path).get("format") == self._format
        except (UserError, OSError):
            return False
        return self._is_format[key]


def _key(path: Path) -> Key:
    status = path.stat()
    return path, status.st_mtime_ns, status.st_size

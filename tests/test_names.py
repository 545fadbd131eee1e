"""The public names are documented and listed in docs/api.md."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import canton

NAMES = sorted(canton.__all__)
MAPS = ["conv1d", "conv2d", "conv3d", "dense", "separable1d", "separable2d", "separable3d"]


def test_names_are_unique_and_public() -> None:
    assert len(set(canton.__all__)) == len(canton.__all__)
    assert not [name for name in canton.__all__ if name.startswith("_")]


def test_dir_shows_the_public_names() -> None:
    assert set(canton.__all__) <= set(dir(canton))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="GRUU"):
        canton.GRUU  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_exists_and_is_documented(name: str) -> None:
    thing = getattr(canton, name)
    own = thing.__doc__ if isinstance(thing, ModuleType) else inspect.getdoc(thing)
    assert own, f"canton.{name} has no docstring"
    assert len(own.splitlines()[0]) > 10, f"canton.{name}: the first line of its docstring is too short"


@pytest.mark.parametrize("name", [n for n in NAMES if not isinstance(getattr(canton, n), ModuleType)])
def test_a_public_name_has_its_module_and_name(name: str) -> None:
    thing = getattr(canton, name)
    assert thing.__module__.startswith("canton.")
    assert thing.__name__ == name


def test_the_api_page_lists_the_public_names(root: Path) -> None:
    page = (root / "docs" / "api.md").read_text("utf-8")
    listed = re.findall(r"^::: canton\.(\w+)$", page, re.M)
    assert sorted(listed) == NAMES
    assert re.findall(r"^::: canton\.maps\.(\w+)$", page, re.M) == MAPS


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert canton.__version__ == version("canton-torch")

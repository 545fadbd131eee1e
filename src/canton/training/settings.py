"""Dataclasses of settings: each field has a help text and a range, which `check_settings` checks."""

from __future__ import annotations

import inspect
import math
import operator
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from canton.errors import UserError

Config = TypeVar("Config")

BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": (">=", operator.ge),
    "gt": (">", operator.gt),
    "le": ("<=", operator.le),
    "lt": ("<", operator.lt),
}


def setting(
    default: Any,
    help: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    option: bool = True,
    default_help: str | None = None,
    resumable: bool = False,
) -> Any:
    """Return a dataclass field for one setting.

    Args:
        default: its value if none is given.
        help: one sentence: what it does, and its unit. The command line shows it.
        ge, gt, le, lt: bounds of a number.
        option: whether the command line has an option for it.
        default_help: the default as the command line shows it, if not `default` itself.
        resumable: whether a run may be resumed with another value.
    """
    metadata = {
        "help": help,
        "bounds": {"ge": ge, "gt": gt, "le": le, "lt": lt},
        "option": option,
        "default_help": default_help,
        "resumable": resumable,
    }
    return field(default=default, metadata=metadata)


def documented(kind: type[Config]) -> type[Config]:
    """Add the help of every field to the docstring of a dataclass."""
    lines = [f"    {each.name}: {each.metadata['help']}" for each in fields(kind) if each.metadata]  # type: ignore[arg-type]
    kind.__doc__ = f"{inspect.getdoc(kind)}\n\nArgs:\n" + "\n".join(lines)
    return kind


def check_settings(config: Any) -> None:
    """Check the type and the range of every field of a dataclass; call it from `__post_init__`.

    Raises:
        UserError: names the field, what it must be and what it is.
    """
    check_fields(type(config), {each.name: getattr(config, each.name) for each in fields(config)})


def check_fields(kind: type[Any], table: Mapping[str, Any]) -> None:
    """Check the type and the range of those fields of `kind` that `table` has.

    Raises:
        UserError: names the field, what it must be and what it is.
    """
    hints = get_type_hints(kind)
    for each in fields(kind):
        if each.name in table:
            _check_field(each.name, table[each.name], hints[each.name], each.metadata.get("bounds", {}))


def check_entries(table: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Check the types of those JSON values in `table` that `hints` names.

    Raises:
        UserError: names the entry, what it must be and what it is.
    """
    for name, hint in hints.items():
        if name in table:
            _check_field(name, _as_tuple(table[name]), hint, {})


def _check_field(name: str, value: Any, hint: Any, bounds: Mapping[str, Any]) -> None:
    if not _matches(value, hint):
        raise UserError(f"{name} must be {_describe(hint)}, got {reprlib.repr(value)}")
    for number in _scalars(value):
        if isinstance(number, float) and not math.isfinite(number):
            raise UserError(f"{name} must be finite, got {number}")
        if isinstance(number, int) and abs(number) >= 2**63:
            raise UserError(f"{name} must be below 2**63, got {reprlib.repr(number)}")
    for bound, limit in bounds.items():
        symbol, holds = BOUNDS[bound]
        if limit is not None and value is not None and not holds(value, limit):
            raise UserError(f"{name} must be {symbol} {limit}, got {value}")


def to_json(config: Any) -> dict[str, Any]:
    """Return the settings as JSON values."""
    return asdict(config)


def from_json(kind: type[Config], table: Any) -> Config:
    """Return the settings that `to_json` wrote.

    Raises:
        UserError: the fields are not those of `kind`, or a value is out of range.
    """
    hints = get_type_hints(kind)
    names = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    found = set(table) if isinstance(table, dict) else set()
    if found != names:
        lists = {"missing": sorted(names - found), "unknown": sorted(found - names)}
        told = "; ".join(f"{what} {', '.join(each[:3])}" for what, each in lists.items() if each)
        raise UserError(
            f"the fields of {kind.__name__} are not those of this version of Canton ({told or 'no table'}): "
            "train a new model"
        )
    values = {
        name: from_json(hints[name], value) if is_dataclass(hints[name]) else _as_tuple(value)
        for name, value in table.items()
    }
    return kind(**values)


def check_resumable(started: Any, given: Any) -> None:
    """Check that a run started with one config may be resumed with another.

    Raises:
        UserError: names a field that differs and must not.
    """
    for each in fields(started):
        before, now = getattr(started, each.name), getattr(given, each.name)
        if is_dataclass(before):
            check_resumable(before, now)
        elif before != now and not each.metadata.get("resumable"):
            raise UserError(
                f"the run was started with {each.name} {before}, got {now}: omit {each.name} to resume"
            )


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value


def _scalars(value: Any) -> Iterator[Any]:
    for item in value if isinstance(value, tuple) else (value,):
        yield from _scalars(item) if isinstance(item, tuple) else (item,)


def _matches(value: Any, hint: Any) -> bool:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_matches(value, arg) for arg in args)
    if origin is Literal:
        return value in args
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        each = args[:1] * len(value) if args[1:] == (...,) else args
        return len(each) == len(value) and all(map(_matches, value, each))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join("None" if arg is NoneType else _describe(arg) for arg in args)
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin is tuple:
        return f"a tuple of {_describe(args[0])}"
    return str(hint.__name__)

"""Command-line options made from the fields of a settings dataclass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from functools import partial, wraps
from typing import Annotated, Any, Optional, TypeVar, get_args, get_type_hints

import typer
from typer.core import TyperCommand

Config = TypeVar("Config")
Result = TypeVar("Result")
Path = tuple[str, ...]
"""A field's name, after the names of the dataclasses that it is nested in."""


@dataclass(frozen=True)
class Given:
    """The settings that were given as options. A field that was not given is not in it."""

    values: dict[Path, Any]

    def apply(self, config: Config) -> Config:
        """Return `config` with these settings.

        Raises:
            UserError: a setting is out of range.
        """
        replaced: Config = _replaced(config, self.values)
        return replaced


def config_options(load: Callable[[], Any]) -> Callable[[Callable[..., Result]], Callable[[], Result]]:
    """Give a command one option for every field of a settings dataclass.

    The options replace the command's parameter `given`, which receives a `Given`. An option is named after
    its field (`batch_size`: `--batch-size`; a bool also gets `--no-...`). Its help is the field's, with the
    default. Fields of a nested dataclass are options too. Register the command with `cls=ConfigCommand`.

    Args:
        load: returns the default settings. It is called when the command is parsed, so that `canton --help`
            does not wait for what it imports.
    """

    def decorate(command: Callable[..., Result]) -> Callable[[], Result]:
        @wraps(command)
        def unparsed() -> Result:
            raise TypeError("register the command with cls=ConfigCommand")

        unparsed.__signature__ = inspect.Signature()  # type: ignore[attr-defined]
        unparsed.__annotations__ = {}
        unparsed.build = partial(_with_options, command, load)  # type: ignore[attr-defined]
        return unparsed

    return decorate


class ConfigCommand(TyperCommand):
    """A command decorated by `config_options`: its options are made when it is parsed."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the arguments of the command with all its options."""
        build = getattr(self.callback, "build", None)
        if build is not None:
            app = typer.Typer(add_completion=False)
            app.command()(build())
            whole = typer.main.get_command(app)
            self.params, self.callback = whole.params, whole.callback
        return super().make_context(info_name, args, parent, **extra)


def _with_options(command: Callable[..., Result], load: Callable[[], Any]) -> Callable[..., Result]:
    settings = list(_settings(load(), ()))
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name == "given":
            parameters += (_option(*setting) for setting in settings)
        else:
            annotation = hints[parameter.name]
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=annotation))

    def run(**arguments: Any) -> Result:
        chosen = {path: arguments.pop(path[-1]) for path, *_ in settings}
        return command(given=Given({p: v for p, v in chosen.items() if v is not None}), **arguments)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _settings(config: Any, outer: Path) -> Iterator[tuple[Path, Field[Any], Any, Any]]:
    """Yield path, field, type and default of every setting that has an option."""
    hints = get_type_hints(type(config))
    for each in fields(config):
        value = getattr(config, each.name)
        if is_dataclass(value):
            yield from _settings(value, (*outer, each.name))
        elif each.metadata.get("option"):
            yield (*outer, each.name), each, hints[each.name], value


def _option(path: Path, each: Field[Any], hint: Any, default: Any) -> inspect.Parameter:
    name = each.name.replace("_", "-")
    flag = f"--{name}/--no-{name}" if bool in (hint, *get_args(hint)) else f"--{name}"
    shown = {True: "on", False: "off"}[default] if isinstance(default, bool) else default
    shown = each.metadata["default_help"] or shown
    text = f"{each.metadata['help'].rstrip('.')} (default: {shown})."
    annotation = Annotated[Optional[hint], typer.Option(flag, help=text)]  # noqa: UP045
    return inspect.Parameter(path[-1], inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _replaced(config: Any, values: dict[Path, Any]) -> Any:
    changes = {path[0]: value for path, value in values.items() if len(path) == 1}
    for name in {path[0] for path in values if len(path) > 1}:
        inner = {path[1:]: value for path, value in values.items() if path[0] == name}
        changes[name] = _replaced(getattr(config, name), inner)
    return replace(config, **changes)

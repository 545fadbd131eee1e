"""Options of a command made from a settings dataclass."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pytest

from canton.errors import UserError
from canton.training.settings import check_resumable, check_settings, from_json, setting, to_json
from cli.conftest import Canton

typer = pytest.importorskip("typer", reason="typer is not installed (canton-torch[text])")

from canton.cli.options import ConfigCommand, Given, config_options  # noqa: E402


@dataclass(frozen=True)
class Inner:
    kind: Literal["a", "b"] = setting("a", "Kind of thing.")
    use_bias: bool = setting(True, "Use a bias.")

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Config:
    inner: Inner = Inner()
    rate: float = setting(0.5, "Rate per second.", gt=0, le=2)
    steps: int | None = setting(None, "Steps.", ge=1, default_help="no limit", resumable=True)
    sizes: tuple[int, ...] = setting((1, 2), "Sizes.", option=False)

    def __post_init__(self) -> None:
        check_settings(self)


def run(*words: str) -> Config:
    """Return the config that a command gets from these arguments."""
    got: list[Config] = []
    app = typer.Typer()

    @app.command(cls=ConfigCommand)
    @config_options(Config)
    def command(name: str = "x", *, given: Given) -> None:
        got.append(given.apply(Config(rate=1.5)))

    app(list(words), standalone_mode=False)
    return got[0]


def test_options_replace_only_the_settings_given() -> None:
    assert run() == Config(rate=1.5)
    assert run("--name", "y", "--steps", "3", "--kind", "b", "--no-use-bias") == Config(
        Inner("b", False), 1.5, 3
    )


def test_a_value_out_of_range_names_the_setting() -> None:
    with pytest.raises(UserError, match="rate"):
        run("--rate", "3")


def test_every_setting_is_in_the_help_with_its_default(canton: Canton) -> None:
    from canton.text import TrainConfig

    shown = " ".join(canton("text", "train", "--help").out.split())
    config = TrainConfig()
    for part in (config, config.model):
        for each in fields(part):
            if each.metadata.get("option"):
                assert f"--{each.name.replace('_', '-')} " in shown
                text = str(each.metadata["help"]).rstrip(".")
                assert text.replace("-", "") in shown.replace("- ", "").replace("-", "")
    assert "(default: 0.005)" in shown


@pytest.mark.parametrize(
    "wrong",
    [{"rate": 0.0}, {"rate": float("inf")}, {"rate": float("nan")}, {"rate": "1"}, {"rate": True},
     {"steps": 0}, {"steps": 1.5}, {"sizes": [1]}, {"sizes": (1, "2")}, {"inner": None}],
)  # fmt: skip
def test_a_wrong_type_or_range_names_the_field(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        Config(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="kind"):
        Inner("c")  # type: ignore[arg-type]


def test_json_gives_the_config_back() -> None:
    import json

    config = Config(Inner("b"), 1, None, (4, 5))
    assert from_json(Config, json.loads(json.dumps(to_json(config)))) == config
    for table in (None, {}, {**to_json(config), "more": 1}, {**to_json(config), "inner": 3}):
        with pytest.raises(UserError):
            from_json(Config, table)


def test_only_resumable_settings_may_differ() -> None:
    check_resumable(Config(), Config(steps=4))
    with pytest.raises(UserError, match="rate"):
        check_resumable(Config(), Config(rate=1.0))
    with pytest.raises(UserError, match="kind"):
        check_resumable(Config(), Config(Inner("b")))


def test_the_file_of_a_run_gives_its_config_back(model: Path) -> None:
    from canton.io.tensor_file import read_header
    from canton.text import TrainConfig, load_model

    config = TrainConfig.from_header(read_header(model))
    assert (config.batch_size, config.steps) == (4, 150)
    assert config.model == load_model(model).model.architecture

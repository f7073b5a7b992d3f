"""`sidecar config`: the settings."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sidecar.cli.output import remark
from sidecar.cli.running import config_option
from sidecar.errors import InvalidValue

_ON_STANDARD_OUTPUT = Path("-")


@click.group()
def config() -> None:
    """The settings: one TOML file, and the environment over it."""


@config.command("check")
@config_option
def check(config: Path | None) -> None:
    """Say every fault in the settings at once.

    Warnings follow, about what works but might surprise. They do not change the exit status.
    """
    from sidecar.elsewhere import unusable_keys
    from sidecar.settings import find_file, load, warnings

    file = find_file(config)
    settings = load(file, unusable_keys)
    for warning in warnings(settings):
        remark(f"Warning: {warning}")
    click.echo(f"{file or 'the built-in default'} is good")


@config.command("show")
@config_option
def show(config: Path | None) -> None:
    """Print the settings in force as TOML, secrets masked."""
    from sidecar.cli.running import read_settings
    from sidecar.settings.reference import effective

    click.echo(effective(read_settings(config)), nl=False)


@config.command("schema")
@config_option
def schema(config: Path | None) -> None:  # noqa: ARG001 - every command takes --config
    """Print the JSON Schema of the file, for editors. It is the same for every FILE."""
    from sidecar.settings import Settings

    click.echo(json.dumps(Settings.model_json_schema(), indent=2))


@config.command("init")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@config_option
def init(file: Path | None, config: Path | None) -> None:
    """Write a commented starter file with every key at its default.

    FILE is ./sidecar.toml unless it is named, here or by --config; - prints it. An existing file is refused.
    """
    from sidecar.settings.reference import reference
    from sidecar.settings.sources import DEFAULT_FILE

    if file and config:
        raise click.UsageError("Name the file once.")
    target = file or config or DEFAULT_FILE
    if target == _ON_STANDARD_OUTPUT:
        click.echo(reference(), nl=False)
        return
    _write_new(target, reference())
    remark(f"wrote {target}")


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InvalidValue(f"{path} exists already: name a new file") from None
    except OSError as error:
        raise InvalidValue(f"{path} cannot be written: {error.strerror}") from None

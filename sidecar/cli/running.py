"""How a command gets what it works with: the settings, and the services on the store."""

from __future__ import annotations

import asyncio
import functools
import os
import shlex
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec

import click
from click.core import ParameterSource

from sidecar.cli.output import cell
from sidecar.errors import NotFound

if TYPE_CHECKING:
    from sidecar.app import Services
    from sidecar.audit import Result
    from sidecar.settings import Settings

    Job = Callable[[Services], Awaitable[None]]

P = ParamSpec("P")

BY = "cli"
"""Whom a user's `created_by` and `updated_by` name."""

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The settings. Else $SIDECAR_CONFIG, else ./sidecar.toml, else the built-in default.",
)


def read_settings(config: Path | None) -> Settings:
    """The settings in force. Raises SettingsError with every fault."""
    from sidecar.settings import find_file, load

    return load(find_file(config))


def read_settings_for_checks(config: Path | None) -> Settings:
    """The same, where checks are made: a key with which nothing can be verified is a fault among them."""
    from sidecar.elsewhere import unusable_keys
    from sidecar.settings import find_file, load

    return load(find_file(config), unusable_keys)


def with_services(job: Callable[Concatenate[Services, P], Awaitable[None]]) -> Callable[..., None]:
    """Makes a command of a coroutine that reads the store: adds --config, opens the services.

    The services are closed before the command returns, whatever happens. The command raises NotFound where
    there is no store: an empty one that it made would look like the right one.
    """
    return _command(job, _require_store)


def administering(job: Callable[Concatenate[Services, P], Awaitable[None]]) -> Callable[..., None]:
    """The same for what changes something, or copies what is secret: it is recorded, also where it fails.

    Where the audit cannot be written, nothing is done.
    """
    return _command(job, _require_store, is_recorded=True)


def administering_new_store(job: Callable[Concatenate[Services, P], Awaitable[None]]) -> Callable[..., None]:
    """The same for what may be the first thing in a store: the store is made where there is none."""
    return _command(job, lambda _settings: None, is_recorded=True)


def with_services_reading(job: Callable[Concatenate[Services, P], Awaitable[None]]) -> Callable[..., None]:
    """The same as `with_services` for what checks and must not change anything: nothing can be written."""
    return _command(job, _require_store, read_settings_for_checks, read_only=True)


async def _recorded(services: Services, job: Job) -> None:
    from sidecar.audit import Result

    async with services.audit:
        try:
            await job(services)
        except (click.ClickException, click.Abort):  # it was not even asked for
            raise
        except BaseException:
            _record(services, Result.FAILED)
            raise
        _record(services, Result.DONE)


def _record(services: Services, result: Result) -> None:
    from sidecar.audit import Event

    command, arguments = _asked_for(click.get_current_context())
    services.audit.record(Event.ADMINISTERED, result, by=administrator(), what=command, arguments=arguments)


def administrator() -> str:
    """Whom the audit names: the user of this machine who runs this process."""
    import pwd

    number = os.getuid()
    try:
        return f"cli:{pwd.getpwuid(number).pw_name}"
    except KeyError:  # a container may run as anybody
        return f"cli:{number}"


def _asked_for(context: click.Context) -> tuple[str, str]:
    """`users set`, and its arguments as a shell would take them. No command takes a secret among them."""
    group = context.parent.info_name if context.parent and context.parent.parent else ""
    written: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in {"config", "as_json"} or context.get_parameter_source(name) is ParameterSource.DEFAULT:
            continue
        value = context.params[name]
        values = value if isinstance(value, tuple) else (value,)
        written += [_written(parameter, each) for each in values]
    return f"{group} {context.info_name}".strip(), shlex.join(written)


def _written(parameter: click.Parameter, value: object) -> str:
    if isinstance(parameter, click.Argument):
        return cell(value)
    return parameter.opts[0] if value is True else f"{parameter.opts[0]}={cell(value)}"


def _command(
    job: Callable[Concatenate[Services, P], Awaitable[None]],
    require: Callable[[Settings], None],
    read: Callable[[Path | None], Settings] = read_settings,
    *,
    read_only: bool = False,
    is_recorded: bool = False,
) -> Callable[..., None]:
    @config_option
    @functools.wraps(job)
    def command(config: Path | None, *args: P.args, **kwargs: P.kwargs) -> None:
        def run(services: Services) -> Awaitable[None]:
            return job(services, *args, **kwargs)

        settings = read(config)
        require(settings)
        recorded = functools.partial(_recorded, job=run)
        asyncio.run(_run(settings, recorded if is_recorded else run, read_only=read_only))

    return command


def _require_store(settings: Settings) -> None:
    from sidecar.stores import missing

    if path := missing(settings.store.url):
        raise NotFound(
            f"there is no store at {path}: "
            "start the sidecar or add a user first, or name the settings with --config"
        )


async def _run(settings: Settings, job: Job, *, read_only: bool) -> None:
    from sidecar.app import services
    from sidecar.telemetry import configure_logging

    # Standard output is for documents: what the parts log goes where messages go.
    configure_logging("warning", settings.log.format, sys.stderr)
    async with services(settings, read_only=read_only) as parts:
        await job(parts)

"""How a command gets what it works with: the settings, and the services on the store."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec

import click

from sidecar.errors import NotFound

if TYPE_CHECKING:
    from sidecar.app import Services
    from sidecar.settings import Settings

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
    """Makes a command of a coroutine that works on the store: adds --config, opens the services.

    The services are closed before the command returns, whatever happens. The command raises NotFound where
    there is no store: an empty one that it made would look like the right one.
    """
    return _command(job, _require_store)


def with_services_on_new_store(
    job: Callable[Concatenate[Services, P], Awaitable[None]],
) -> Callable[..., None]:
    """The same for what may be the first thing in a store: the store is made where there is none."""
    return _command(job, lambda _settings: None)


def with_services_reading(job: Callable[Concatenate[Services, P], Awaitable[None]]) -> Callable[..., None]:
    """The same as `with_services` for what checks and must not change anything: nothing can be written."""
    return _command(job, _require_store, read_settings_for_checks, read_only=True)


def _command(
    job: Callable[Concatenate[Services, P], Awaitable[None]],
    require: Callable[[Settings], None],
    read: Callable[[Path | None], Settings] = read_settings,
    *,
    read_only: bool = False,
) -> Callable[..., None]:
    @config_option
    @functools.wraps(job)
    def command(config: Path | None, *args: P.args, **kwargs: P.kwargs) -> None:
        settings = read(config)
        require(settings)
        asyncio.run(_run(settings, lambda services: job(services, *args, **kwargs), read_only=read_only))

    return command


def _require_store(settings: Settings) -> None:
    from sidecar.stores import missing

    if path := missing(settings.store.url):
        raise NotFound(
            f"there is no store at {path}: "
            "start the sidecar or add a user first, or name the settings with --config"
        )


async def _run(settings: Settings, job: Callable[[Services], Awaitable[None]], *, read_only: bool) -> None:
    from sidecar.app import services
    from sidecar.telemetry import configure_logging

    # Standard output is for documents: what the parts log goes where messages go.
    configure_logging("warning", settings.log.format, sys.stderr)
    async with services(settings, read_only=read_only) as parts:
        await job(parts)

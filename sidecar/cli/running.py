"""How a command gets what it works with: the settings, and the services on the store."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec

import click

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


def with_services(job: Callable[Concatenate[Services, P], Awaitable[None]]) -> Callable[..., None]:
    """Makes a command of a coroutine that works on the store: adds --config, opens the services.

    The services are closed before the command returns, whatever happens.
    """

    @config_option
    @functools.wraps(job)
    def command(config: Path | None, *args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(_run(read_settings(config), lambda services: job(services, *args, **kwargs)))

    return command


async def _run(settings: Settings, job: Callable[[Services], Awaitable[None]]) -> None:
    from sidecar.app import services
    from sidecar.telemetry import configure_logging

    # Standard output is for documents: what the parts log goes where messages go.
    configure_logging("warning", settings.log.format, sys.stderr)
    async with services(settings) as parts:
        await job(parts)

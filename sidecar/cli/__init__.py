"""The command line: `sidecar COMMAND`.

Each group of commands is a module of its own, imported when it is named; what only running a command needs
(the settings, the store, cryptography) is imported when it runs. `--help` answers at once.

Exit status: 0 done, 1 refused or failed, 2 wrong usage. Documents and tables go to standard output, messages
and faults to standard error, one line each.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from sidecar import __version__
from sidecar.errors import SidecarError

COMMANDS = (
    "serve",
    "config",
    "users",
    "roles",
    "sessions",
    "api-keys",
    "access-keys",
    "apps",
    "bans",
    "keys",
    "explain",
    "health",
    "backup",
)


class _Refused(click.ClickException):
    """Exit status 1, and one line for each fault."""

    def __init__(self, errors: ExceptionGroup[SidecarError]) -> None:
        super().__init__("\n".join(map(str, errors.exceptions)))

    def show(self, file: Any = None) -> None:
        """Prints the faults."""
        for line in self.message.splitlines():
            click.echo(f"Error: {line}", file=file, err=True)


class _Commands(click.Group):
    """Imports a command's module when somebody asks for it, and turns what it raises into an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """`api-keys` is `api_keys` in `sidecar.cli.api_keys`."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"{__name__}.{name}"), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command. Of a server's errors several may come at once."""
        try:
            return super().invoke(ctx)
        except* SidecarError as errors:
            refused = _Refused(errors)
        raise refused


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """A forward-auth service for nginx, Traefik and Caddy: who is asking, and whether they may pass.

    Every command takes --config FILE. What lists or creates takes --json, which prints one JSON document
    and nothing else.
    """

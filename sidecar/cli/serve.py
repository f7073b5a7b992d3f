"""`sidecar serve`: the service itself, and what somebody sees who starts it for the first time."""

from __future__ import annotations

import gc
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.cli.addresses import endpoint_of
from sidecar.cli.output import remark
from sidecar.cli.running import BY, administrator, config_option
from sidecar.records import NewUser, User

if TYPE_CHECKING:
    from sidecar.app import Services

FIRST_USER = "admin"

_EXAMPLE = ("X-Original-URL: https://app.example.com/", "X-Original-Method: GET")
_EXAMPLE_LIFETIME = 3600.0


@click.command()
@config_option
@click.option("--listen", metavar="ADDRESS", help="Instead of server.listen.")
@click.option("--admin-listen", metavar="ADDRESS", help="Instead of server.admin_listen.")
@click.option("--workers", metavar="NUMBER", help="Instead of server.workers.")
@click.option("--http", metavar="express|plain", help="Instead of server.http.")
def serve(
    config: Path | None,
    listen: str | None,
    admin_listen: str | None,
    workers: str | None,
    http: str | None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish what was accepted. SIGHUP reads the settings again.

    Without a settings file it shows how to begin: the first user and their password, once, and three
    requests to try.
    """
    _override(
        SIDECAR_SERVER__LISTEN=listen,
        SIDECAR_SERVER__ADMIN_LISTEN=admin_listen,
        SIDECAR_SERVER__WORKERS=workers,
        SIDECAR_SERVER__HTTP=http,
    )
    with _collecting_nothing():
        from sidecar.elsewhere import unusable_keys
        from sidecar.server.logging import begin_log
        from sidecar.settings import find_file, load

        file = find_file(config)
        settings = load(file, unusable_keys)
        begin_log(settings)

        from sidecar.server.process import run

    # A file that was there is the one to read again, also where it has vanished: the defaults are none of
    # the operator's.
    run(
        settings,
        lambda: load(file or find_file(config), unusable_keys),
        _nothing_to_show if file else _first_contact,
    )


@contextmanager
def _collecting_nothing() -> Iterator[None]:
    """What is imported stays: to look through it again and again takes a tenth of a start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _override(**given: str | None) -> None:
    """An option wins over the environment, which wins over the file: so it becomes the environment.

    What is wrong with it is then said like anything else in the settings, with its key path.
    """
    os.environ.update({name: value for name, value in given.items() if value is not None})


# --- first contact -------------------------------------------------------------------------------
#
# On standard output and not through the logger: a log is kept, and these are secrets.


async def _nothing_to_show(_services: Services) -> None:
    """With a settings file the output may well be a container's log."""


async def _first_contact(services: Services) -> None:
    user = await _first_user(services)
    if user is None:
        remark("There is no enabled user: enable one with `sidecar users enable`.")
        return
    new = await services.sessions.begin(user, lifetime=_EXAMPLE_LIFETIME)
    _record(services, "sessions create", f"--user={user.username}", user)
    cookie = f"{services.settings.session.cookie}={new.secret}"
    for what, command in _examples(services.settings.server.listen, cookie):
        click.echo(f"{what}:\n{command}")


async def _first_user(services: Services) -> User | None:
    """`admin`, made where the store is empty; else the first user who is enabled."""
    users = services.store.users
    everybody = await users.list()
    if not everybody:
        return await _add_first_user(services)
    enabled = [user for user in everybody if not user.disabled]
    named = [user for user in enabled if user.username == FIRST_USER]
    return next(iter([*named, *enabled]), None)


async def _add_first_user(services: Services) -> User:
    from sidecar.credentials import new_secret

    password = new_secret()
    new = NewUser(FIRST_USER, password_hash=await services.passwords.hash(password))
    user = await services.store.users.add(new, now=services.clock.now(), by=BY)
    _record(services, "users add", FIRST_USER, user)
    click.echo(f"The first user is {FIRST_USER}, with the password {password}")
    return user


def _record(services: Services, what: str, arguments: str, user: User) -> None:
    """As if somebody had run the command."""
    from sidecar.audit import Event, Result

    services.audit.record(
        Event.ADMINISTERED, Result.DONE, user_id=user.id, by=administrator(), what=what, arguments=arguments
    )


def _examples(listen: str, cookie: str) -> list[tuple[str, str]]:
    """What each shows, and the command."""
    return [
        ("A request that is allowed (200)", _curl(listen, "/check/nginx", *_EXAMPLE, f"Cookie: {cookie}")),
        ("The same without a session is refused (401)", _curl(listen, "/check/nginx", *_EXAMPLE)),
        ("A product's session check (200)", _curl(listen, "/api/v1/status", f"Cookie: {cookie}")),
    ]


def _curl(listen: str, path: str, *headers: str) -> str:
    endpoint = endpoint_of(listen)
    options = [part for header in headers for part in ("-H", header)]
    if endpoint.socket:
        # A socket's peer has no address that could be the client's.
        options += ["-H", "X-Forwarded-For: 127.0.0.1", "--unix-socket", endpoint.socket]
    return shlex.join(["curl", "-si", *options, endpoint.url + path])

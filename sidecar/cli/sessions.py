"""`sidecar sessions`: who is signed in, and sessions for scripts and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sidecar.cli.output import Moment, Record, count, json_option, print_list, print_one, remark
from sidecar.cli.running import administering, with_services
from sidecar.cli.values import (
    NAMING,
    find_enabled_user,
    find_user,
    of_user_option,
    owner_option,
    ttl_option,
    usernames,
)
from sidecar.errors import NotFound
from sidecar.names import check_label
from sidecar.records import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.app import Services


@click.group()
def sessions() -> None:
    """Sessions: of browsers, and for scripts."""


@sessions.command("create")
@owner_option
@click.option("--app", metavar="ID", default="", help="The app that it is first used in.")
@ttl_option
@json_option
@administering
async def create(services: Services, *, user: str, app: str, ttl: float | None, as_json: bool) -> None:
    """Begin a session, and print its cookie and its bearer token.

    It also ends when it is not used for as long as session.idle_timeout.
    """
    owner = await find_enabled_user(services.store.users, user)
    if app:
        check_label(app, "an app's id")
    await services.keys.start()
    new = await services.sessions.begin(owner, lifetime=ttl, app=app)
    record = {
        "id": new.session.id,
        "cookie": f"{services.settings.session.cookie}={new.secret}",
        "token": (await services.sessions.token(new.session, owner)).text,
    }
    print_one(record, as_json=as_json)
    if not as_json:
        remark("Whoever has the cookie or the token is this user. Neither is shown again.")


@sessions.command("list")
@of_user_option
@json_option
@with_services
async def list_sessions(services: Services, *, user: str | None, as_json: bool) -> None:
    """List the live sessions."""
    from sidecar.sessions import is_live

    owner = None if user is None else await find_user(services.store.users, user)
    names = await usernames(services.store.users, owner)
    found = await services.store.sessions.list(owner.id if owner else None)
    now, idle_timeout = services.clock.now(), services.settings.session.idle_timeout
    live = [session for session in found if is_live(session, session.last_used_at, idle_timeout, now)]
    records = [_record(session, names) for session in live]
    columns = ("id", "user", "apps", "created_at", "last_used_at", "expires_at")
    print_list(records, columns, as_json=as_json)


@sessions.command("revoke")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--user", metavar="NAME", help=f"All sessions of this user: {NAMING}.")
@click.option("--all", "everybody", is_flag=True, help="All sessions of everybody.")
@administering
async def revoke(services: Services, *, ids: tuple[str, ...], user: str | None, everybody: bool) -> None:
    """End sessions: those with these ids, all of a user's, or all."""
    if [bool(ids), user is not None, everybody].count(True) != 1:
        raise click.UsageError("Give either ids, or --user, or --all.")
    remark(f"{count(await _revoke(services, ids, user), 'session')} revoked")


async def _revoke(services: Services, ids: tuple[str, ...], user: str | None) -> int:
    store = services.store.sessions
    if user is not None:
        return await store.revoke_user((await find_user(services.store.users, user)).id)
    if not ids:
        return await store.revoke_all()
    ended = await store.revoke(ids)
    if not ended:
        raise NotFound("there is no such session")
    return ended


def _record(session: Session, names: Mapping[int, str]) -> Record:
    return {
        "id": session.id,
        "user_id": session.user_id,
        "user": names.get(session.user_id, ""),
        "apps": sorted(session.apps),
        "created_at": Moment(session.created_at),
        "last_used_at": Moment(session.last_used_at),
        "expires_at": Moment(session.expires_at),
    }

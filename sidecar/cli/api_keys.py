"""`sidecar api-keys`: keys with which scripts act as a user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sidecar.cli.output import Moment, Record, count, json_option, print_list, print_one, remark
from sidecar.cli.running import administering, with_services
from sidecar.cli.values import (
    expiry,
    find_enabled_user,
    find_user,
    ids_argument,
    name_option,
    of_user_option,
    owner_option,
    ttl_option,
    usernames,
)
from sidecar.errors import NotFound
from sidecar.names import check_labels, check_name
from sidecar.records import ApiKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.app import Services


@click.group()
def api_keys() -> None:
    """API keys: with one, a script is its user."""


@api_keys.command("create")
@owner_option
@name_option
@ttl_option
@click.option("--scope", "scopes", multiple=True, help="What rules may demand of it. Repeat it for more.")
@json_option
@administering
async def create(
    services: Services, *, user: str, name: str, ttl: float | None, scopes: tuple[str, ...], as_json: bool
) -> None:
    """Make a key, and print it: it is not shown again."""
    from sidecar.credentials import id_of_secret, new_api_key

    check_name(name, "a key's name")
    check_labels(scopes, "a scope")
    owner = await find_enabled_user(services.store.users, user)
    key = new_api_key()
    now = services.clock.now()
    stored = ApiKey(
        id_of_secret(key.encode("ascii")), owner.id, name, scopes, now, expires_at=expiry(now, ttl)
    )
    await services.store.api_keys.add(stored)
    print_one({"id": stored.id, "key": key}, as_json=as_json)
    if not as_json:
        remark("Keep the key now: it is not shown again.")


@api_keys.command("list")
@of_user_option
@json_option
@with_services
async def list_keys(services: Services, *, user: str | None, as_json: bool) -> None:
    """List the keys, by what stands for them: never the keys themselves."""
    owner = None if user is None else await find_user(services.store.users, user)
    names = await usernames(services.store.users, owner)
    found = await services.store.api_keys.list(owner.id if owner else None)
    columns = ("id", "user", "name", "scopes", "created_at", "last_used_at", "expires_at")
    print_list([_record(key, names) for key in found], columns, as_json=as_json)


@api_keys.command("revoke")
@ids_argument
@administering
async def revoke(services: Services, *, ids: tuple[str, ...]) -> None:
    """End the keys with these ids."""
    ended = await services.store.api_keys.revoke(ids)
    if not ended:
        raise NotFound("there is no such API key")
    remark(f"{count(ended, 'API key')} revoked")


def _record(key: ApiKey, names: Mapping[int, str]) -> Record:
    return {
        "id": key.id,
        "user_id": key.user_id,
        "user": names.get(key.user_id, ""),
        "name": key.name,
        "scopes": key.scopes,
        "created_at": Moment(key.created_at),
        "last_used_at": Moment(key.last_used_at),
        "expires_at": Moment(key.expires_at),
    }

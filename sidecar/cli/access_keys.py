"""`sidecar access-keys`: keys of management clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sidecar.cli.output import Moment, Record, count, json_option, print_list, print_one, remark
from sidecar.cli.running import administering, administering_new_store, with_services
from sidecar.cli.values import expiry, ids_argument, name_option, ttl_option
from sidecar.errors import NotFound
from sidecar.names import check_name
from sidecar.records import AccessKey

if TYPE_CHECKING:
    from sidecar.app import Services


@click.group()
def access_keys() -> None:
    """Access keys, with which backends sign requests."""


@access_keys.command("create")
@name_option
@ttl_option
@json_option
@administering_new_store
async def create(services: Services, *, name: str, ttl: float | None, as_json: bool) -> None:
    """Make a key, and print its secret: it is not shown again."""
    from sidecar.access_keys import ROOT, access_key_secret, new_access_key_id

    check_name(name, "a key's name")
    now = services.clock.now()
    key = AccessKey(new_access_key_id(), name, now, expires_at=expiry(now, ttl))
    root = await services.store.secret(ROOT)
    await services.store.access_keys.add(key)
    print_one({"id": key.id, "secret": access_key_secret(root, key.id)}, as_json=as_json)
    if not as_json:
        remark("Keep the secret now: it is not shown again.")


@access_keys.command("list")
@json_option
@with_services
async def list_keys(services: Services, *, as_json: bool) -> None:
    """List the keys, without their secrets."""
    found = await services.store.access_keys.list()
    columns = ("id", "name", "created_at", "last_used_at", "expires_at")
    print_list([_record(key) for key in found], columns, as_json=as_json)


@access_keys.command("revoke")
@ids_argument
@administering
async def revoke(services: Services, *, ids: tuple[str, ...]) -> None:
    """End the keys with these ids."""
    ended = await services.store.access_keys.revoke(ids)
    if not ended:
        raise NotFound("there is no such access key")
    remark(f"{count(ended, 'access key')} revoked")


def _record(key: AccessKey) -> Record:
    return {
        "id": key.id,
        "name": key.name,
        "created_at": Moment(key.created_at),
        "last_used_at": Moment(key.last_used_at),
        "expires_at": Moment(key.expires_at),
    }

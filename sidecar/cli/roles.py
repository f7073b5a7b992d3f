"""`sidecar roles`: what roles permit."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sidecar.cli.output import json_option, print_list, print_one
from sidecar.cli.running import administering_new_store, with_services
from sidecar.names import check_label, check_labels
from sidecar.records import Role

if TYPE_CHECKING:
    from sidecar.app import Services


@click.group()
def roles() -> None:
    """Roles and their permissions. A role that users have need not be set."""


@roles.command("set")
@click.argument("name", metavar="ROLE")
@click.option("--permission", "permissions", multiple=True, help="Repeat it for more.")
@json_option
@administering_new_store
async def set_role(services: Services, *, name: str, permissions: tuple[str, ...], as_json: bool) -> None:
    """Give a role exactly these permissions. Without any, it permits nothing."""
    check_label(name, "a role")
    check_labels(permissions, "a permission")
    role = Role(name, tuple(sorted(set(permissions))))
    await services.store.users.set_role(role)
    print_one(asdict(role), as_json=as_json)


@roles.command("list")
@json_option
@with_services
async def list_roles(services: Services, *, as_json: bool) -> None:
    """List the roles that were set or that a user has."""
    found = await services.store.users.roles()
    print_list([asdict(role) for role in found], ("name", "permissions"), as_json=as_json)

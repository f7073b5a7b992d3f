"""`sidecar keys`: the keys that tokens are signed with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sidecar.cli.output import Moment, Record, json_option, print_list, print_one
from sidecar.cli.running import administering, with_services
from sidecar.records import SigningKey

if TYPE_CHECKING:
    from sidecar.app import Services


@click.group()
def keys() -> None:
    """Signing keys. Their public halves are at /.well-known/jwks.json."""


@keys.command("list")
@json_option
@with_services
async def list_keys(services: Services, *, as_json: bool) -> None:
    """List the keys: the one that signs, and those that still verify."""
    found = await services.store.signing_keys.list(now=services.clock.now())
    columns = ("kid", "algorithm", "created_at", "state", "verifies_until")
    print_list([_record(key) for key in found], columns, as_json=as_json)


@keys.command("rotate")
@json_option
@administering
async def rotate(services: Services, *, as_json: bool) -> None:
    """Sign with a new key from now on. The old one verifies until its last token has expired."""
    print_one(_record(await services.keys.rotate()), as_json=as_json)


def _record(key: SigningKey) -> Record:
    is_signing = key.verifies_until is None
    return {
        "kid": key.id,
        "algorithm": key.algorithm,
        "created_at": Moment(key.created_at),
        "state": "signing" if is_signing else "verifying",
        "verifies_until": None if is_signing else Moment(key.verifies_until),
    }

"""`sidecar bans`: who may not sign in for a while, after too many wrong passwords."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sidecar.cli.output import Moment, Record, count, json_option, print_list, remark
from sidecar.cli.running import administering, with_services
from sidecar.cli.values import find_user, usernames
from sidecar.errors import NotFound, RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.app import Services
    from sidecar.ports import UserStore
    from sidecar.records import Counter


@click.group()
def bans() -> None:
    """Bans: who may not sign in for a while."""


@bans.command("list")
@json_option
@with_services
async def list_bans(services: Services, *, as_json: bool) -> None:
    """List the bans in force: those that end first come first.

    A user without a name here is a name that nobody has.
    """
    from sidecar.limiting import BANS

    found = await services.store.counters.list(BANS, now=services.clock.now())
    names = await usernames(services.store.users, None)
    records = [_record(ban, names) for ban in found]
    print_list(records, ("who", "user", "ends_at"), as_json=as_json)


@bans.command("lift")
@click.argument("banned", nargs=-1, required=True, metavar="WHO...")
@administering
async def lift(services: Services, *, banned: tuple[str, ...]) -> None:
    """Lift bans: whoever it is may sign in again at once.

    WHO is the id, name or e-mail address of a user, an address or the /64 of a client, or as the list has it.
    """
    from sidecar.limiting import BANS

    keys = [BANS + await _counted_as(services.store.users, who) for who in banned]
    lifted = await services.store.counters.clear(keys)
    if not lifted:
        raise NotFound("there is no such ban")
    remark(f"{count(lifted, 'ban')} lifted")


async def _counted_as(users: UserStore, who: str) -> str:
    """Raises NotFound."""
    from sidecar.limiting import as_client, as_user
    from sidecar.trust import read_address

    if who.startswith(("user:", "client:")):
        return who
    address, slash, _ = who.partition("/")
    try:
        client = as_client(read_address(address.encode()))
    except RequestRefused:
        return as_user(str((await find_user(users, who)).id))
    if slash and client != f"client:{who}":
        raise NotFound(f"{who} is no client: that is an IPv4 address, or an IPv6 /64")
    return client


def _record(ban: Counter, names: Mapping[int, str]) -> Record:
    from sidecar.limiting import BANS

    who = ban.key.removeprefix(BANS)
    kind, _, name = who.partition(":")
    is_id = kind == "user" and name.isdecimal()
    return {
        "who": who,
        "user": names.get(int(name), "") if is_id else "",
        "ends_at": Moment(ban.ends_at),
    }

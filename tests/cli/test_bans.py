"""`sidecar bans`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest

from sidecar.app import Services
from sidecar.limiting import RequestLimits
from sidecar.settings import Limits
from tests.cli.commands import Cli

ADDRESS, IPV6 = ip_address("192.0.2.1"), ip_address("2001:db8::17")


def ban(cli: Cli, ann: int) -> None:
    """Bans Ann, a name that nobody has, and two clients."""

    async def fail(services: Services) -> None:
        counters, clock = services.store.counters, services.clock
        limits = RequestLimits(Limits(), counters, services.audit, clock, services.metrics)
        for _ in range(5):
            await limits.count_failure(ADDRESS, str(ann))
            await limits.count_failure(IPV6, "unknown:5")

    cli.look(fail)


def listed(cli: Cli) -> Sequence[str]:
    """Who is banned."""
    return sorted(each["who"] for each in cli.json("bans", "list"))


ALL = ["client:192.0.2.1", "client:2001:db8::/64", "user:1", "user:unknown:5"]


def test_bans_are_listed_with_their_ends(cli: Cli, ann: int) -> None:
    assert cli.json("bans", "list") == []
    ban(cli, ann)
    bans = {each["who"]: each for each in cli.json("bans", "list")}
    assert sorted(bans) == ALL
    assert [bans[who]["user"] for who in ALL] == ["", "", "ann", ""]
    ends_in = datetime.fromisoformat(bans["user:1"]["ends_at"]) - datetime.now(UTC)
    assert timedelta(seconds=200) < ends_in <= timedelta(seconds=300)
    assert "user:1" in cli.ok("bans", "list").stdout


@pytest.mark.parametrize(
    ("who", "lifted"),
    [
        ("ann", "user:1"),
        ("1", "user:1"),
        ("ANN@example.com", "user:1"),
        ("user:1", "user:1"),
        ("user:unknown:5", "user:unknown:5"),
        ("192.0.2.1", "client:192.0.2.1"),
        ("::ffff:192.0.2.1", "client:192.0.2.1"),
        ("2001:db8::ffff", "client:2001:db8::/64"),
        ("2001:db8::/64", "client:2001:db8::/64"),
        ("client:2001:db8::/64", "client:2001:db8::/64"),
    ],
)
def test_a_ban_is_lifted_by(cli: Cli, ann: int, who: str, lifted: str) -> None:
    ban(cli, ann)
    assert cli.ok("bans", "lift", who).stderr == "1 ban lifted\n"
    assert listed(cli) == [each for each in ALL if each != lifted]
    assert cli.refused("bans", "lift", who) == "there is no such ban"


def test_several_bans_are_lifted_at_once(cli: Cli, ann: int) -> None:
    ban(cli, ann)
    assert cli.ok("bans", "lift", "ann", "192.0.2.1", "192.0.2.99").stderr == "2 bans lifted\n"
    assert listed(cli) == ["client:2001:db8::/64", "user:unknown:5"]


def test_where_one_name_is_nobodys_nothing_is_lifted(cli: Cli, ann: int) -> None:
    ban(cli, ann)
    assert "nobody" in cli.refused("bans", "lift", "ann", "nobody")
    assert listed(cli) == ALL


@pytest.mark.parametrize("who", ["2001:db8::/48", "2001:db8::17/64", "192.0.2.0/24"])
def test_a_network_that_is_no_client_has_no_ban(cli: Cli, ann: int, who: str) -> None:
    ban(cli, ann)
    assert f"{who} is no client" in cli.refused("bans", "lift", who)
    assert listed(cli) == ALL


def test_a_ban_to_lift_is_named(cli: Cli) -> None:
    assert "WHO" in cli.misused("bans", "lift")

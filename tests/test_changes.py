"""What differs between two settings is named by its key path, and by nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.settings import FIXED, changes, parse, with_fixed

OTHER = {
    "type": "introspection",
    "url": "https://idp.example.com/introspect",
    "client_id": "sidecar",
    "client_secret": "PLANTED-secret",
}


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        pytest.param({}, {}, [], id="nothing"),
        pytest.param(
            {},
            {"session": {"lifetime": "1h"}, "log": {"level": "debug"}},
            ["log.level", "session.lifetime"],
            id="keys",
        ),
        pytest.param(
            {},
            {"limits": {"ban": {"failures": 9}}},
            ["limits.ban.failures"],
            id="a key of a table in a table",
        ),
        pytest.param(
            {}, {"rules": [{"roles": ["a"]}]}, ["rules[0].name", "rules[0].roles"], id="a rule's keys"
        ),
        pytest.param({}, {"rules": [{}, {}]}, ["rules"], id="more rules"),
        pytest.param({}, {"identity_headers": {"X-A": "email"}}, ["identity_headers"], id="a mapping"),
        pytest.param({}, {"authenticators": {"idp": OTHER}}, ["authenticators.idp"], id="another system"),
        pytest.param({"authenticators": {"idp": OTHER}}, {}, ["authenticators.idp"], id="one less"),
        pytest.param(
            {"authenticators": {"idp": OTHER}},
            {"authenticators": {"idp": {**OTHER, "client_secret": "PLANTED-other"}}},
            ["authenticators.idp.client_secret"],
            id="a secret",
        ),
    ],
)
def test_changes_are_named(before: dict[str, Any], after: dict[str, Any], changed: list[str]) -> None:
    assert list(changes(parse(before), parse(after))) == changed


def test_what_cannot_change_stays_as_it_runs() -> None:
    running = parse({"server": {"listen": "127.0.0.1:1"}, "store": {"url": "sqlite:///a.db"}})
    given = parse(
        {
            "server": {
                "listen": "127.0.0.1:2",
                "admin_listen": "127.0.0.1:3",
                "workers": 2,
                "header_limit": "1MiB",
                "max_connections": 4,
                "http": "plain",
                "drain": "5s",
                "client_ip_hops": 2,
            },
            "audit": {"file": "audit.jsonl"},
            "store": {"url": "sqlite:///b.db"},
        }
    )
    assert set(changes(running, given)) == {*FIXED, "server.client_ip_hops"}
    assert changes(running, with_fixed(given, running)) == ("server.client_ip_hops",)

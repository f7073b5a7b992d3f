"""Settings of authenticators of other systems: what is wrong with them, all at once, each with its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar.elsewhere import unusable_keys
from sidecar.errors import SettingsError
from sidecar.settings import parse, warnings
from sidecar.settings.contradictions import forms_of
from tests.conftest import Start
from tests.issuer import jwk, jwks, pem

Tables = dict[str, Any]

JWT = {"type": "jwt", "issuer": "https://idp.example.com", "audience": "gateway", "algorithms": "RS256"}
TOKENS = {
    "type": "introspection",
    "url": "https://login.example.com/introspect",
    "client_id": "gateway",
    "client_secret": "s",
    "audience": "orders",
}
UPSTREAM = {"type": "upstream", "url": "https://app.example.com/me", "forward_cookies": "sid"}
AUTHING = {
    "type": "upstream",
    "dialect": "authing",
    "url": "https://app.example.com/api/v3/check-session-status",
    "over": "kc",
    "app_id": "app1",
    "access_key_id": "ak",
    "access_key_secret": "sk",
}


def faults(tables: Tables) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(tables, unusable_keys)
    return [str(fault) for fault in caught.value.faults]


def without(table: Tables, *keys: str) -> Tables:
    return {key: value for key, value in table.items() if key not in keys}


def assert_told(found: list[str], expected: list[str]) -> None:
    assert len(found) == len(expected), found
    for fault, beginning in zip(found, expected, strict=True):
        assert fault.startswith(beginning)


# --- one authenticator ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        pytest.param(
            without(JWT, "issuer", "audience", "algorithms"),
            [
                'issuer: it is missing: write it like issuer = "https://login.example.com"',
                'audience: it is missing: write it like audience = "orders"',
                'algorithms: it is missing: write it like algorithms = "RS256"',
            ],
            id="what is missing is written how",
        ),
        pytest.param(
            without(TOKENS, "url", "client_id", "client_secret"),
            [
                'url: it is missing: write it like url = "https://login.example.com/check"',
                'client_id: it is missing: write it like client_id = "sidecar"',
                'client_secret: it is missing: write it like client_secret = "CHANGE"',
            ],
            id="of an introspection server too",
        ),
        pytest.param({**JWT, "algorithms": "none"}, ["algorithms[0]: Input should be"], id="no algorithm"),
        pytest.param({**JWT, "audience": ""}, ["audience[0]: an empty name"], id="an empty audience"),
        pytest.param({**JWT, "audience": []}, ["audience: it is empty: name one or more"], id="no audience"),
        pytest.param({**JWT, "algorithms": []}, ["algorithms: it is empty"], id="no algorithms"),
        pytest.param(
            {**JWT, "algorithms": ["HS256", "RS256"], "jwks_url": "http://keys.example.com"},
            [
                "algorithms: HS256 is for a secret, and no public key is one",
                "jwks_url: whoever is on the way can answer",
            ],
            id="HS256 with a JWKS over plain http",
        ),
        pytest.param(
            {**JWT, "algorithms": "HS256", "jwks_url": "https://a.com", "ca_file": "/nowhere.pem"},
            [
                "ca_file: /nowhere.pem cannot be read: No such file",
                "algorithms: HS256 is for a secret, and no public key is one",
            ],
            id="HS256 with a JWKS and no such CA",
        ),
        pytest.param(
            {**JWT, "jwks_url": "https://a.com", "secret": "s" * 32, "leeway": "5"},
            [
                "leeway: a duration is written like",
                "secret: jwks_url has the keys already",
                "algorithms: a secret is for HS256, HS384 and HS512 alone",
            ],
            id="two sources of keys, and no duration",
        ),
        pytest.param(
            {**JWT, "jwks_url": "https://a.com", "jwks_file": "/a", "public_key_file": "/b"},
            [
                "jwks_file: jwks_url has the keys already",
                "public_key_file: jwks_url has the keys already",
                "public_key_file: /b cannot be read: No such file",
                "jwks_file: /a cannot be read: No such file",
            ],
            id="three sources of keys, two of which are not there",
        ),
        pytest.param(
            {**JWT, "issuer": "urn:idp", "jwks_url": "keys.example.com"},
            ["jwks_url: a URL is written in full"],
            id="keys at no address are none to be discovered",
        ),
        pytest.param(
            {**JWT, "algorithms": "HS256", "secret_file": "/nowhere", "leeway": "5"},
            ["secret: the secret's file /nowhere cannot be read", "leeway: a duration is written like"],
            id="a secret that cannot be read is still one",
        ),
        pytest.param(
            {**without(TOKENS, "client_secret"), "client_secret_file": "/nowhere", "url": "http://a.com"},
            ["client_secret: the secret's file /nowhere cannot be read", "url: whoever is on the way"],
            id="so is one that has to be set",
        ),
        pytest.param(
            {**JWT, "secret": "a", "secret_file": "b"}, ["secret and secret_file are both set"], id="both"
        ),
        pytest.param(
            {**TOKENS, "allow_http": "yes?", "url": "http://a.com"}, ["allow_http: Input"], id="unclear"
        ),
        pytest.param(
            {**TOKENS, "timeout": "0s"}, ["timeout: it must be more than nothing"], id="no time at all"
        ),
    ],
)
def test_every_fault_of_an_authenticator_is_told_at_once(table: Tables, expected: list[str]) -> None:
    found = [
        fault.removeprefix("authenticators.kc").lstrip(".: ")
        for fault in faults({"authenticators": {"kc": table}})
    ]
    assert_told(found, expected)


@pytest.mark.parametrize(
    "issuer",
    [
        "idp",
        "urn:idp",
        "https://",
        "https://ho st",
        "https://h/#frag",
        "https://h/#",
        "https://h/?q",
        "https://h/?",
        "https://h:99999",
        "https://u@h",
        "https://*.h",
        "https://[",
    ],
)
def test_keys_are_discovered_at_an_address_alone(issuer: str) -> None:
    table = {**JWT, "issuer": issuer}
    (found,) = faults({"authenticators": {"kc": table}})
    assert found.startswith("authenticators.kc.issuer: its keys would be discovered there: write an address")
    parse({"authenticators": {"kc": {**table, "jwks_url": "https://keys.example.com"}}})


@pytest.mark.parametrize(
    ("issuer", "allow_http", "accepted"),
    [
        ("https://idp.example.com/", False, True),
        ("http://127.0.0.1:8080", False, True),
        ("http://idp.example.com", False, False),
        ("http://idp.example.com", True, True),
    ],
)
def test_keys_are_discovered_over_plain_http_on_purpose_alone(
    issuer: str, *, allow_http: bool, accepted: bool
) -> None:
    tables = {"authenticators": {"kc": {**JWT, "issuer": issuer, "allow_http": allow_http}}}
    if accepted:
        parse(tables)
    else:
        assert_told(faults(tables), ["authenticators.kc.issuer: whoever is on the way can answer"])


# --- files ---------------------------------------------------------------------------------------

FILES: dict[str, bytes | None] = {
    "garbage": b"PLANTED garbage",
    "nothing": b"",
    "an object": b"{}",
    "an empty JWK set": jwks(),
    "a JWK to encrypt with": jwks(jwk("RSA", "k", use="enc")),
    "a private key": pem("RSA", private=True),
    "a short key": pem("RSA-1024"),
    "a key on a curve": pem("ES256"),
    "no file": None,
}


@pytest.mark.parametrize(
    ("key", "file", "why"),
    [
        ("public_key_file", "garbage", ": it is no public key in PEM"),
        ("public_key_file", "nothing", ": it is no public key in PEM"),
        ("public_key_file", "a private key", ": it is no public key in PEM"),
        ("public_key_file", "a short key", ": it has fewer than 2048 bits"),
        ("public_key_file", "a key on a curve", ": it fits none of the configured algorithms"),
        ("public_key_file", "no file", " cannot be read: No such file or directory"),
        ("jwks_file", "garbage", ": it is not JSON that can be read one way"),
        ("jwks_file", "nothing", ": it is not JSON that can be read one way"),
        ("jwks_file", "an object", ": it is no JWK set"),
        ("jwks_file", "an empty JWK set", ": none of its keys can be used: there are none"),
        ("jwks_file", "a JWK to encrypt with", ": none of its keys can be used: k: its use is not sig"),
        ("jwks_file", "no file", " cannot be read: No such file or directory"),
        ("ca_file", "garbage", " has no certificates in PEM"),
        ("ca_file", "nothing", " has no certificates in PEM"),
        ("ca_file", "a key on a curve", " has no certificates in PEM"),
        ("ca_file", "no file", " cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_of_no_use_is_a_fault_that_names_it_and_nothing_in_it(
    tmp_path: Path, key: str, file: str, why: str
) -> None:
    path, content = tmp_path / "file", FILES[file]
    if content is not None:
        path.write_bytes(content)
    (found,) = faults({"authenticators": {"kc": {**JWT, key: str(path)}}})
    assert found == f"authenticators.kc.{key}: {path}{why}"


def test_files_are_told_of_all_authenticators_and_beside_what_else_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "pem").write_bytes(b"PLANTED garbage")
    (tmp_path / "jwks").write_bytes(jwks())
    tables = {
        "server": {"listen": "nowhere"},
        "authenticators": {
            "a": {**JWT, "public_key_file": str(tmp_path / "pem"), "leeway": "5"},
            "b": {**JWT, "jwks_file": str(tmp_path / "jwks")},
            "c": {**JWT, "algorithms": "HS256", "secret": pem("RSA").decode()},
            "off": {**JWT, "jwks_file": str(tmp_path / "jwks"), "enabled": False},
        },
    }
    assert_told(
        faults(tables),
        [
            "server.listen: an address is written like",
            "authenticators.a.leeway: a duration is written like",
            "authenticators.a.public_key_file: ",
            "authenticators.b.jwks_file: ",
            "authenticators.c.secret: it is a public key, a certificate or a JWK, and no secret",
        ],
    )


# --- several, and what names them ----------------------------------------------------------------

NOT_ENABLED = "is not enabled; these are: "


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        pytest.param(
            {
                "server": {"listen": "nowhere"},
                "authenticators": {"kc": {**JWT, "leeway": "5"}, "app": {**AUTHING, "over": "keycloack"}},
                "rules": [{"authenticators": ["keycloack", "kc"]}, {"access": "maybe"}],
                "checks": {"authenticators": ["keycloack"]},
            },
            [
                "server.listen: ",
                "authenticators.kc.leeway: ",
                "rules[1].access: ",
                f"authenticators.app.over: 'keycloack' {NOT_ENABLED}api_key, app, kc, session",
                f"checks.authenticators: 'keycloack' {NOT_ENABLED}",
                f"rules[0].authenticators: 'keycloack' {NOT_ENABLED}",
            ],
            id="a fault elsewhere hides no unknown name",
        ),
        pytest.param(
            {
                "authenticators": {"kc": {**JWT, "type": "jvt"}, "app": AUTHING, "5": JWT},
                "rules": [{"authenticators": ["kc", "app"], "credentials": ["bearer"]}],
                "checks": {"authenticators": ["kc"]},
            },
            [
                'authenticators.kc.type: it is one of "jwt", "introspection", "upstream"',
                "authenticators.5: that is no name",
            ],
            id="one that cannot be read is not unknown",
        ),
        pytest.param(
            {"authenticators": {"Key Cloak": {**JWT, "leeway": "5"}, "kc": 5}},
            [
                "authenticators.Key Cloak: that is no name: it has small letters",
                "authenticators.Key Cloak.leeway: a duration",
                "authenticators.kc.type: it is one of",
            ],
            id="a bad name is told beside what else is wrong",
        ),
        pytest.param(
            {
                "authenticators": {"kc": {**JWT, "enabled": False}},
                "checks": {"authenticators": ["kc", "basic"]},
            },
            [
                f"checks.authenticators: 'kc' {NOT_ENABLED}api_key, session",
                f"checks.authenticators: 'basic' {NOT_ENABLED}",
            ],
            id="products name one that is off",
        ),
        pytest.param(
            {"authenticators": {"kc": JWT}, "rules": [{"authenticators": ["kc"], "credentials": ["cookie"]}]},
            ["rules[0].credentials: none of its authenticators takes these; they take: bearer"],
            id="a token in a cookie",
        ),
        pytest.param(
            {
                "authenticators": {"kc": JWT, "app": AUTHING, "shop": UPSTREAM},
                "rules": [
                    {"authenticators": ["app"], "credentials": ["cookie"]},
                    {"authenticators": ["app", "shop"], "credentials": ["basic", "api_key"]},
                ],
            },
            [
                "rules[0].credentials: none of its authenticators takes these; they take: bearer",
                "rules[1].credentials: none of its authenticators takes these; they take: bearer, cookie",
            ],
            id="forms of upstreams",
        ),
        pytest.param(
            {"authenticators": {"a": {**AUTHING, "over": "b"}, "b": {**AUTHING, "over": "a"}}},
            ["authenticators.a.over: 'b' is over another", "authenticators.b.over: 'a' is over another"],
            id="over each other",
        ),
        pytest.param(
            {"authenticators": {"app": {**UPSTREAM, "forward_cookies": ["a", "__Host-sidecar"]}}},
            ["authenticators.app.forward_cookies: __Host-sidecar is the cookie of our own session"],
            id="our own cookie would leave",
        ),
        pytest.param(
            {
                "session": {"cookie_domain": "example.com"},
                "authenticators": {
                    "app": {**UPSTREAM, "forward_cookies": "sidecar", "pass_cookies": "sidecar"}
                },
            },
            [
                "authenticators.app.forward_cookies: sidecar is the cookie of our own session",
                "authenticators.app.pass_cookies: sidecar is the cookie of our own session",
            ],
            id="as another sidecar's with the same name",
        ),
    ],
)
def test_every_fault_between_authenticators_is_told_at_once(tables: Tables, expected: list[str]) -> None:
    assert_told(faults(tables), expected)


def test_what_comes_whole_from_the_environment_is_read_as_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_AUTHENTICATORS__KC", '{"type": "jwt", "issuer": ""}')
    monkeypatch.setenv("SIDECAR_AUTHENTICATORS__APP__LEEWAY", "5")
    tables = {"authenticators": {"app": JWT}, "rules": [{"authenticators": ["kc", "nobody"]}]}
    assert [fault.partition(": ")[0] for fault in faults(tables)] == [
        "authenticators.app.leeway",
        "authenticators.kc.issuer",
        "authenticators.kc.audience",
        "authenticators.kc.algorithms",
        "rules[0].authenticators",
    ]


async def test_the_settings_know_which_forms_these_take(start: Start, tmp_path: Path) -> None:
    (tmp_path / "pem").write_bytes(pem("RSA"))
    tables = {
        "authenticators": {
            "kc": {**JWT, "public_key_file": str(tmp_path / "pem")},
            "tokens": TOKENS,
            "cookies": UPSTREAM,
            "keys": {**UPSTREAM, "forward_headers": "X-Api-Key"},
            "pulse": {**without(UPSTREAM, "forward_cookies"), "dialect": "pulse"},
            "virola": {**without(UPSTREAM, "forward_cookies"), "dialect": "virola"},
            "app": AUTHING,
            "own": {**AUTHING, "over": "session"},
        }
    }
    async with start(tables) as sidecar:
        elsewhere = sidecar.application._elsewhere
        made = {**elsewhere.issuers, **elsewhere.asked}
        assert {name: each.forms for name, each in made.items()} == {
            name: forms_of(name, sidecar.parts.settings) for name in tables["authenticators"]
        }


# --- warnings ------------------------------------------------------------------------------------

OTHER = {**JWT, "issuer": "https://other.example.com"}


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (
            {"authenticators": {"a": {**JWT, "subject_prefix": "a:"}, "b": {**JWT, "subject_prefix": "b:"}}},
            ["rules[0].authenticators: a and b have one issuer, and a alone judges its tokens"],
        ),
        (
            {
                "authenticators": {
                    "a": {**JWT, "subject_prefix": "a:"},
                    "b": {**JWT, "subject_prefix": "b:"},
                },
                "rules": [{"paths": ["/a"], "authenticators": ["a"]}, {"access": "deny"}],
                "checks": {"authenticators": ["b", "a"]},
            },
            ["checks.authenticators: a and b have one issuer"],
        ),
        (
            {
                "authenticators": {
                    "a": {**JWT, "subject_prefix": "a:"},
                    "b": {**JWT, "subject_prefix": "b:"},
                },
                "rules": [{"paths": ["/a"], "authenticators": ["a"]}, {"authenticators": ["b"]}],
            },
            [],
        ),
        (
            {
                "authenticators": {
                    "a": {**JWT, "subject_prefix": "a:"},
                    "b": {**JWT, "subject_prefix": "b:", "enabled": False},
                }
            },
            [],
        ),
        (
            {"authenticators": {"tokens": {**TOKENS, "audience": [], "subject_prefix": "t:"}}},
            ["authenticators.tokens.audience: any token of that server is good here"],
        ),
        ({"authenticators": {"tokens": {**TOKENS, "audience": [], "enabled": False}}}, []),
        (
            {
                "authenticators": {
                    "a": {**JWT, "subject_prefix": "kc"},
                    "b": {**OTHER, "subject_prefix": "kc:"},
                },
                "rules": [{"authenticators": ["a", "b"]}],
            },
            ["rules[0].authenticators: a and b may name two people by one subject"],
        ),
        (
            {
                "authenticators": {"a": JWT, "b": {**OTHER, "subject_prefix": "b:"}},
                "rules": [{"authenticators": ["b", "a"]}],
            },
            ["rules[0].authenticators: a and b may name two people by one subject"],
        ),
        (
            {"authenticators": {"a": {**JWT, "subject_prefix": "1"}}},
            ["rules[0].authenticators: session and a may name two people by one subject"],
        ),
        (
            {"authenticators": {"a": JWT}, "rules": [{"authenticators": ["a"]}]},
            [],
        ),
    ],
    ids=str,
)
def test_what_misleads_is_a_warning(tables: Tables, expected: list[str]) -> None:
    assert_told([str(warning) for warning in warnings(parse(tables))], expected)


SHOP = {"hosts": ["shop.example.com", "shop.example.org"], "authenticators": ["app"]}
BACK = "https://app.example.com/login?back={rd}"


@pytest.mark.parametrize(
    ("rule", "login", "hosts"),
    [
        ({**SHOP, "login_url": BACK}, {}, [0, 1]),
        (SHOP, {"url": BACK}, [0, 1]),
        ({**SHOP, "login_url": BACK}, {"allowed_redirects": ["shop.example.com"]}, [1]),
        ({**SHOP, "login_url": BACK}, {"public_url": "https://shop.example.org/_sidecar"}, [0]),
        ({**SHOP, "login_url": BACK}, {"allowed_redirects": ["*.example.com", "*.example.org"]}, []),
        (
            {**SHOP, "hosts": ["*.a.example.com"], "login_url": BACK},
            {"allowed_redirects": ["*.example.com"]},
            [],
        ),
        (
            {**SHOP, "hosts": ["*.example.com"], "login_url": BACK},
            {"allowed_redirects": ["a.example.com"]},
            [],
        ),
        (
            {**SHOP, "hosts": ["*.example.com"], "login_url": BACK},
            {"allowed_redirects": ["example.com"]},
            [0],
        ),
        ({**SHOP, "hosts": ["a.com:8443"], "login_url": BACK}, {"allowed_redirects": ["a.com"]}, []),
        ({**SHOP, "hosts": ["a.com:8443"], "login_url": BACK}, {"allowed_redirects": ["a.com:443"]}, [0]),
        ({**SHOP, "login_url": BACK, "access": "public"}, {}, []),
        ({**SHOP, "login_url": BACK, "hosts": []}, {}, []),
        (SHOP, {}, []),
    ],
    ids=str,
)
def test_a_sign_in_that_does_not_lead_back_is_a_warning(
    rule: Tables, login: Tables, hosts: list[int]
) -> None:
    found = warnings(parse({"authenticators": {"app": UPSTREAM}, "rules": [rule], "login": login}))
    told = [warning for warning in found if "does not lead back" in warning.message]
    assert [warning.path for warning in told] == [f"rules[0].hosts[{index}]" for index in hosts]
    assert all("{rd}" in warning.message for warning in told)

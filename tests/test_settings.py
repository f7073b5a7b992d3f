"""Settings: one file, the environment over it, every fault at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from sidecar.authenticators.api_key import ApiKeyAuthenticator
from sidecar.authenticators.basic import BasicAuthenticator
from sidecar.authenticators.session import SessionAuthenticator
from sidecar.checks.authing import Authing
from sidecar.checks.cargo_extra import CargoExtra
from sidecar.checks.compass import Compass
from sidecar.checks.pulse import Pulse
from sidecar.checks.virola import Virola
from sidecar.errors import SettingsError
from sidecar.settings import Settings, find_file, load, parse, warnings
from sidecar.settings.contradictions import FORMS, PRODUCT_PATHS
from sidecar.settings.model import Authenticators
from sidecar.settings.reference import effective, reference
from sidecar.settings.types import write_duration

REFERENCE = Path(__file__).parent.parent / "config" / "sidecar.toml"
JWT = {"type": "jwt", "issuer": "https://idp.example.com", "audience": "gateway", "algorithms": ["RS256"]}
UPSTREAM = {"type": "upstream", "url": "https://app.example.com/me", "forward_cookies": ["sid"]}
AUTHING = {
    "type": "upstream",
    "dialect": "authing",
    "url": "https://app.example.com/api/v3/check-session-status",
    "over": "session",
    "app_id": "app1",
    "access_key_id": "ak",
    "access_key_secret": "sk",
}
HMAC = {**JWT, "algorithms": ["HS256", "HS384"]}


def faults(tables: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(tables)
    return [str(fault) for fault in caught.value.faults]


def paths(tables: dict[str, Any]) -> list[str]:
    return [fault.partition(": ")[0] for fault in faults(tables)]


def test_the_reference_is_the_model_with_every_key_at_its_default() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert text == reference()
    assert parse(tomllib.loads(text)) == parse({})


def test_the_effective_settings_are_settings() -> None:
    chosen = {"session": {"cookie_secure": False}, "rules": [{"paths": ["/x"], "networks": ["10.0.0.0/8"]}]}
    shown = parse(tomllib.loads(effective(parse(chosen))))
    assert shown.rules == parse(chosen).rules
    assert shown.session.cookie_name == "sidecar"


def test_requests_to_products_need_not_be_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_LIMITS__CHECKS", "")
    settings = parse({"limits": {"checks": "5/second"}})
    assert settings.limits.checks is None
    assert 'checks = ""' in effective(settings)


def test_the_defaults_are_strict() -> None:
    settings = parse({})
    assert settings.server.trusted_proxies == ("127.0.0.1/32", "::1/128", "unix")
    assert settings.session.cookie == "__Host-sidecar"
    assert [rule.access for rule in settings.rules] == ["authenticated"]
    assert settings.authenticators.enabled() == ("session", "api_key")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse({}).session.lifetime = 1.0  # type: ignore[misc]  # that is what is tested


def test_every_fault_is_told_at_once_with_its_key() -> None:
    assert paths(
        {
            "server": {
                "listen": "9000",
                "drain": "10 s",
                "trusted_proxies": ["10.0.0.1/8"],
                "client_ip_hops": 0,
            },
            "session": {"cookie_name": "a b", "lifetime": "0s"},
            "store": {"url": "mysql://x", "sessions_url": "redis://x"},
            "tokens": {"algorithm": "none", "issuer": ""},
            "login": {"public_url": "app.example.com", "allowed_redirects": ["https://a.com"]},
            "limits": {"login": "often", "ban": {"failures": 0, "windows": "1s"}},
            "rules": [{"path": ["/a"]}, {"access": "maybe", "networks": ["10.0.0.0/33"]}],
            "misspelt": {},
        }
    ) == [
        "server.listen",
        "server.trusted_proxies[0]",
        "server.client_ip_hops",
        "server.drain",
        "store.url",
        "store.sessions_url",
        "session.cookie_name",
        "session.lifetime",
        "tokens.issuer",
        "tokens.algorithm",
        "login.public_url",
        "login.allowed_redirects[0]",
        "limits.login",
        "limits.ban.failures",
        "limits.ban.windows",
        "rules[0].path",
        "rules[1].networks[0]",
        "rules[1].access",
        "misspelt",
    ]


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every key in it, and every item."""
    match value:
        case dict():
            inner: list[tuple[str | int, object]] = list(value.items())
        case list():
            inner = list(enumerate(value))
        case _:
            return
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


@pytest.mark.parametrize(
    "junk", [5, True, "x", "[", "{}", "", [], ["", 5], {}, {"x": {}}, [{}], None], ids=repr
)
def test_junk_anywhere_is_a_fault_there_or_none_at_all(junk: object) -> None:
    whole = {
        **tomllib.loads(reference()),
        "authenticators": {"kc": JWT, "app": {**AUTHING, "claims": {"subject": "id"}}, "shop": UPSTREAM},
    }
    for place in places(whole):
        tables = deepcopy(whole)
        *above, key = place
        table: Any = tables
        for part in above:
            table = table[part]
        table[key] = junk
        with suppress(SettingsError):
            parse(tables)


@pytest.mark.parametrize(
    ("tables", "fault"),
    [
        (
            {"session": {"cookie_name": "__Host-x", "cookie_secure": False}},
            "session.cookie_name: browsers drop",
        ),
        (
            {"session": {"cookie_name": "__Host-x", "cookie_domain": "a.com"}},
            "session.cookie_name: browsers drop",
        ),
        (
            {"session": {"cookie_name": "__Secure-x", "cookie_secure": False}},
            "session.cookie_name: browsers drop",
        ),
        (
            {"session": {"cookie_same_site": "none", "cookie_secure": False}},
            "session.cookie_same_site: browsers drop",
        ),
        (
            {"session": {"touch_interval": "1h", "idle_timeout": "1h"}},
            "session.touch_interval: it must be shorter than idle_timeout",
        ),
        ({"session": {"lifetime": 5}}, "session.lifetime: a duration is written like"),
        ({"session": {"lifetime": 1.5}}, "session.lifetime: a duration is written like"),
        ({"session": {"lifetime": float("nan")}}, "session.lifetime: a duration is written like"),
        ({"session": {"lifetime": float("inf")}}, "session.lifetime: a duration is written like"),
        ({"server": {"header_limit": 4096}}, "server.header_limit: a size is written like"),
        ({"tokens": {"lifetime": "500ms"}}, "tokens.lifetime: a token's times are whole seconds"),
        ({"tokens": {"lifetime": "1500ms"}}, "tokens.lifetime: a token's times are whole seconds"),
        ({"login": {"public_url": "https://*.example.com"}}, "login.public_url: a URL is at one host"),
        ({"login": {"url": "https://*.example.com/{rd}"}}, "login.url: a URL is at one host"),
        ({"login": {"url": "https://a_b:99999/{rd}"}}, "login.url: 'a_b:99999' is not a host"),
        ({"rules": [{"authenticators": ["basic"]}]}, "rules[0].authenticators: 'basic' is not enabled"),
        ({"rules": [{"access": "public", "roles": ["a"]}]}, "rules[0].access: a rule that is public demands"),
        pytest.param(
            {"rules": [{"roles": [""]}]},
            "rules[0].roles[0]: an empty name matches nothing",
            id="d51 an empty role",
        ),
        ({"rules": [{"methods": ["get"]}]}, "rules[0].methods[0]: 'get' is not a method"),
        ({"rules": [{"credentials": ["magic"]}]}, "rules[0].credentials[0]: Input should be"),
        ({"rules": [{"paths": ["/a/b**"]}]}, "rules[0].paths[0]: '/a/b**' is not a path pattern"),
        ({"rules": [{"paths": ["/a//b"]}]}, "rules[0].paths[0]: '/a//b' is not a path pattern"),
        ({"rules": [{"paths": [5]}]}, "rules[0].paths[0]: '5' is not a path pattern"),
        ({"rules": [{"paths": ["/a%20b"]}]}, "rules[0].paths[0]: '/a%20b' is not a path pattern"),
        ({"rules": [{"hosts": ["*"]}]}, "rules[0].hosts[0]: '*' is not a host"),
        ({"identity_headers": {"X-A": "e-mail"}}, "identity_headers: X-A: 'e-mail' is none of"),
        pytest.param(
            {"identity_headers": {"X-A": "email", "x-a": "name"}},
            "identity_headers: x-a is there twice",
            id="d47 header names that differ in case alone",
        ),
        ({"identity_headers": {"Set-Cookie": "email"}}, "identity_headers: Set-Cookie already has a meaning"),
        ({"identity_headers": {"X_A": "email"}}, "identity_headers: 'X_A' is not a header's name"),
        (
            {"identity_assertion": {"header": "X_A"}},
            "identity_assertion.header: 'X_A' is not a header's name",
        ),
        ({"identity_assertion": {"header": ""}}, "identity_assertion.header: '' is not a header's name"),
        (
            {"identity_assertion": {"header": "Authorization"}},
            "identity_assertion.header: Authorization already has a meaning",
        ),
        (
            {"identity_assertion": {"enabled": True, "header": "x-auth-USER"}},
            "identity_assertion.header: x-auth-USER is one of the identity_headers already",
        ),
        (
            {"identity_assertion": {"enabled": True}, "tokens": {"algorithm": "HS256"}},
            "tokens.algorithm: no application can verify HS256",
        ),
        (
            {"identity_assertion": {"lifetime": "1500ms"}},
            "identity_assertion.lifetime: a token's times are whole seconds",
        ),
        (
            {"store": {"url": "postgresql://u:PLANTED@h/d"}},
            "store.url: PostgreSQL is reserved for a later version",
        ),
        (
            {"store": {"sessions_url": "redis://h"}},
            "store.sessions_url: a store of its own for sessions is reserved",
        ),
        (
            {"login": {"public_url": "https://a.com/auth"}},
            "login.public_url: what is below /auth/ is answered by checks.pulse",
        ),
        (
            {"login": {"public_url": "https://a.com/api/v3"}},
            "login.public_url: what is below /api/v3/ is answered by checks.authing",
        ),
        ({"checks": {"allowed_origins": ["*"]}}, "checks.allowed_origins[0]: a URL is written in full"),
        (
            {"checks": {"allowed_origins": ["https://a.com/path"]}},
            "checks.allowed_origins[0]: an origin is a scheme and a host",
        ),
        ({"checks": {"allowed_origins": [""]}}, "checks.allowed_origins[0]: an origin is a scheme"),
        ({"checks": {"virolla": {}}}, "checks.virolla: there is no such key"),
        ({"limits": {"checks": "0/minute"}}, "limits.checks: a rate is written like"),
        ({"limits": {"login": ""}}, "limits.login: a rate is written like"),
        (
            {"limits": {"exempt_networks": ["10.0.0.1/8"]}},
            "limits.exempt_networks[0]: 10.0.0.1/8 has host bits",
        ),
        ({"traffic_guard": {"deny_user_agents": [""]}}, "traffic_guard.deny_user_agents[0]: an empty name"),
        ({"login": {"public_url": "https://u@a.com"}}, "login.public_url: a URL here has no user name"),
        (
            {"authenticators": {"corp": {**JWT, "issuer": ""}}},
            "authenticators.corp.issuer: an empty name matches nothing",
        ),
        ({"authenticators": {"corp": {**JWT, "url": "x"}}}, "authenticators.corp.url: there is no such key"),
        (
            {"authenticators": {"corp": {**JWT, "ca_file": "/nowhere.pem"}}},
            "authenticators.corp.ca_file: /nowhere.pem cannot be read: No such file",
        ),
        (
            {"authenticators": {"corp": {**HMAC, "secret": "s" * 47}}},
            "authenticators.corp.secret: it has fewer than 48 bytes",
        ),
        (
            {"authenticators": {"corp": {**HMAC, "algorithms": ["HS384", "ES256"], "secret": "s" * 48}}},
            "authenticators.corp.algorithms: a secret is for HS256, HS384 and HS512 alone",
        ),
        (
            {"authenticators": {"app": {**AUTHING, "over": "nobody"}}},
            "authenticators.app.over: 'nobody' is not enabled",
        ),
        (
            {"authenticators": {"a": AUTHING, "b": {**AUTHING, "over": "a"}}},
            "authenticators.b.over: 'a' is over another itself",
        ),
        (
            {"authenticators": {"app": {**UPSTREAM, "pass_cookies": ["__Host-sidecar"]}}},
            "authenticators.app.pass_cookies: __Host-sidecar is the cookie of our own session",
        ),
        ({"authenticators": {"sesion": {"enabled": False}}}, "authenticators.sesion.type: it is one of"),
        ({"authenticators": {"basic": {"cash": "1m"}}}, "authenticators.basic.cash: there is no such key"),
        (
            {"authenticators": {"basic": True}},
            "authenticators.basic: it is a table: set enabled = true in it",
        ),
        ({"checks": {"virola": False}}, "checks.virola: it is a table: set enabled = false in it"),
        ({"checks": {"virola": 0}}, "checks.virola: Input should be a valid dictionary"),
        ({"limits": {"ban": False}}, "limits.ban: Input should be a valid dictionary"),
        ({"rules": [{"credentials": ["basic"]}]}, "rules[0].credentials: none of its authenticators takes"),
        (
            {"rules": [{"authenticators": ["session"], "credentials": ["api_key"]}]},
            "rules[0].credentials: none of its authenticators takes these; they take: bearer, cookie",
        ),
    ],
    ids=str,
)
def test_a_contradiction_is_a_fault_that_names_its_key(tables: dict[str, Any], fault: str) -> None:
    (found,) = faults(tables)
    assert found.startswith(fault)
    assert "PLANTED" not in found


@pytest.mark.parametrize(
    "rule",
    [
        {"credentials": ["bearer", "basic"]},
        {"authenticators": ["api_key"], "credentials": ["bearer"]},
        {"access": "public", "credentials": ["basic"]},
        {"authenticators": ["corp"], "credentials": ["bearer"]},
    ],
    ids=str,
)
def test_a_rule_that_reads_one_form_that_is_taken_is_none(rule: dict[str, Any]) -> None:
    assert parse({"rules": [rule], "authenticators": {"corp": JWT}}).rules


def test_the_settings_know_which_forms_the_authenticators_take() -> None:
    built = (SessionAuthenticator, ApiKeyAuthenticator, BasicAuthenticator)
    assert {each.name: each.forms for each in built} == FORMS
    assert set(Authenticators.model_fields) == set(FORMS)


def test_the_settings_know_below_which_paths_the_products_answer() -> None:
    products = (CargoExtra, Compass, Pulse, Virola, Authing)
    assert {each.name.replace("-", "_"): each.below for each in products} == PRODUCT_PATHS


@pytest.mark.parametrize(
    "login",
    [
        {"public_url": "https://a.com/authentication"},
        {"public_url": "https://a.com/api/v2"},
        {"public_url": "https://a.com/auth/validate-session"},
    ],
    ids=str,
)
def test_pages_may_be_where_no_product_answers(login: dict[str, Any]) -> None:
    others = {"pulse": {"enabled": False}, "compass": {"enabled": False}}
    assert parse({"login": login, "checks": others}).login.public_url == login["public_url"]


@pytest.mark.parametrize("name", ["cargo_extra", "cargo-extra"])
def test_a_product_is_named_with_either_dash(name: str) -> None:
    assert not parse({"checks": {name: {"enabled": False}}}).checks.cargo_extra.enabled


def test_origins_are_compared_as_browsers_write_them() -> None:
    given = ["https://App.Example.com:443/", "http://localhost:5173"]
    origins = parse({"checks": {"allowed_origins": given}}).checks.allowed_origins
    assert origins == ("https://app.example.com", "http://localhost:5173")


@pytest.mark.parametrize(
    "header",
    [
        "authorization",
        "Cookie",
        "Set-Cookie",
        "Set-Cookie2",
        "Location",
        "Content-Encoding",
        "Content-Length",
        "Keep-Alive",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "X-Auth-Reason",
    ],
)
def test_a_header_that_means_something_else_carries_no_identity(header: str) -> None:
    assert faults({"identity_headers": {header: "email"}}) == [
        f"identity_headers: {header} already has a meaning of its own"
    ]


@pytest.mark.parametrize(
    ("given", "domain"),
    [
        ("", ""),
        ("example.com", "example.com"),
        (".example.com", "example.com"),
        (".Example.COM.", "example.com"),
        ("1.example.com", "1.example.com"),
    ],
)
def test_a_cookie_domain_is_written_with_a_dot_or_without(given: str, domain: str) -> None:
    assert parse({"session": {"cookie_domain": given}}).session.cookie_domain == domain


@pytest.mark.parametrize(
    "given",
    ["*.example.com", "example.com:8443", "[::1]", "127.0.0.1", ".127.0.0.1", "a b", ".", "..example.com"],
)
def test_what_no_browser_takes_is_no_cookie_domain(given: str) -> None:
    assert faults({"session": {"cookie_domain": given}}) == [
        f'session.cookie_domain: {given!r} is no domain that browsers take: write "example.com"'
    ]


@pytest.mark.parametrize("name", ["_env_file", "_cli_parse_args", "_secrets_dir", "__pydantic_self__"])
def test_what_a_library_could_take_for_its_own_is_no_key(name: str) -> None:
    tables = {name: True, "server": {"listen": "nowhere"}}
    assert paths(tables) == ["server.listen", name]


@pytest.mark.parametrize(
    ("tables", "keys"),
    [
        ({}, []),
        ({"rules": [{"hosts": ["127.0.0.1"]}]}, []),
        ({"rules": [{"hosts": ["app.example.com"]}]}, ["rules[0].hosts[0]"]),
        ({"rules": [{"hosts": ["app.example.com"], "access": "public"}]}, []),
        ({"rules": [{"hosts": ["app.example.com"], "credentials": ["bearer"]}]}, []),
        ({"rules": [{"hosts": ["app.example.com"], "authenticators": ["api_key"]}]}, []),
        ({"login": {"allowed_redirects": ["*.example.com"]}}, ["login.allowed_redirects[0]"]),
        (
            {
                "login": {
                    "public_url": "https://sso.example.com",
                    "allowed_redirects": ["*.example.com", "a.org"],
                },
                "session": {"cookie_domain": "example.com"},
            },
            ["login.allowed_redirects[1]"],
        ),
        ({"login": {"public_url": "http://app.example.com"}}, ["login.public_url"]),
        ({"login": {"public_url": "http://app.example.com"}, "session": {"cookie_secure": False}}, []),
        ({"login": {"public_url": "http://localhost:8080"}}, []),
        ({"rules": [{"access": "public"}, {"paths": ["/x"]}]}, ["rules[0]"]),
        ({"server": {"trusted_proxies": []}}, ["server.trusted_proxies"]),
        (
            {"server": {"trusted_proxies": ["unix", "0.0.0.0/0", "::/0"]}},
            ["server.trusted_proxies[1]", "server.trusted_proxies[2]"],
        ),
        ({"server": {"trusted_proxies": ["10.0.0.0/8"]}}, []),
        ({"limits": {"exempt_networks": ["10.0.0.0/8", "::/0"]}}, ["limits.exempt_networks[1]"]),
        ({"limits": {"exempt_networks": ["0.0.0.0/0"]}}, ["limits.exempt_networks[0]"]),
        ({"authenticators": {"session": {"enabled": False}}}, ["authenticators.session.enabled"]),
        ({"login": {"url": "https://sso.example.com/login"}}, ["login.url"]),
        ({"login": {"url": "https://sso.example.com/login?rd={rd}"}}, []),
        ({"rules": [{"login_url": "https://sso.example.com/?back="}]}, ["rules[0].login_url"]),
        ({"authenticators": {"idp": JWT}}, ["rules[0].authenticators"]),
        ({"authenticators": {"idp": {**JWT, "subject_prefix": "idp:"}}}, []),
        (
            {"authenticators": {"app": AUTHING}, "rules": [{"authenticators": ["app", "session"]}]},
            ["rules[0].authenticators"],
        ),
        ({"authenticators": {"app": AUTHING}, "rules": [{"authenticators": ["app"]}]}, []),
    ],
    ids=str,
)
def test_what_misleads_is_a_warning_and_no_fault(tables: dict[str, Any], keys: list[str]) -> None:
    assert [warning.path for warning in warnings(parse(tables))] == keys


def test_who_accepts_no_session_is_told_at_which_products_people_are_refused() -> None:
    tables: dict[str, Any] = {"authenticators": {"session": {"enabled": False}}}
    off = {"enabled": False}
    (warning,) = warnings(parse({**tables, "checks": {"cargo_extra": off, "pulse": off}}))
    assert warning.message == (
        "no session is accepted: whoever signs in is refused by the next request to checks.compass, "
        "checks.virola"
    )
    without_sessions = {name: off for name in PRODUCT_PATHS if name != "authing"}
    assert not list(warnings(parse({**tables, "checks": without_sessions})))


@pytest.mark.parametrize(
    ("public_url", "origin", "is_another_site"),
    [
        ("https://app.example.com", "https://app.example.com:8443", False),
        ("https://app.example.com", "https://example.com", False),
        ("https://app.example.com", "https://front.other.example.com", False),
        ("https://app.example.co.uk", "https://app.example-two.co.uk", False),  # nobody here knows
        ("https://app.example.com", "https://app.example.org", True),
        ("https://app.example.com", "https://app.example-two.com", True),
        ("https://app.example.com", "http://localhost:5173", True),
        ("https://sso", "https://wiki", True),
        ("http://localhost:9000", "http://localhost:5173", False),
        ("http://127.0.0.1:9000", "http://127.0.0.1:5173", False),
        ("http://127.0.0.1:9000", "http://localhost:5173", True),
        ("http://127.0.0.1:9000", "http://127.1.0.1:5173", True),
        ("http://[::1]:9000", "http://[::1]:5173", False),
        ("http://[::1]:9000", "http://127.0.0.1:5173", True),
    ],
)
def test_a_front_end_on_another_site_needs_cookies_that_are_sent_there(
    public_url: str, origin: str, *, is_another_site: bool
) -> None:
    tables = {"login": {"public_url": public_url}, "checks": {"allowed_origins": [origin]}}
    found = [warning.path for warning in warnings(parse(tables))]
    assert found == (["checks.allowed_origins[0]"] if is_another_site else [])
    assert not list(warnings(parse({**tables, "session": {"cookie_same_site": "none"}})))


def test_only_names_with_two_underscores_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SIDECAR_SERVICE_HOST": "10.0.0.1",
        "SIDECAR_PORT": "tcp://10.0.0.1:9000",
        "SIDECAR_SESSION__LIFETIME": "7d",
        "SIDECAR_SESSION__COOKIE_SECURE": "false",
        "SIDECAR_SERVER__TRUSTED_PROXIES": "10.0.0.0/8, unix",
        "SIDECAR_LOGIN__ALLOWED_REDIRECTS": '["a.example.com"]',
        "SIDECAR_LIMITS__BAN__FAILURES": "9",
        "SIDECAR_AUTHENTICATORS__BASIC__ENABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    settings = parse(
        {"session": {"lifetime": "1h", "idle_timeout": "30m"}, "limits": {"ban": {"window": "9m"}}}
    )
    assert settings.session.lifetime == 7 * 86400
    assert settings.session.idle_timeout == 1800
    assert settings.session.cookie == "sidecar"
    assert settings.server.trusted_proxies == ("10.0.0.0/8", "unix")
    assert settings.login.allowed_redirects == ("a.example.com",)
    assert (settings.limits.ban.failures, settings.limits.ban.window) == (9, 540)
    assert "basic" in settings.authenticators.enabled()


def test_a_table_may_come_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_LIMITS__BAN", '{"failures": 2}')
    assert parse({}).limits.ban.failures == 2


def test_a_whole_section_may_come_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_RULES__", '[{"name": "a", "networks": ["10.0.0.0/8"]}, {"access": "deny"}]')
    monkeypatch.setenv("SIDECAR_IDENTITY_HEADERS__", '{"X-Name": "name"}')
    monkeypatch.setenv("SIDECAR_SESSION__", '{"lifetime": "7d"}')
    monkeypatch.setenv("SIDECAR_AUTHENTICATORS__BASIC__", '{"enabled": true}')
    file = {
        "rules": [{"access": "public"}],
        "identity_headers": {"X-Mail": "email"},
        "session": {"idle_timeout": "5m"},
    }
    settings = parse(file)
    assert [(rule.name, rule.access) for rule in settings.rules] == [("a", "authenticated"), ("", "deny")]
    assert settings.identity_headers == {"X-Name": "name"}
    assert (settings.session.lifetime, settings.session.idle_timeout) == (7 * 86400, 3600)
    assert "basic" in settings.authenticators.enabled()


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("SIDECAR_RULES__", "deny", "rules: it is not JSON"),
        ("SIDECAR_RULES__", "", "rules: it is not JSON"),
        ("SIDECAR_RULES__", '[{"access": "maybe"}]', "rules[0].access: Input should be"),
        ("SIDECAR_SERVER__", "{", "server: it is not JSON"),
        ("SIDECAR_SERVER__", '["127.0.0.1:1"]', "server: Input should be a valid dictionary"),
        ("SIDECAR_CHECKS__VIROLA", "false", "checks.virola: it is a table: set enabled = false in it"),
        ("SIDECAR_SESSION__", '{"lifetime": NaN}', "session.lifetime: a duration is written like"),
        ("SIDECAR_LOGIN__ALLOWED_REDIRECTS", '["a.com"', "login.allowed_redirects: it is not JSON"),
    ],
)
def test_a_section_that_cannot_be_read_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, fault: str
) -> None:
    monkeypatch.setenv(name, value)
    (found,) = faults({})
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("names", "path"),
    [
        (["SIDECAR_SERVER__LISTEN", "SIDECAR_SERVER__LISTEN__FOO"], "server.listen"),
        (["SIDECAR_SERVER__LISTEN__FOO", "SIDECAR_SERVER__LISTEN"], "server.listen"),
        (["SIDECAR_SERVER__", "SIDECAR_SERVER__LISTEN"], "server"),
        (["SIDECAR_SERVER__LISTEN", "SIDECAR_server__listen"], "server.listen"),
    ],
    ids=str,
)
def test_names_that_contradict_each_other_are_a_fault_in_any_order(
    monkeypatch: pytest.MonkeyPatch, names: list[str], path: str
) -> None:
    for name in names:
        monkeypatch.setenv(name, '{"listen": "127.0.0.1:1"}' if name.endswith("__") else "127.0.0.1:1")
    (found,) = (fault for fault in faults({"log": {"level": "loud"}}) if not fault.startswith("log.level"))
    assert found.startswith(f"{path}: ")
    assert all(name in found for name in names)


def test_a_misspelt_name_in_the_environment_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_SESION__LIFETIME", "7d")
    monkeypatch.setenv("SIDECAR_SESSION__LIVETIME", "7d")
    assert paths({}) == ["session.livetime", "sesion"]


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("sqlite:////srv/sidecar.db\n", encoding="utf-8")
    assert parse({"store": {"url_file": str(secret)}}).store.url == "sqlite:////srv/sidecar.db"
    assert paths({"store": {"url_file": str(tmp_path / "none")}}) == ["store.url"]
    assert faults({"store": {"url_file": str(secret), "url": "sqlite:///x"}}) == [
        "store: url and url_file are both set: leave one out"
    ]


def test_a_password_in_an_address_is_never_shown() -> None:
    settings = parse({}).model_copy(
        update={"store": parse({}).store.model_copy(update={"url": "x://u:PLANTED@h/d"})}
    )
    assert "PLANTED" not in effective(settings)
    assert "PLANTED" not in repr(settings)
    assert 'url = "x://u:***@h/d"' in effective(settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[server\n", "is not TOML"),
        (b"\xff", "is not UTF-8 text"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: bytes | None, message: str) -> None:
    file = tmp_path / "sidecar.toml"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(SettingsError, match=message) as caught:
        load(file)
    assert str(file) in str(caught.value)


def test_the_file_is_the_one_that_is_named_else_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIDECAR_CONFIG", raising=False)
    assert find_file(None) is None
    Path("sidecar.toml").touch()
    assert find_file(None) == Path("sidecar.toml")
    monkeypatch.setenv("SIDECAR_CONFIG", "/etc/sidecar.toml")
    assert find_file(None) == Path("/etc/sidecar.toml")
    assert find_file(Path("given.toml")) == Path("given.toml")


@pytest.mark.parametrize("text", ["500ms", "1s", "90s", "15m", "1h", "12h", "7d"])
def test_a_duration_is_written_as_it_is_read(text: str) -> None:
    assert write_duration(parse({"server": {"drain": text}}).server.drain) == text


def test_every_setting_is_described() -> None:
    described = reference()
    for section in Settings.model_fields:
        assert f"[{section}]" in described or f"[{section}." in described


def test_the_schema_knows_every_key_of_the_reference_and_the_files_of_secrets() -> None:
    schema = Settings.model_json_schema()
    sections = schema["$defs"]
    assert set(schema["properties"]) == set(Settings.model_fields)
    assert {"url", "url_file", "sessions_url_file"} <= set(sections["StoreSettings"]["properties"])
    assert sections["StoreSettings"]["additionalProperties"] is False

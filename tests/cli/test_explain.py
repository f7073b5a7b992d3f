"""`sidecar explain`: it says of a request what the running application says, and leaves no trace."""

from __future__ import annotations

import base64
import json
import re
import shlex
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import jwt
import pytest

from sidecar.app import Services
from sidecar.cli.explain import explain
from sidecar.gateways import GATEWAYS
from sidecar.model import Asked, Reason
from sidecar.reasons import MEANINGS
from tests.cli.commands import PASSWORD, Cli
from tests.clocks import ManualClock
from tests.hostile import refused_port
from tests.running import BROWSER, Answer, Line, broken, metadata, running_on

SECRET = "planted-secret"
CLIENT = "203.0.113.9"

RULES = """
[login]
allowed_redirects = ["app.example.com"]
[authenticators.basic]
enabled = true
[[rules]]
name = "assets"
paths = ["/static/**", "/*.ico"]
access = "public"
[[rules]]
name = "metrics"
hosts = ["*.example.com:8443", "metrics.example.com"]
[[rules]]
name = "office"
networks = ["10.0.0.0/8", "2001:db8::/32"]
[[rules]]
name = "writing"
methods = ["PUT", "POST"]
access = "deny"
[[rules]]
name = "admin"
paths = ["/admin/**"]
roles = ["admin", "root"]
[[rules]]
name = "both"
paths = ["/both/**"]
roles = ["dev"]
scopes = ["read"]
[[rules]]
name = "reports"
paths = ["/reports/**"]
scopes = ["read"]
[[rules]]
name = "shop"
paths = ["/shop/**"]
app = "shop"
[[rules]]
name = "tokens"
paths = ["/tokens/**"]
credentials = ["bearer"]
[[rules]]
name = "rest"
hosts = ["app.example.com"]
"""


# --- the scene -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A store with somebody in it, and what opens it."""

    cli: Cli
    cookie: str
    token: str
    key: str

    def line(self, kind: str) -> list[Line]:
        """The header lines of a credential of this kind."""
        lines = {
            "cookie": ("cookie", self.cookie),
            "token": ("authorization", f"Bearer {self.token}"),
            "key": ("x-api-key", self.key),
            "key as a bearer": ("authorization", f"Bearer {self.key}"),
            "password": ("authorization", "Basic YW5uOmNvcnJlY3QgaG9yc2UgYmF0dGVyeSBzdGFwbGU="),
            "wrong password": ("authorization", "Basic YW5uOnBsYW50ZWQtc2VjcmV0"),
            "unknown session": ("cookie", f"__Host-sidecar={SECRET}"),
            "unknown key": ("x-api-key", f"sk_{SECRET}"),
            "unknown token": ("authorization", f"Bearer {SECRET}"),
            "empty": ("authorization", "Bearer "),
        }
        return [(name.encode(), value.encode()) for name, value in [lines[kind]]] if kind else []

    def explain(self, gateway: str, uri: str, lines: list[Line], *options: str) -> Any:
        """The document, and never a secret in it or in the text for people."""
        url = f"https://app.example.com{uri}"
        given = "".join(f"{name.decode()}: {value.decode()}\n" for name, value in lines)
        args = (
            "explain",
            "--gateway",
            gateway,
            "--url",
            url,
            "--client-ip",
            CLIENT,
            "--headers-stdin",
            *options,
        )
        texts = [self.cli.ok(*args, *form, stdin=given or "\n") for form in ((), ("--json",))]
        assert [text.stderr for text in texts] == ["", ""]
        for secret in (self.cookie.partition("=")[2], self.token, self.key, SECRET):
            assert not any(secret in text.stdout for text in texts)
        return json.loads(texts[1].stdout)

    def live(
        self,
        gateway: str,
        uri: str,
        lines: list[Line],
        *,
        method: bytes = b"GET",
        host: bytes = b"app.example.com",
    ) -> Answer:
        """What the running application answers to the same."""

        async def asked(services: Services) -> Answer:
            async with running_on(services, ManualClock(), self.cli.config.parent) as running:
                client = (b"x-forwarded-for", CLIENT.encode())
                return await running.check(
                    gateway, [*lines, client], method=method, host=host, uri=uri.encode()
                )

        return self.cli.look(asked)

    def dump(self) -> list[str]:
        """All that is in the store, and the files that it has."""
        (path,) = self.cli.config.parent.glob("*.db")
        with closing(sqlite3.connect(path)) as connection:
            content = list(connection.iterdump())
        return content + sorted(each.name for each in path.parent.iterdir())


@pytest.fixture(scope="module")
def furnished() -> list[tuple[Scene, bytes]]:
    """The first scene, and its store: making it costs more than most tests do."""
    return []


@pytest.fixture
def scene(cli: Cli, furnished: list[tuple[Scene, bytes]]) -> Scene:
    """Somebody whose session and key were last used two minutes ago."""
    with cli.config.open("a", encoding="utf-8") as settings:
        settings.write(RULES)
    path = cli.config.parent / "store.db"
    if not furnished:
        made = furnish(cli, path)
        furnished.append((made, path.read_bytes()))
    first, content = furnished[0]
    path.write_bytes(content)
    return replace(first, cli=cli)


def furnish(cli: Cli, path: Path) -> Scene:
    """Makes ann, and what she signs in with."""
    cli.ok("users", "add", "ann", "--email", "ann@example.com", "--role", "dev")
    cli.ok("users", "passwd", "ann", "--password-stdin", stdin=PASSWORD)
    begun = cli.json("sessions", "create", "--user", "ann")
    key = cli.json("api-keys", "create", "--user", "ann", "--name", "ci", "--scope", "write")["key"]
    cli.ok("apps", "add", "shop")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE sessions SET last_used_at = last_used_at - 120")
        connection.commit()
    return Scene(cli, begun["cookie"], begun["token"], key)


def shown(answer: Answer) -> dict[str, Any]:
    """A live answer as it is shown: the value of a cookie is nobody's business."""
    lines = [[name.decode(), value.decode()] for name, value in answer.lines]
    masked = [
        [name, re.sub(r"^([^=]+)=[^;]*", r"\1=***", value) if name.lower() == "set-cookie" else value]
        for name, value in lines
    ]
    return {"status": answer.status, "headers": masked, "body": answer.text}


def as_sent(response: dict[str, Any]) -> dict[str, Any]:
    """What is shown, with the names of headers as the server writes them."""
    return {**response, "headers": [[name.lower(), value] for name, value in response["headers"]]}


# --- the same as live ----------------------------------------------------------------------------

DECISIONS = {
    "a session that is used again": ("cookie", "/", Reason.AUTHENTICATED),
    "a token": ("token", "/", Reason.AUTHENTICATED),
    "an API key": ("key", "/", Reason.AUTHENTICATED),
    "an API key as a bearer": ("key as a bearer", "/?q=1", Reason.AUTHENTICATED),
    "a password": ("password", "/", Reason.AUTHENTICATED),
    "a first use in an app": ("cookie", "/shop/", Reason.AUTHENTICATED),
    "a public page, signed in": ("cookie", "/static/a.css", Reason.AUTHENTICATED),
    "a public page": ("", "/static/a.css", Reason.PUBLIC),
    "a public page, with a bad session": ("unknown session", "/static/a.css", Reason.PUBLIC),
    "nothing": ("", "/x?y=1", Reason.NO_CREDENTIAL),
    "a form that the rule does not read": ("cookie", "/tokens/", Reason.NO_CREDENTIAL),
    "an empty token": ("empty", "/", Reason.MALFORMED_CREDENTIAL),
    "an unknown session": ("unknown session", "/", Reason.UNKNOWN_SESSION),
    "an unknown key": ("unknown key", "/", Reason.UNKNOWN_KEY),
    "an unknown token": ("unknown token", "/", Reason.UNKNOWN_CREDENTIAL),
    "a wrong password": ("wrong password", "/", Reason.WRONG_PASSWORD),
    "a role that is missing": ("cookie", "/admin/users", Reason.MISSING_ROLE),
    "a scope that is missing": ("key", "/reports/", Reason.MISSING_SCOPE),
    "an ambiguous path": ("cookie", "/a;b", Reason.AMBIGUOUS_PATH),
    "an encoded slash": ("cookie", "/a%2Fb", Reason.AMBIGUOUS_PATH),
}


CHALLENGED = [DECISIONS["nothing"], DECISIONS["an unknown session"], DECISIONS["an empty token"]]
"""Only of these does it matter whether a browser asks."""

EVERYWHERE = (
    "a session that is used again",
    "a public page",
    "nothing",
    "a role that is missing",
    "an ambiguous path",
)
"""One of each kind of answer: what the gateways write differently."""


@pytest.mark.parametrize(
    ("gateway", "kind", "uri", "reason", "as_browser"),
    [
        pytest.param(gateway, *decision, as_browser, id=f"{name}-{gateway}-{asker}")
        for name, decision in DECISIONS.items()
        for gateway in (GATEWAYS if name in EVERYWHERE else ("nginx",))
        for asker, as_browser in (("a program", False), ("a browser", True))
        if asker == "a program" or decision in CHALLENGED
    ],
)
def test_it_answers_as_the_running_application_and_changes_nothing(
    scene: Scene, gateway: str, kind: str, uri: str, reason: Reason, as_browser: bool
) -> None:
    lines = [*scene.line(kind), *(BROWSER if as_browser else ())]
    before = scene.dump()
    explained = scene.explain(gateway, uri, lines)

    assert scene.dump() == before
    assert explained["reason"] == reason
    assert (explained["step"], explained["meaning"]) == MEANINGS[reason]
    assert as_sent(explained["response"]) == shown(scene.live(gateway, uri, lines))


METHODS = {"a denied method": ("POST", 403, Reason.RULE_DENIES), "no method": ("get", 400, Reason.BAD_METHOD)}


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize(("method", "status", "reason"), METHODS.values(), ids=METHODS)
def test_the_method_counts(scene: Scene, gateway: str, method: str, status: int, reason: Reason) -> None:
    explained = scene.explain(gateway, "/", scene.line("cookie"), "--method", method)

    assert explained["reason"] == reason
    assert explained["response"]["status"] == (403 if gateway == "nginx" else status)
    live = scene.live(gateway, "/", scene.line("cookie"), method=method.encode())
    # Envoy's method is the request's own: what is none does not come as far as a check.
    assert live.is_no_http or as_sent(explained["response"]) == shown(live)


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_a_gateway_asks_as_the_harness_does(gateway: str) -> None:
    question = GATEWAYS[gateway].question(Asked(b"PUT", b"wss", b"a.example.com", b"/x?y"))
    asked = metadata(gateway, method=b"PUT", scheme=b"wss", host=b"a.example.com", uri=b"/x?y")

    assert list(question.lines) == asked
    in_target = (b"/x?y", b"PUT", b"a.example.com") if gateway == "envoy" else (b"", b"GET", b"sidecar")
    assert (question.target, question.method, question.host) == (
        f"/check/{gateway}".encode() + in_target[0],
        *in_target[1:],
    )


@pytest.mark.parametrize(("kind", "is_due"), [("cookie", True), ("token", True), ("password", False)])
def test_what_a_live_check_would_write_is_said(scene: Scene, kind: str, is_due: bool) -> None:
    given = scene.line(kind)[0]
    args = ("explain", "--gateway", "nginx", "--url", "https://app.example.com/", "--header")
    text = scene.cli.ok(*args, f"{given[0].decode()}: {given[1].decode()}").stdout

    assert ("A live check also notes this use" in text) is is_due
    assert scene.explain("nginx", "/", [given])["use_is_due"] is is_due


# --- what is told --------------------------------------------------------------------------------

PASSED_OVER = {
    "paths": ("assets", "paths", ["/static/**", "/*.ico"], "/x"),
    "hosts": ("metrics", "hosts", ["*.example.com:8443", "metrics.example.com"], "app.example.com:443"),
    "networks": ("office", "networks", ["10.0.0.0/8", "2001:db8::/32"], CLIENT),
    "methods": ("writing", "methods", ["POST", "PUT"], "GET"),
}


@pytest.mark.parametrize(("rule", "selector", "configured", "actual"), PASSED_OVER.values(), ids=PASSED_OVER)
def test_rules_are_passed_over_for_a_reason(
    scene: Scene, rule: str, selector: str, configured: list[str], actual: str
) -> None:
    explained = scene.explain("traefik", "/x", [])
    text = scene.cli.ok(
        "explain", "--gateway", "traefik", "--url", "https://app.example.com/x", "--client-ip", CLIENT
    ).stdout
    why = {"rule": rule, "selector": selector, "configured": configured, "actual": actual}

    assert why in explained["passed_over"]
    assert f"{rule} is passed over: {selector} {', '.join(configured)}, not {actual}\n" in text
    assert explained["rule"] == "rest"


def test_no_rule_is_one_after_the_other_passed_over(scene: Scene) -> None:
    args = ("explain", "--gateway", "caddy", "--url", "https://other.example.org/")
    explained = scene.cli.json(*args)

    assert (explained["rule"], explained["reason"], explained["step"]) == (None, "no_rule", "rule")
    assert len(explained["passed_over"]) == RULES.count("[[rules]]")
    assert "\n>             no rule selects it\n" in scene.cli.ok(*args).stdout


def test_who_was_asked_and_what_they_said(scene: Scene) -> None:
    mine = scene.explain("nginx", "/admin/", scene.line("cookie"))
    not_mine = scene.explain("nginx", "/", scene.line("unknown token"))
    bad = scene.explain("nginx", "/", scene.line("unknown key"))

    (session,) = mine["authenticators"]
    assert (session["name"], session["answer"], session["username"]) == ("session", "mine", "ann")
    assert mine["demands"] == [{"kind": "roles", "wanted": ["admin", "root"], "has": ["dev"]}]
    assert [(each["name"], each["answer"]) for each in not_mine["authenticators"]] == [
        ("session", "not mine"),
        ("api_key", "not mine"),
    ]
    assert [(each["answer"], each["reason"]) for each in bad["authenticators"]] == [
        ("mine but bad", "unknown_key")
    ]
    assert [each["credential"] for each in (mine, not_mine, bad)] == ["cookie", "bearer", "api_key"]
    assert mine["reads"] == ["cookie __Host-sidecar", "bearer", "basic", "api_key"]


def marked(scene: Scene, kind: str, uri: str, *options: str) -> list[str]:
    """The lines that decide."""
    lines = [f"--header={name.decode()}: {value.decode()}" for name, value in scene.line(kind)]
    url = f"https://app.example.com{uri}"
    text = scene.cli.ok("explain", "--gateway", "caddy", "--url", url, *lines, *options).stdout
    return [line for line in text.splitlines() if line.startswith(">")]


DECIDING = {
    "a demand": ("cookie", "/admin/", (), "> demands     any of the roles admin, root; has dev"),
    "the demand that is not met": ("key", "/both/", (), ">             all of the scopes read; has write"),
    "a rule that denies": ("", "/", ("--method", "POST"), ">             writing selects it: deny"),
    "a bad credential": ("unknown key", "/", (), "> identity    api_key: mine but bad (unknown_key)"),
    "nobody": ("unknown token", "/", (), ">             nobody knows it"),
    "a separator": ("", "/a%3Bb?q=planted", (), ">             cannot be read: %3B is in the path"),
    "a path that climbs": ("", "/../a", (), ">             cannot be read: .. leads above the root"),
    "an encoded slash": (
        "",
        "/a%2Fb",
        (),
        ">             cannot be read: %2F is in the path, and allow_encoded_slash of rest is off",
    ),
}


@pytest.mark.parametrize(("kind", "uri", "options", "line"), DECIDING.values(), ids=DECIDING)
def test_the_line_that_decides_stands_out(
    scene: Scene, kind: str, uri: str, options: tuple[str, ...], line: str
) -> None:
    assert marked(scene, kind, uri, *options) == [line]


def test_the_outage_that_decides_stands_out(scene: Scene) -> None:
    with refused_port() as port:
        ask(scene, port)
        told = marked(scene, "unknown token", "/")

    assert told == [">             tokens: outage (no connection)"]


def test_no_rule_is_passed_over_for_a_path_that_two_programs_read_differently(scene: Scene) -> None:
    explained = scene.explain("nginx", "/a%2Fb", [])

    assert (explained["rule"], explained["passed_over"], explained["reads"]) == (None, [], [])


def test_a_decoded_path_moves_no_cursor(scene: Scene) -> None:
    text = scene.cli.ok("explain", "--gateway", "nginx", "--url", "https://app.example.com/%1b[2J").stdout

    assert "\x1b" not in text
    assert r"path /\x1b[2J" in text


def test_a_fault_of_our_own_is_told_as_one(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.pipeline.presented", broken)
    args = ("explain", "--gateway", "nginx", "--url", "https://app.example.com/", "--json")
    result = scene.cli.ok(*args)

    assert json.loads(result.stdout)["reason"] == "internal_error"
    assert "check_failed" in result.stderr


# --- other systems -------------------------------------------------------------------------------


class Upstream(BaseHTTPRequestHandler):
    """Knows whoever comes, and sets a cookie."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = json.dumps({"sub": "u7", "preferred_username": "uma"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", f"their={SECRET}; Path=/")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@contextmanager
def upstream() -> Iterator[int]:
    """Listens in a thread of its own: the command has an event loop of its own."""
    with HTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def ask(scene: Scene, port: int) -> None:
    """From now on another application says whose cookie `their` is."""
    with scene.cli.config.open("a", encoding="utf-8") as settings:
        settings.write(f"""
[authenticators.theirs]
type = "upstream"
dialect = "generic"
url = "http://127.0.0.1:{port}/me"
forward_cookies = ["their"]
pass_cookies = ["their"]
[authenticators.tokens]
type = "introspection"
url = "http://127.0.0.1:{port}/introspect"
client_id = "me"
client_secret = "{SECRET}"
""")


def test_another_system_is_really_asked(scene: Scene) -> None:
    with upstream() as port:
        ask(scene, port)
        Upstream.asked.clear()
        explained = scene.explain("nginx", "/", [(b"cookie", f"their={SECRET}".encode())])
        live = scene.live("nginx", "/", [(b"cookie", f"their={SECRET}".encode())])

    assert Upstream.asked == ["/me"] * 3
    assert (explained["reason"], explained["authenticators"][-1]["username"]) == ("authenticated", "uma")
    assert ["Set-Cookie", "their=***; Path=/"] in explained["response"]["headers"]
    assert as_sent(explained["response"]) == shown(live)


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize(
    ("line", "who"),
    [((b"cookie", b"their=x"), "theirs"), ((b"authorization", b"Bearer x"), "tokens")],
    ids=["a cookie", "a token"],
)
def test_an_outage_is_told_as_one(scene: Scene, gateway: str, line: Line, who: str) -> None:
    with refused_port() as port:
        ask(scene, port)
        explained = scene.explain(gateway, "/", [line])
        live = scene.live(gateway, "/", [line])

    answer = explained["authenticators"][-1]
    assert (explained["decision"], explained["reason"]) == ("unavailable", "upstream_unavailable")
    assert (answer["name"], answer["answer"], explained["response"]["status"]) == (who, "outage", 503)
    assert answer["why"] == "no connection"
    assert as_sent(explained["response"]) == shown(live)


def test_why_a_token_is_refused_is_told(scene: Scene) -> None:
    with scene.cli.config.open("a", encoding="utf-8") as settings:
        settings.write(f"""
[authenticators.idp]
type = "jwt"
issuer = "https://idp.example.com"
audience = ["us"]
algorithms = ["HS256"]
secret = "{SECRET * 3}"
""")
    token = jwt.encode({"iss": "https://idp.example.com", "aud": "them", "exp": 2**33}, SECRET * 3)
    explained = scene.explain("nginx", "/", [(b"authorization", f"Bearer {token}".encode())])

    assert explained["authenticators"][0] == {
        "name": "idp",
        "answer": "mine but bad",
        "reason": "invalid_token",
        "subject": None,
        "username": None,
        "why": "it is not for us: its aud is another",
    }


def test_why_an_issuers_keys_are_not_there_is_told(scene: Scene) -> None:
    token = jwt.encode({"iss": "https://idp.example.com", "aud": "us", "sub": "u", "exp": 2**33}, SECRET * 3)
    with refused_port() as port:
        with scene.cli.config.open("a", encoding="utf-8") as settings:
            settings.write(f"""
[authenticators.idp]
type = "jwt"
issuer = "https://idp.example.com"
audience = ["us"]
algorithms = ["ES256", "RS256"]
jwks_url = "http://127.0.0.1:{port}/keys"
""")
        header = {"alg": "ES256", "kid": "1"}
        parts = [
            base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode(),
            *token.split(".")[1:],
        ]
        explained = scene.explain("nginx", "/", [(b"authorization", f"Bearer {'.'.join(parts)}".encode())])

    assert explained["authenticators"][0]["why"] == "its keys could not be fetched; no connection"


# --- who asks, and for whom ----------------------------------------------------------------------

PEERS = {
    "the first one that may": ('["10.7.0.0/16", "unix"]', [], "10.7.0.0", None),
    "a socket": ('["unix", "10.7.0.0/16"]', [], "unix", None),
    "an IPv6 network": ('["2001:db8::/64"]', [], "2001:db8::", None),
    "nobody may": ("[]", [], "127.0.0.1", "untrusted_proxy"),
    "one who may not": ('["10.7.0.0/16"]', ["--peer", "10.8.0.1"], "10.8.0.1", "untrusted_proxy"),
}


@pytest.mark.parametrize(("trusted", "options", "peer", "refused"), PEERS.values(), ids=PEERS)
def test_the_peer_is_one_who_may_ask(
    scene: Scene, trusted: str, options: list[str], peer: str, refused: str | None
) -> None:
    with scene.cli.config.open("a", encoding="utf-8") as settings:
        settings.write(f"[server]\ntrusted_proxies = {trusted}\n")
    explained = scene.explain("nginx", "/", scene.line("cookie"), *options)

    assert (explained["peer"], explained["reason"]) == (peer, refused or "authenticated")
    assert bool(explained["request"]) is not bool(refused)


@pytest.mark.parametrize("hops", [1, 3])
@pytest.mark.parametrize(
    "forged",
    [[], [(b"x-forwarded-for", b"10.1.1.1, 10.2.2.2")]],
    ids=["nothing else there", "forged entries"],
)
def test_the_client_stands_where_the_hops_read_it(scene: Scene, hops: int, forged: list[Line]) -> None:
    with scene.cli.config.open("a", encoding="utf-8") as settings:
        settings.write(f"[server]\nclient_ip_hops = {hops}\n")
    explained = scene.explain("caddy", "/", forged)

    assert explained["request"]["client"] == CLIENT


def test_what_the_proxy_says_replaces_what_the_client_says(scene: Scene) -> None:
    forged = [(b"x-forwarded-uri", b"/static/x"), (b"x-forwarded-method", b"POST"), (b"host", b"evil")]

    assert scene.explain("traefik", "/x", forged)["request"]["url"] == "https://app.example.com/x"


# --- use, and misuse -----------------------------------------------------------------------------

BAD_URLS = {
    "no path": ("https://app.example.com?x", "bad_url"),
    "no host": ("https:///x", "bad_host"),
    "another scheme": ("ftp://app.example.com/", "bad_scheme"),
    "a user": (f"https://ann:{SECRET}@app.example.com/", "bad_host"),
    "a fragment": ("https://app.example.com/#x", "ambiguous_path"),
    "no ASCII": ("https://app.example.com/ä", "ambiguous_path"),
}


@pytest.mark.parametrize(("url", "reason"), BAD_URLS.values(), ids=BAD_URLS)
def test_a_bad_url_is_passed_on_as_it_is(scene: Scene, url: str, reason: str) -> None:
    args = ("explain", "--gateway", "nginx", "--url", url)
    explained = scene.cli.json(*args)

    assert (explained["reason"], explained["request"], explained["step"]) == (reason, None, "request")
    assert explained["why"]
    assert SECRET not in scene.cli.ok(*args).output + json.dumps(explained)


MISUSES = {
    "an unknown gateway": (["--gateway", "apache"], "there are " + ", ".join(GATEWAYS)),
    "a URL without a scheme": (["--url", "/x"], "https://host/path"),
    "a method with a line's end": (["--method", "GET\r\n"], "control characters"),
    "a token with a line's end": (["--bearer", f"{SECRET}\nx"], "control characters"),
    "an empty token": (["--bearer", ""], "empty"),
    "a peer that is none": (["--peer", "proxy"], "no address"),
    "a cookie without its name": (["--cookie", SECRET], "NAME=VALUE"),
    "a header without a colon": (["--header", SECRET], "Name: value"),
    "a header with a bad name": (["--header", f"a b: {SECRET}"], "Name: value"),
}


@pytest.mark.parametrize(("args", "said"), MISUSES.values(), ids=MISUSES)
def test_misuse_is_told_and_no_secret_with_it(scene: Scene, args: list[str], said: str) -> None:
    told = scene.cli.misused("explain", "--gateway", "nginx", "--url", "https://x/", *args)

    assert said in told
    assert SECRET not in told


def test_a_bad_line_on_standard_input_is_misuse(scene: Scene) -> None:
    result = scene.cli.run(
        "explain", "--gateway", "nginx", "--url", "https://x/", "--headers-stdin", stdin=f"{SECRET}\n"
    )

    assert (result.exit_code, result.stdout) == (2, "")
    assert SECRET not in result.stderr


def test_the_fields_of_the_document(scene: Scene) -> None:
    explained = scene.explain("nginx", "/", scene.line("cookie"))

    assert list(explained) == [
        "gateway",
        "peer",
        "request",
        "passed_over",
        "rule",
        "reads",
        "credential",
        "authenticators",
        "demands",
        "decision",
        "reason",
        "step",
        "meaning",
        "why",
        "use_is_due",
        "response",
    ]


def test_every_reason_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Reason)


def test_a_key_of_no_use_is_told_with_its_authenticator(scene: Scene) -> None:
    with scene.cli.config.open("a", encoding="utf-8") as settings:
        settings.write("""
[authenticators.idp]
type = "jwt"
issuer = "https://idp.example.com"
audience = ["us"]
algorithms = ["RS256"]
public_key_file = "/dev/null"
""")
    args = ("explain", "--gateway", "nginx", "--url", "https://x/")

    assert "authenticators.idp.public_key_file" in scene.cli.refused(*args)


# --- a store that is only read -------------------------------------------------------------------


def test_a_store_of_an_older_release_is_not_upgraded(cli: Cli) -> None:
    path = cli.config.parent / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1")

    assert "it is upgraded when the sidecar starts" in cli.refused(
        "explain", "--gateway", "nginx", "--url", "https://x/"
    )
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


# --- as documented -------------------------------------------------------------------------------

SECTION = (
    (Path(__file__).parents[2] / "docs/decisions.md").read_text(encoding="utf-8").partition("## Why was")[2]
)


def test_it_prints_what_the_documentation_shows(cli: Cli) -> None:
    settings, command, printed = re.findall(r"^```\w*\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
    with cli.config.open("a", encoding="utf-8") as file:
        file.write(settings)
    cli.ok("users", "add", "ann", "--role", "staff")
    cookie = cli.json("sessions", "create", "--user", "ann")["cookie"]
    _, *args = shlex.split(command.replace("$COOKIE", cookie))

    assert cli.ok(*args).stdout == printed


def test_the_documentation_names_every_option_and_every_field(scene: Scene) -> None:
    explained = scene.explain("nginx", "/", scene.line("cookie"))
    options = {name for each in explain.params for name in each.opts} - {"--config", "--json"}

    prose = re.sub(r"^```.*?^```$", "", SECTION, flags=re.MULTILINE | re.DOTALL)

    assert {f"`{name}`" for name in (*explained, *options)} <= set(re.findall(r"`[^`]+`", prose))


def test_an_assertion_is_a_credential(scene: Scene) -> None:
    with scene.cli.config.open("a", encoding="utf-8") as settings:
        settings.write("[identity_assertion]\nenabled = true\n")
    explained = scene.explain("nginx", "/", scene.line("cookie"))
    assert ["X-Auth-Assertion", "***"] in explained["response"]["headers"]
    assert scene.live("nginx", "/", scene.line("cookie")).one("X-Auth-Assertion").count(".") == 2

"""E. Cookies and keys: the one that is presented decides, byte for byte."""

from __future__ import annotations

import base64

import pytest

from tests.conftest import Start
from tests.running import BROWSER, GATEWAYS, Line, Running

SID = b"__Host-sidecar"


def basic(text: str) -> Line:
    return (b"authorization", b"Basic " + base64.b64encode(text.encode()))


@pytest.mark.parametrize(
    ("template", "status"),
    [
        pytest.param([b"SID=GOOD"], 200, id="the session alone"),
        pytest.param([b"SID=garbage"], 401, id="e52 a garbage session"),
        pytest.param([b"SID=" + b"A" * 43], 401, id="e52 a session that nobody has"),
        pytest.param([b"SID="], 401, id="an empty session"),
        pytest.param([b""], 401, id="an empty line"),
        pytest.param([b'bad[]={"a":1}; SID=GOOD'], 200, id="e53 a cookie that no library parses"),
        pytest.param([b"a=\xc3\xa9; SID=GOOD"], 200, id="e53 a cookie that is not ASCII"),
        pytest.param([b"novalue; =noname; SID=GOOD"], 200, id="cookies without a name or a value"),
        pytest.param([b"SID=GOOD; SID=EVIL"], 401, id="e54 twice with different values"),
        pytest.param([b"SID=GOOD; SID=GOOD"], 200, id="e54 twice with the same value"),
        pytest.param([b'SID="GO\\117D"'], 401, id="e55 a quoted value is literal"),
        pytest.param([b'SID="GOOD"'], 401, id="e55 quotes are part of the value"),
        pytest.param([b'a="x; SID=EVIL"; SID=GOOD'], 401, id="e56 a session inside a quoted value"),
        pytest.param([b"a=1", b"SID=GOOD"], 200, id="e57 two lines are one list"),
        pytest.param([b"SID=GOOD", b"SID=EVIL"], 401, id="e57 two lines that differ"),
        pytest.param([b"sidecar=GOOD"], 401, id="e58 the name without its prefix"),
        pytest.param([b"__host-sidecar=GOOD"], 401, id="the name in another case"),
        pytest.param([b"x__Host-sidecar=GOOD"], 401, id="a name that ends like it"),
        pytest.param([b" SID=GOOD ;a=b"], 200, id="spaces around it"),
        pytest.param([b"SID=GOOD,x"], 401, id="a comma is part of the value"),
        pytest.param([b"a=" + b"x" * 65_000 + b"; SID=GOOD"], 200, id="e59 beside a long cookie"),
        pytest.param([b"SID=" + b"x" * 65_000], 401, id="e59 a long session"),
        pytest.param([b"a=" + b"x" * 65_536 + b"; SID=GOOD"], 431, id="e59 a head over the limit"),
        pytest.param([b"; " * 20_000 + b"SID=GOOD"], 200, id="e59 behind many separators"),
    ],
)
async def test_e52_to_e59_the_session_cookie_is_read_literally(
    sidecar: Running, template: list[bytes], status: int
) -> None:
    alice = await sidecar.add_user()
    good = (await sidecar.session(alice))[1].partition(b"=")[2]
    lines = [(b"cookie", line.replace(b"SID", SID).replace(b"GOOD", good)) for line in template]
    assert (await sidecar.check("nginx", lines)).status == status


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param((b"authorization", b"Bearer junk"), "unknown_credential", id="e60 a bad bearer"),
        pytest.param((b"authorization", b"Bearer sk_junk"), "unknown_key", id="an unknown key as bearer"),
        pytest.param((b"x-api-key", b"sk_junk"), "unknown_key", id="an unknown key"),
        pytest.param((b"x-api-key", b"junk"), "unknown_key", id="a key of another kind"),
        pytest.param((b"x-api-key", b""), "malformed_credential", id="an empty key"),
        pytest.param((b"authorization", b"Bearer"), "malformed_credential", id="no token"),
        pytest.param((b"authorization", b"Bearer a b"), "malformed_credential", id="f81 two tokens"),
        pytest.param((b"authorization", b"Bearer\tjunk"), "unknown_credential", id="a tab for a space"),
    ],
)
async def test_e60_a_bad_credential_is_refused_and_not_skipped_for_a_good_one(
    sidecar: Running, line: Line, reason: str
) -> None:
    alice = await sidecar.add_user()
    answer = await sidecar.check("nginx", [line, await sidecar.session(alice)])
    assert (answer.status, answer.reason) == (401, reason)


async def test_f81_two_authorization_lines_are_refused(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    line = (b"authorization", b"Bearer " + await sidecar.token(alice))
    assert (await sidecar.check("nginx", [line])).status == 200
    assert (await sidecar.check("nginx", [line, line])).reason == "malformed_credential"


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_e61_a_truncated_token_is_refused(sidecar: Running, gateway: str) -> None:
    alice = await sidecar.add_user()
    token = await sidecar.token(alice)
    for cut in (token[:-1], token[:-10], token.rpartition(b".")[0], token[1:], token + b"=", token + b"A"):
        answer = await sidecar.check(gateway, [(b"authorization", b"Bearer " + cut)])
        assert answer.status == 401, cut
        assert answer.reason in {"invalid_token", "unknown_credential"}, cut


@pytest.mark.parametrize(
    "token", [b"%", b"_", b"*", b"a:b", b"' OR 1=1 --", b"sk_%", b"sk_' OR 1=1", b"../x", b"\xff"]
)
async def test_e62_a_token_is_never_a_pattern_or_a_query(sidecar: Running, token: bytes) -> None:
    alice = await sidecar.add_user()
    await sidecar.session(alice)
    await sidecar.api_key(alice)
    for line in (
        (b"authorization", b"Bearer " + token),
        (b"x-api-key", token),
        (b"cookie", SID + b"=" + token),
    ):
        assert (await sidecar.check("nginx", [line])).status == 401


async def test_e62_one_value_in_two_forms_is_two_credentials(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    cookie = await sidecar.session(alice)
    secret = cookie[1].partition(b"=")[2]
    assert (await sidecar.check("nginx", [cookie])).status == 200
    assert (await sidecar.check("nginx", [(b"authorization", b"Bearer " + secret)])).status == 401
    assert (await sidecar.check("nginx", [(b"x-api-key", secret)])).status == 401


async def test_e63_every_sign_in_has_a_new_session_and_ends_the_one_before(sidecar: Running) -> None:
    await sidecar.add_user(password="correct horse")
    first = (await sidecar.sign_in("alice", "correct horse")).cookies()[SID.decode()]
    chosen = (b"cookie", SID + b"=" + first.encode())
    cookie, csrf = await sidecar.form(headers=[chosen])
    again = await sidecar.post("/login", [cookie], username="alice", password="correct horse", csrf=csrf)
    second = again.cookies()[SID.decode()]
    assert first != second
    assert (await sidecar.check("nginx", [chosen])).status == 401
    assert (await sidecar.check("nginx", [(b"cookie", SID + b"=" + second.encode())])).status == 200


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (basic("alice:correct horse"), 200),
        (basic("ALICE:correct horse"), 200),
        (basic("alice:wrong"), 401),
        (basic("nobody:correct horse"), 401),
        (basic("alice:"), 401),
        (basic(":correct horse"), 401),
        (basic(":"), 401),
        (basic("alice"), 401),
        ((b"authorization", b"Basic"), 401),
        ((b"authorization", b"Basic !!!"), 401),
        ((b"authorization", b"Basic /w=="), 401),
    ],
    ids=str,
)
async def test_f81_basic_takes_a_name_and_a_password_and_nothing_less(
    start: Start, line: Line, status: int
) -> None:
    async with start({"authenticators": {"basic": {"enabled": True}}}) as sidecar:
        await sidecar.add_user(password="correct horse")
        answer = await sidecar.check("nginx", [line])
        assert answer.status == status
        assert (
            status == 200 or answer.one("WWW-Authenticate") == 'Bearer realm="sidecar", Basic realm="sidecar"'
        )


async def test_an_applications_own_basic_is_none_of_our_business(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    assert (await sidecar.check("nginx", [basic("x:y"), await sidecar.session(alice)])).status == 200
    assert (await sidecar.check("nginx", [basic("x:y")])).reason == "no_credential"


async def test_a_rule_takes_the_forms_that_it_names(start: Start) -> None:
    rules = [{"paths": ["/api/**"], "credentials": ["bearer", "api_key"]}, {"authenticators": ["session"]}]
    async with start({"rules": rules}) as sidecar:
        alice = await sidecar.add_user()
        cookie, key = await sidecar.session(alice), (b"x-api-key", await sidecar.api_key(alice))
        bearer = (b"authorization", b"Bearer " + await sidecar.token(alice))
        answers = [
            [(await sidecar.check("nginx", [line], uri=uri)).status for line in (cookie, key, bearer)]
            for uri in (b"/api/x", b"/page")
        ]
        assert answers == [[401, 200, 200], [200, 401, 200]]


async def test_a_form_that_is_taken_but_that_nobody_claims_is_refused(start: Start) -> None:
    async with start({"rules": [{"authenticators": ["api_key"]}]}) as sidecar:
        alice = await sidecar.add_user()
        bearer = (b"authorization", b"Bearer " + await sidecar.token(alice))
        answer = await sidecar.check("nginx", [bearer, (b"x-api-key", await sidecar.api_key(alice))])
        assert (answer.status, answer.reason) == (401, "unknown_credential")


async def test_a_browser_is_not_sent_to_a_sign_in_that_would_not_help(start: Start) -> None:
    rules = {"rules": [{"authenticators": ["basic"]}], "authenticators": {"basic": {"enabled": True}}}
    async with start(rules) as sidecar:
        for gateway in GATEWAYS:
            answer = await sidecar.check(gateway, BROWSER)
            assert (answer.status, answer.one("WWW-Authenticate")) == (401, 'Basic realm="sidecar"')


async def test_scopes_are_those_of_the_key_and_every_one_is_demanded(start: Start) -> None:
    async with start({"rules": [{"scopes": ["read", "write"]}]}) as sidecar:
        alice = await sidecar.add_user()
        full = (b"x-api-key", await sidecar.api_key(alice, scopes=("write", "read", "more")))
        half = (b"authorization", b"Bearer " + await sidecar.api_key(alice, scopes=("read",)))
        assert (await sidecar.check("nginx", [full])).status == 200
        assert (await sidecar.check("nginx", [half])).reason == "missing_scope"
        assert (await sidecar.check("nginx", [await sidecar.session(alice)])).reason == "missing_scope"

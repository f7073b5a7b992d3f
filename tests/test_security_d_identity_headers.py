"""D. Identity headers: all of them, once, true or empty; none on a refusal."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import SettingsError
from sidecar.identity_headers import LIMIT, IdentityHeaders, escaped
from sidecar.model import Identity
from sidecar.records import Account
from tests.conftest import Start
from tests.issuer import AUDIENCE, ISSUER, SECRET, claims, token
from tests.running import GATEWAYS, Answer, Running, bearer

ISSUED = {"type": "jwt", "issuer": ISSUER, "audience": AUDIENCE, "algorithms": "HS256", "secret": SECRET}
NAMES = ("User", "User-Id", "Email", "Name", "Roles", "Permissions", "Account", "Method")


def identity_of(answer: Answer) -> dict[str, list[str]]:
    return {name: answer.all(f"X-Auth-{name}") for name in NAMES}


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_d41_absent_fields_are_sent_once_and_empty(sidecar: Running, gateway: str) -> None:
    alice = await sidecar.add_user()
    answer = await sidecar.check(gateway, [await sidecar.session(alice)])
    assert identity_of(answer) == {
        "User": ["alice"],
        "User-Id": [str(alice.id)],
        "Email": [""],
        "Name": [""],
        "Roles": [""],
        "Permissions": [""],
        "Account": [""],
        "Method": ["session"],
    }


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_a_complete_user_fills_every_header(sidecar: Running, gateway: str) -> None:
    await sidecar.set_role("editor", "posts:write", "posts:read")
    await sidecar.set_role("viewer", "posts:read")
    accounts = (Account("a1", "One"), Account("a2", "Two", primary=True))
    alice = await sidecar.add_user(
        emails=("alice@example.com", "b@example.com"),
        roles=("viewer", "editor"),
        accounts=accounts,
        full_name="Alice Liddell",
    )
    answer = await sidecar.check(gateway, [await sidecar.session(alice)])
    assert identity_of(answer) == {
        "User": ["alice"],
        "User-Id": [str(alice.id)],
        "Email": ["alice@example.com"],
        "Name": ["Alice Liddell"],
        "Roles": ["editor,viewer"],
        "Permissions": ["posts:read,posts:write"],
        "Account": ["a2"],
        "Method": ["session"],
    }


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_d42_d48_a_public_rule_sends_every_header_true_or_empty(start: Start, gateway: str) -> None:
    async with start({"rules": [{"access": "public"}]}) as sidecar:
        spoofed = (b"x-auth-user", b"admin")
        stranger = await sidecar.check(gateway, [spoofed])
        assert stranger.status == 200
        assert set(map(tuple, identity_of(stranger).values())) == {("",)}
        alice = await sidecar.add_user()
        known = await sidecar.check(gateway, [spoofed, await sidecar.session(alice)])
        assert known.one("X-Auth-User") == "alice"
        bad = await sidecar.check(gateway, [spoofed, (b"authorization", b"Bearer junk")])
        assert (bad.status, bad.one("X-Auth-User")) == (200, "")


@pytest.mark.parametrize(
    "name",
    [
        "a\r\nX-Auth-Roles: admin",
        "nul\x00",
        "é",
        "名前",
        "100%",
        " leading",
        "trailing ",
        "tab\t",
        "a,b",
        "\x7f",
    ],
)
async def test_d43_d44_any_name_travels_in_one_header_and_can_be_read_back(
    sidecar: Running, name: str
) -> None:
    alice = await sidecar.add_user(full_name=name)
    answer = await sidecar.check("nginx", [await sidecar.session(alice)])
    assert answer.status == 200
    assert unquote(answer.one("X-Auth-Name"), errors="strict") == name
    assert answer.one("X-Auth-Name").isprintable()
    assert answer.one("X-Auth-Roles") == ""


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_d44_escaping_is_reversible_and_safe_for_a_header(text: str) -> None:
    value = escaped(text)
    assert unquote(value.decode("ascii"), errors="strict") == text
    assert not value.startswith(b" ")
    assert not value.endswith(b" ")
    assert all(0x20 <= byte <= 0x7E for byte in value)


@given(st.text(" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~azAZ09"))
def test_d44_nothing_is_escaped_that_need_not_be(text: str) -> None:
    assert escaped(f"a{text}z") == f"a{text}z".encode()


async def test_d45_a_subject_that_no_header_can_carry_is_refused(start: Start) -> None:
    async with start({"authenticators": {"idp": ISSUED}}) as sidecar:
        for subject in ("\ud800", "a\udfff", "\udc80\ud800"):
            answer = await sidecar.check("nginx", [bearer(token({"alg": "HS256"}, claims(sub=subject)))])
            assert answer.status == 401
            assert not any(identity_of(answer).values())


async def test_d46_a_comma_in_a_role_is_no_separator(sidecar: Running) -> None:
    alice = await sidecar.add_user(roles=("a,b", "c"))
    answer = await sidecar.check("nginx", [await sidecar.session(alice)])
    assert answer.one("X-Auth-Roles") == "a%2Cb,c"


async def test_d47_header_names_that_differ_in_case_alone_are_one(start: Start) -> None:
    with pytest.raises(SettingsError):
        async with start({"identity_headers": {"X-Auth-User": "username", "x-auth-user": "email"}}):
            pass
    async with start({"identity_headers": {"x-AUTH-user": "username"}}) as sidecar:
        alice = await sidecar.add_user()
        spoofed = (b"X-Auth-User", b"admin")
        answer = await sidecar.check("nginx", [spoofed, await sidecar.session(alice)])
        assert answer.all("X-Auth-User") == ["alice"]


@pytest.mark.parametrize(("spare", "fits"), [(0, True), (-1, False)], ids=["at the limit", "one byte over"])
def test_d46_the_limit_counts_whole_lines(spare: int, fits: bool) -> None:
    name = "x" * (LIMIT - len("X-N: \r\n") - spare)
    headers = IdentityHeaders({"X-N": "name"})
    if fits:
        assert headers.render(Identity("1", "session", name=name)) == ((b"X-N", name.encode()),)
    else:
        assert headers.render(Identity("1", "session", name=name)) is None


def test_d46_what_fits_no_header_is_not_kept() -> None:
    headers = IdentityHeaders({"X-R": "roles"})
    for number in range(100):
        assert headers.render(Identity("1", "session", roles=(str(number), "r" * LIMIT))) is None
    assert headers._lines.cache_info().currsize == 0


async def test_d46_an_identity_that_fits_no_header_is_refused_and_not_cut(sidecar: Running) -> None:
    fitting = await sidecar.add_user("small", roles=tuple(f"role-{n:04}" for n in range(500)))
    large = await sidecar.add_user("large", roles=tuple(f"a-much-longer-role-{n:04}" for n in range(500)))
    answer = await sidecar.check("nginx", [await sidecar.session(fitting)])
    assert answer.one("X-Auth-Roles").count(",") == 499
    refused = await sidecar.check("nginx", [await sidecar.session(large)])
    assert (refused.status, refused.reason) == (403, "identity_too_large")
    assert LIMIT == 8192


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_d49_a_refusal_has_no_identity_and_echoes_no_credential(start: Start, gateway: str) -> None:
    rules = [
        {"paths": ["/admin"], "roles": ["admin"]},
        {"paths": ["/deny"], "access": "deny"},
        {"paths": ["/"]},
    ]
    async with start({"rules": rules}) as sidecar:
        alice = await sidecar.add_user()
        good, bad = await sidecar.session(alice), (b"authorization", b"Bearer SECRET-TOKEN")
        for uri, line, status in [
            (b"/admin", good, 403),
            (b"/deny", good, 403),
            (b"/none", good, 403),
            (b"/", bad, 401),
        ]:
            answer = await sidecar.check(gateway, [line], uri=uri)
            assert answer.status == status
            assert not any(identity_of(answer).values())
            assert line[1].rpartition(b"=")[2].decode() not in f"{answer.lines}{answer.text}"


async def test_d50_an_address_with_two_at_signs_is_nobodys(sidecar: Running) -> None:
    await sidecar.add_user(emails=("a@evil.com",), password="correct horse")
    for name in ("a@evil@corp.com", "a@evil.com@corp.com"):
        assert (await sidecar.sign_in(name, "correct horse")).status == 401


@pytest.mark.parametrize("demand", ["roles", "permissions", "accounts", "scopes"])
async def test_d51_an_empty_name_is_no_demand_that_anybody_meets(start: Start, demand: str) -> None:
    with pytest.raises(SettingsError):
        async with start({"rules": [{demand: [""]}]}):
            pass
    rules = [{demand: ["admin"]}]
    async with start({"authenticators": {"idp": ISSUED}, "rules": rules}) as sidecar:
        empty = claims(roles=["", " "], permissions=[""], scope="")
        answer = await sidecar.check("nginx", [bearer(token({"alg": "HS256"}, empty))])
        assert answer.status in {401, 403}
        assert not any(identity_of(answer).values())


async def test_d51_a_user_without_roles_matches_no_list(start: Start) -> None:
    async with start({"rules": [{"roles": ["admin", "staff"]}]}) as sidecar:
        alice = await sidecar.add_user()
        assert (await sidecar.check("nginx", [await sidecar.session(alice)])).reason == "missing_role"

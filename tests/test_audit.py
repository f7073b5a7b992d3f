"""The audit: which line each event leaves at each door, and that nobody ever waits for one."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import stat
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from prometheus_client import generate_latest

from sidecar.app import pipeline_alone, services
from sidecar.audit import LONGEST_QUEUE, LONGEST_VALUE, About, Event, Result, _File
from sidecar.errors import AuditUnusable
from sidecar.gateways import GATEWAYS
from sidecar.model import CheckRequest, Headers, Reason
from sidecar.records import UserChange
from sidecar.telemetry import Metrics
from tests.auditing import audit, taken
from tests.checks.products import (
    CARGO_EXTRA_CHECK,
    PASSWORD,
    PULSE_LOGIN,
    PULSE_SESSION,
    STATUS_PATH,
    TOKEN_PATH,
    VIROLA_LOGIN,
    VIROLA_LOGOUT,
    add_alice,
)
from tests.conftest import Start
from tests.running import Line, Running, bearer, metadata

SECTION = (
    (Path(__file__).parent.parent / "docs/operations.md")
    .read_text(encoding="utf-8")
    .partition("## Audit\n")[2]
    .partition("\n## ")[0]
)
PLANTED = "PLANTED\r\n{}\x1b[31m"
ASKED: tuple[Line, ...] = ((b"x-request-id", b"req-1"), (b"x-forwarded-for", b"203.0.113.7"))
FORM: Line = (b"content-type", b"application/x-www-form-urlencoded")
SETTINGS: dict[str, Any] = {
    "authenticators": {"basic": {"enabled": True}},
    "limits": {"ban": {"failures": 3}},
}


# --- what is recorded ----------------------------------------------------------------------------

Act = Callable[[Running], Awaitable[object]]


@dataclass(frozen=True)
class Case:
    """What somebody does, where, and the fields of the lines that it leaves."""

    name: str
    act: Act
    route: str
    lines: tuple[dict[str, Any], ...]

    def __str__(self) -> str:
        return self.name


def basic(name: str, password: str) -> Line:
    return (b"authorization", b"Basic " + base64.b64encode(f"{name}:{password}".encode()))


def page(name: str, password: str) -> Act:
    return lambda sidecar: sidecar.sign_in(name, password, ASKED)


def pulse(**body: str) -> Act:
    return lambda sidecar: sidecar.post_json(PULSE_LOGIN, body, ASKED)


def check(gateway: str, *lines: Line) -> Act:
    return lambda sidecar: sidecar.check(gateway, [*ASKED, *lines])


def get(path: str, *lines: Line) -> Act:
    return lambda sidecar: sidecar.ask("GET", path, [*ASKED, *lines])


def introspect(*lines: Line) -> Act:
    return lambda sidecar: sidecar.ask("POST", "/oauth2/introspect", [FORM, *ASKED, *lines], b"token=x")


def signed_in(**more: Any) -> dict[str, Any]:
    return {"event": "sign_in", "result": "authenticated", "user_id": 1, **more}


def not_signed_in(result: str, **more: Any) -> dict[str, Any]:
    return {"event": "sign_in", "result": result, **more}


def refused(result: str, **more: Any) -> dict[str, Any]:
    return {"event": "credential_refused", "result": result, **more}


async def by_api_key(sidecar: Running) -> None:
    user = await sidecar.store.users.find(1)
    assert user is not None
    key = (await sidecar.api_key(user)).decode()
    (stored,) = await sidecar.store.api_keys.list(1)
    await pulse(apiKey=stored.id, apiSecret=key)(sidecar)


async def with_a_wrong_secret(sidecar: Running) -> None:
    key_id, _ = await sidecar.access_key()
    await sidecar.post_json(TOKEN_PATH, {"accessKeyId": key_id, "accessKeySecret": "wrong"}, ASKED)


async def with_a_revoked_key(sidecar: Running) -> None:
    _, secret = await sidecar.access_key()
    (key,) = await sidecar.store.access_keys.list()
    await sidecar.store.access_keys.revoke([key.id])
    await sidecar.post_json(TOKEN_PATH, {"accessKeyId": key.id, "accessKeySecret": secret}, ASKED)


async def disabled(sidecar: Running) -> None:
    user = await sidecar.store.users.change(1, UserChange(disabled=True), now=0.0, by="test")
    await page(user.username, PASSWORD)(sidecar)


SESSION = b"__Host-sidecar=unknown"
CASES = (
    Case("a sign-in at the page", page("alice", PASSWORD), "/login", (signed_in(),)),
    Case("a wrong password", page("alice", "x"), "/login", (not_signed_in("wrong_password", user_id=1),)),
    Case("a name that nobody has", page("bob", "x"), "/login", (not_signed_in("wrong_password"),)),
    Case("a disabled user", disabled, "/login", (not_signed_in("user_disabled", user_id=1),)),
    Case("a sign-in at Pulse", pulse(email="alice", password=PASSWORD), PULSE_LOGIN, (signed_in(),)),
    Case(
        "a wrong password at Pulse",
        pulse(email="alice", password="x"),
        PULSE_LOGIN,
        (not_signed_in("wrong_password", user_id=1),),
    ),
    Case(
        "a wrong API key at Pulse",
        pulse(apiKey="x", apiSecret="sk_x"),
        PULSE_LOGIN,
        (not_signed_in("unknown_key"),),
    ),
    Case(
        "a wrong password at Virola",
        lambda sidecar: sidecar.post_json(VIROLA_LOGIN, {"userName": "alice", "password": "x"}, ASKED),
        VIROLA_LOGIN,
        (not_signed_in("wrong_password", user_id=1),),
    ),
    Case("Basic", check("nginx", basic("alice", PASSWORD)), "/check/nginx", (signed_in(),)),
    Case(
        "a wrong password by Basic",
        check("nginx", basic("alice", "x")),
        "/check/nginx",
        (not_signed_in("wrong_password", user_id=1),),
    ),
    *(
        Case(
            f"a session that is none behind {gateway}",
            check(gateway, (b"cookie", SESSION)),
            f"/check/{gateway}",
            (refused("unknown_session", rule="signed-in"),),
        )
        for gateway in GATEWAYS
    ),
    Case(
        "a token that is none",
        check("nginx", bearer("a.b.c")),
        "/check/nginx",
        (refused("unknown_credential", rule="signed-in"),),
    ),
    Case(
        "a key that is none",
        check("caddy", (b"x-api-key", b"sk_x")),
        "/check/caddy",
        (refused("unknown_key", rule="signed-in"),),
    ),
    Case(
        "a credential twice",
        check("nginx", bearer("a"), bearer("b")),
        "/check/nginx",
        (refused("malformed_credential", rule="signed-in"),),
    ),
    Case("no credential", check("nginx"), "/check/nginx", ()),
    Case("no credential at a product", get(PULSE_SESSION), PULSE_SESSION, ()),
    Case(
        "a token that is none at a product",
        get(CARGO_EXTRA_CHECK, bearer("a.b.c")),
        CARGO_EXTRA_CHECK,
        (refused("unknown_credential"),),
    ),
    Case(
        "a malformed one at a product",
        get(PULSE_SESSION, bearer("a"), bearer("b")),
        PULSE_SESSION,
        (refused("malformed_credential"),),
    ),
    Case(
        "signing out with a session that is none",
        lambda sidecar: sidecar.post_json(VIROLA_LOGOUT, {}, [*ASKED, (b"cookie", SESSION)]),
        VIROLA_LOGOUT,
        (refused("unknown_session"),),
    ),
    Case(
        "userinfo of nobody",
        get("/userinfo", (b"cookie", SESSION)),
        "/userinfo",
        (refused("unknown_session"),),
    ),
    Case(
        "introspection by nobody",
        introspect(basic("ak_x", "x")),
        "/oauth2/introspect",
        (refused("wrong_secret"),),
    ),
    Case(
        "introspection with a bad token",
        introspect(bearer("a.b.c")),
        "/oauth2/introspect",
        (refused("invalid_token"),),
    ),
    Case(
        "introspection with two credentials",
        introspect(bearer("a"), bearer("b")),
        "/oauth2/introspect",
        (refused("malformed_credential"),),
    ),
    Case("introspection without any", introspect(), "/oauth2/introspect", ()),
    Case("a wrong access key", with_a_wrong_secret, TOKEN_PATH, (refused("wrong_secret"),)),
    Case(
        "a management token that is none",
        lambda sidecar: sidecar.post_json(STATUS_PATH, {}, [*ASKED, bearer("a.b.c")]),
        STATUS_PATH,
        (refused("invalid_token"),),
    ),
    Case(
        "a signature that is none",
        lambda sidecar: sidecar.post_json(STATUS_PATH, {}, [*ASKED, (b"authorization", b"authing x")]),
        STATUS_PATH,
        (refused("malformed_credential"),),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_it_leaves_exactly_this(start: Start, case: Case) -> None:
    async with start(SETTINGS) as sidecar:
        await add_alice(sidecar)
        sidecar.recorded()
        await case.act(sidecar)
        common = {
            "time": "2027-01-15T08:00:00.000Z",
            "client": "203.0.113.7",
            "route": case.route,
            "request_id": "req-1",
        }
        assert sidecar.recorded() == [{**common, **line} for line in case.lines]


async def test_an_api_key_and_an_access_key_are_named_where_they_are_good(start: Start) -> None:
    async with start(SETTINGS) as sidecar:
        await add_alice(sidecar)
        await by_api_key(sidecar)
        (line,) = sidecar.recorded()
        (stored,) = await sidecar.store.api_keys.list(1)
        assert (line["event"], line["result"], line["key_id"]) == ("sign_in", "authenticated", stored.id)
        key_id, secret = await sidecar.access_key()
        await sidecar.post_json(TOKEN_PATH, {"accessKeyId": key_id, "accessKeySecret": secret}, ASKED)
        (line,) = sidecar.recorded()
        assert (line["event"], line["result"], line["key_id"]) == ("sign_in", "authenticated", key_id)


async def test_a_revoked_access_key_is_named(sidecar: Running) -> None:
    await with_a_revoked_key(sidecar)
    (line,) = sidecar.recorded()
    assert (line["event"], line["result"]) == ("credential_refused", "unknown_key")
    assert line["key_id"].startswith("ak_")


@pytest.mark.parametrize("door", ["page", "virola"])
async def test_a_sign_out_says_which_session_was_ended(sidecar: Running, door: str) -> None:
    alice = await add_alice(sidecar)
    session = await sidecar.session(alice)
    (stored,) = await sidecar.store.sessions.list(alice.id)
    if door == "page":
        cookie, csrf = await sidecar.form("/logout", [session])
        await sidecar.post("/logout", [cookie, *ASKED], csrf=csrf)
    else:
        await sidecar.post_json(VIROLA_LOGOUT, {}, [session, *ASKED])
    (line,) = sidecar.recorded()
    assert (line["event"], line["result"], line["user_id"]) == ("sign_out", "done", alice.id)
    assert (line["session_id"], line["client"]) == (stored.id, "203.0.113.7")


async def test_one_failure_too_many_is_a_ban_and_says_who_and_how_long(start: Start) -> None:
    async with start(SETTINGS) as sidecar:
        await add_alice(sidecar)
        for _ in range(4):
            await page("alice", "wrong")(sidecar)
        lines = [
            (each["event"], each["result"], each.get("who"), each.get("seconds"))
            for each in sidecar.recorded()
        ]
    wrong = ("sign_in", "wrong_password", None, None)
    assert lines == [
        wrong,
        wrong,
        ("banned", "done", "client:203.0.113.7", 300.0),
        ("banned", "done", "user:1", 300.0),
        wrong,
        ("sign_in", "banned", None, None),
    ]


async def test_a_banned_client_is_told_apart_from_one_with_a_wrong_secret(start: Start) -> None:
    async with start(SETTINGS) as sidecar:
        for _ in range(4):
            await with_a_wrong_secret(sidecar)
        results = [each["result"] for each in sidecar.recorded() if each["event"] == "credential_refused"]
    assert results == ["wrong_secret"] * 3 + ["banned"]


async def test_a_public_rule_refuses_nobody_and_an_allowed_check_leaves_nothing(start: Start) -> None:
    rules = [{"name": "open", "paths": ["/open"], "access": "public"}, {"name": "rest"}]
    async with start({"rules": rules}) as sidecar:
        session = await sidecar.session(await sidecar.add_user())
        assert (await sidecar.check("nginx", [(b"cookie", SESSION)], uri=b"/open")).status == 200
        assert (await sidecar.check("nginx", [session])).status == 200
        assert sidecar.recorded() == []


async def test_a_process_that_only_explains_records_nothing(start: Start, tmp_path: Path) -> None:
    async with start({}) as sidecar:
        settings = sidecar.parts.settings
    async with services(settings, read_only=True) as parts, pipeline_alone(parts) as pipeline:
        lines = [(b"host", b"x"), *metadata("nginx"), (b"cookie", SESSION)]
        request = CheckRequest("127.0.0.1", "GET", b"", Headers(lines))
        assert (await pipeline.check(request, GATEWAYS["nginx"])).reason is Reason.UNKNOWN_SESSION
        assert taken(parts.audit) == []


async def test_nothing_that_somebody_sends_is_in_a_line(start: Start) -> None:
    secret = "PLANTED"
    async with start(SETTINGS) as sidecar:
        await add_alice(sidecar)
        await page(secret, secret)(sidecar)
        await pulse(apiKey=secret, apiSecret=secret)(sidecar)
        for line in (
            bearer(secret),
            (b"x-api-key", b"sk_PLANTED"),
            (b"cookie", b"__Host-sidecar=PLANTED"),
            basic(secret, secret),
            (b"x-request-id", b"PLANTED\x1b[31m"),
        ):
            for gateway in GATEWAYS:
                await sidecar.check(gateway, [line, (b"cookie", SESSION)], uri=b"/PLANTED?q=PLANTED")
            await sidecar.ask("GET", f"{PULSE_SESSION}?q={secret}", [line])
            await introspect(line)(sidecar)
            await sidecar.post_json(STATUS_PATH, {}, [line])
        await sidecar.post_json(TOKEN_PATH, {"accessKeyId": secret, "accessKeySecret": secret})
        lines = sidecar.recorded()
    assert len(lines) > 20
    assert secret not in json.dumps(lines)


# --- how it is documented ------------------------------------------------------------------------


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under this heading."""
    table = SECTION.partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in row.strip("| ").split("|")] for row in table.splitlines()[2:]]


def named(cell: str) -> list[str]:
    return re.findall(r"`([a-z_]+)`", cell)


def test_every_event_result_and_field_is_documented_and_no_other() -> None:
    assert [named(row[0]) for row in rows("`event`")] == [[event] for event in Event]
    results = {name for row in rows("`event`") for name in named(row[2])}
    assert results - {"authenticated"} == set(Result)
    fields = {name for row in rows("field") for name in named(row[0])}
    assert fields == {"time", "event", "result", "route", "request_id", "lost", *get_type_hints(About)}


def test_every_event_has_an_example_with_documented_fields() -> None:
    examples = [
        json.loads(line) for line in SECTION.partition("```json\n")[2].partition("```")[0].splitlines()
    ]
    assert [each["event"] for each in examples] == list(Event)
    fields = {name for row in rows("field") for name in named(row[0])}
    for each in examples:
        assert set(each) <= fields
        assert each["result"] in {*Reason, *Result}


# --- how it is written ---------------------------------------------------------------------------


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="ascii").splitlines() if line]


async def test_everything_is_in_the_file_at_the_end_and_nobody_else_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    async with audit(file) as writing:
        for number in range(1000):
            writing.record(Event.SIGN_IN, Reason.AUTHENTICATED, user_id=number)
    assert [line["user_id"] for line in lines_of(file)] == list(range(1000))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_no_value_forges_a_line_or_makes_one_long(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    async with audit(file) as writing:
        writing.record(Event.ADMINISTERED, Result.DONE, arguments=PLANTED + "\u2028\u00fc" * LONGEST_VALUE)
    written = file.read_bytes()
    assert written.count(b"\n") == 1
    assert not set(written) & {0x0D, 0x1B}
    assert len(lines_of(file)[0]["arguments"]) == LONGEST_VALUE


async def test_processes_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    async with audit(file) as first, audit(file) as second:
        for number in range(2000):
            (first, second)[number % 2].record(Event.SIGN_IN, Reason.BANNED, user_id=number, rule="x" * 500)
    assert sorted(line["user_id"] for line in lines_of(file)) == list(range(2000))


@pytest.mark.parametrize("how", ["renamed", "removed"])
async def test_a_file_that_was_rotated_away_is_begun_anew(tmp_path: Path, how: str) -> None:
    file, before = tmp_path / "audit", tmp_path / "audit.1"
    async with audit(file) as writing:
        writing.record(Event.SIGN_OUT, Result.DONE, user_id=1)
        await until(lambda: file.stat().st_size > 0)
        if how == "renamed":
            file.rename(before)
        else:
            file.unlink()
        writing.record(Event.SIGN_OUT, Result.DONE, user_id=2)
    assert [line["user_id"] for line in lines_of(file)] == [2]
    if how == "renamed":
        assert [line["user_id"] for line in lines_of(before)] == [1]


@pytest.mark.parametrize("kind", ["a directory", "in no directory", "a pipe that nobody reads"])
async def test_it_does_not_begin_with(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "audit"
    if kind == "a directory":
        file.mkdir()
    elif kind == "a pipe that nobody reads":
        os.mkfifo(file)
    else:
        file = tmp_path / "none" / "audit"
    with pytest.raises(AuditUnusable, match=f"the audit cannot be written to {file}: "):
        await audit(file).__aenter__()


async def test_while_nobody_reads_it_lines_are_dropped_counted_and_told(tmp_path: Path) -> None:
    file, metrics = tmp_path / "pipe", Metrics()
    os.mkfifo(file)
    reader = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    taken_in = 65536 + LONGEST_QUEUE
    async with audit(file, metrics=metrics) as writing:
        for number in range(taken_in):  # each is longer than a byte: neither pipe nor queue holds them all
            writing.record(Event.SIGN_IN, Reason.BANNED, user_id=number)
        dropped = int(metric(metrics))
        assert dropped > 0
        os.set_blocking(reader, True)
        collected: list[bytes] = []
        reading = threading.Thread(target=read_all, args=(reader, collected))
        reading.start()
        await until(writing._queue.empty)
        writing.record(Event.SIGN_OUT, Result.DONE)
    reading.join()
    os.close(reader)
    lines = [json.loads(line) for line in b"".join(collected).splitlines()]
    assert sum(line.get("lost", 0) for line in lines) == dropped
    assert len(lines) + dropped == taken_in + 1


async def test_a_full_disk_costs_lines_and_is_said_once(tmp_path: Path, log: io.StringIO) -> None:
    file, metrics = tmp_path / "audit", Metrics()
    file.symlink_to("/dev/full")
    async with audit(file, metrics=metrics) as writing:
        for _ in range(3):
            writing.record(Event.SIGN_OUT, Result.DONE)
        await until(lambda: metric(metrics) == 3)
        file.unlink()
        for number in range(2):
            writing.record(Event.SIGN_OUT, Result.DONE, user_id=number)
    assert [line.get("lost") for line in lines_of(file)] == [3, None]
    events = [json.loads(line)["event"] for line in log.getvalue().splitlines()]
    assert events == ["audit_not_written", "audit_written_again"]


async def test_what_was_cut_off_spoils_no_line_after_it(tmp_path: Path) -> None:
    file = tmp_path / "pipe"
    os.mkfifo(file)
    reader = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    sink = _File(str(file))
    os.set_blocking(sink._file, False)  # as a disk does, it then takes what there is room for
    lines = [{"rule": "x" * 100}] * 1000
    written = sink.write(lines)
    assert 0 < written < 1000
    cut_off = os.read(reader, 1 << 20)
    assert cut_off.count(b"\n") == written
    assert sink.write([{"user_id": 1}]) == 1
    assert os.read(reader, 1 << 20) == b'\n{"user_id": 1}\n'
    sink.close()
    os.close(reader)


async def test_without_a_file_it_is_in_the_log_whatever_its_level(log: io.StringIO) -> None:
    async with audit() as writing:
        writing.record(Event.BANNED, Result.DONE, who=PLANTED)
    (line,) = map(json.loads, log.getvalue().splitlines())
    assert (line["event"], line["result"], line["who"], line["level"]) == ("banned", "done", PLANTED, "info")


async def test_many_sign_ins_at_once_leave_one_line_each(start: Start) -> None:
    async with start({"limits": {"login": "1000/minute", "ban": {"failures": 1000}}}) as sidecar:
        await add_alice(sidecar)
        await asyncio.gather(*(pulse(email="alice", password="x")(sidecar) for _ in range(20)))
        lines = sidecar.recorded()
    assert [line["result"] for line in lines] == ["wrong_password"] * 20


def metric(metrics: Metrics) -> float:
    return float(
        re.findall(
            r"^sidecar_audit_dropped_total (.+)$", generate_latest(metrics.registry).decode(), re.MULTILINE
        )[0]
    )


def read_all(reader: int, into: list[bytes]) -> None:
    while data := os.read(reader, 65536):
        into.append(data)


async def until(what: Callable[[], bool]) -> None:
    """Waits for another thread."""
    async with asyncio.timeout(20):
        while not what():  # noqa: ASYNC110 - a thread that writes tells nobody
            await asyncio.sleep(0.001)

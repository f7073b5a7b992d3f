"""Each thing that an answer depends on is in what it is remembered by: left out, another's answer is given.

Each row warms the one with requests, and then asks something that differs in one thing alone from what was
asked before. With all inputs, the answer is the one that is decided; without this one, it is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest

from sidecar.gateways import GATEWAYS
from sidecar.model import Grounds
from sidecar.pipeline import READS
from sidecar.records import UserChange
from sidecar.replays import Head, ReadHead, Replays, heads, kept, memory
from sidecar.replays.heads import Way
from sidecar.revocation import Revocations
from tests.conftest import MEMORY
from tests.running import Line, question
from tests.worlds import Both, Seed, Tables, both, seed

Patch = Callable[[pytest.MonkeyPatch], None]


pytestmark = pytest.mark.usefixtures("log")  # a reload begins the log anew


@pytest.fixture(scope="module")
def start() -> Iterator[Seed]:
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        yield asyncio.run(seed(Path(directory)))


# --- leaving something out -----------------------------------------------------------------------


def of_the_head(change: Callable[[Head], Head]) -> Patch:
    """Heads are read as if all had the same of something."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        read = Replays.read

        def without(self: Replays, head: Head) -> ReadHead | None:
            found = read(self, change(head))
            return found and found._replace(peer=head.peer)

        monkeypatch.setattr(Replays, "read", without)

    return patch


def line(name: bytes) -> Patch:
    return of_the_head(lambda head: head._replace(headers=[each for each in head.headers if each[0] != name]))


def of_the_grounds(change: Callable[[Grounds], Grounds]) -> Patch:
    """What an answer rests on is noted as if all had the same of something."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        prefix, learn = Way.prefix, Replays.learn
        monkeypatch.setattr(Way, "prefix", lambda way, grounds: prefix(way, change(grounds)))
        monkeypatch.setattr(
            Replays,
            "learn",
            lambda self, read, grounds, answer, data: learn(self, read, change(grounds), answer, data),
        )

    return patch


def of_the_answer(**values: Any) -> Patch:
    """An answer is kept as if this was true of all."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        learn = Replays.learn

        def with_values(self: Replays, read: ReadHead, grounds: Grounds, answer: Any, data: bytes) -> None:
            for name, value in values.items():
                setattr(answer, name, value)
            learn(self, read, grounds, answer, data)

        monkeypatch.setattr(Replays, "learn", with_values)

    return patch


def original(**values: Any) -> Patch:
    return of_the_grounds(lambda grounds: grounds._replace(original=grounds.original._replace(**values)))


def host(**values: Any) -> Patch:
    def same(grounds: Grounds) -> Grounds:
        asked = grounds.original
        return grounds._replace(original=asked._replace(host=replace(asked.host, **values)))

    return of_the_grounds(same)


class _Fresh:
    """Revocations of which one always believes to know the latest."""

    relied_on_until = inf
    relied_on_until_date = -inf

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations
        self.is_current = revocations.is_current
        self.one_goes_to_look = revocations.one_goes_to_look

    @property
    def generation(self) -> int:
        return self._revocations.generation


def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    init = Replays.__init__
    monkeypatch.setattr(
        Replays,
        "__init__",
        lambda self, reads, revocations, *rest: init(self, reads, _Fresh(revocations), *rest),  # type: ignore[arg-type]  # all that is used
    )


def always_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replays, "_is_current", lambda *_: True)


def same_url(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Replays.read

    def without(self: Replays, head: Head) -> ReadHead | None:
        found = read(self, head)
        return found and found._replace(url=b"/same")

    monkeypatch.setattr(Replays, "read", without)


def any_query(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (heads, kept, memory):
        monkeypatch.setattr(module, "IF_HARMLESS", bytes(range(256)))


def any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    init = kept.Table.__init__
    monkeypatch.setattr(
        kept.Table, "__init__", lambda self, layout, _, answer: init(self, layout, 10**9, answer)
    )


def any_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "BEYOND_A_HEAD", frozenset())


def an_application_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replays, "close", lambda _: None)


# --- what happens --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """A check."""

    what: dict[str, bytes] = field(default_factory=dict)
    who: str = "nobody"
    more: tuple[Line, ...] = ()
    gateway: str = "traefik"
    peer: str = "127.0.0.1"


class Changed(NamedTuple):
    """Something is done to ann in the store, or the settings are read again."""

    disabled: bool = False
    tables: Tables | None = None


Step = Ask | Changed | float


class Case(NamedTuple):
    """Without what `left_out` leaves out, the last step is answered as one before it was."""

    left_out: Patch
    tables: Tables
    steps: list[Step]


def rules(*rules: dict[str, Any], **tables: Any) -> Tables:
    return {"rules": list(rules), **tables}


PUBLIC, DENY = {"access": "public"}, {"access": "deny"}
FROM_10 = {"networks": ["10.0.0.0/8"], **PUBLIC}
AT_APP = rules({"hosts": ["app.example.com"], **PUBLIC}, DENY)
GET_ONLY = rules({"methods": ["GET"], **PUBLIC}, DENY)
SIGNED_IN = rules({})
PREFLIGHT = (b"origin", b"https://o.test"), (b"access-control-request-method", b"PUT")
XFF_10, XFF_192 = (b"x-forwarded-for", b"10.0.0.1"), (b"x-forwarded-for", b"192.0.2.1")
ADMIN: dict[str, bytes] = {"uri": b"/admin"}
ASSERTED = {"identity_assertion": {"enabled": True}}
NGINX_AT = [Ask({"host": host}, "ann's cookie", gateway="nginx") for host in (b"a.test", b"b.test")]


def admin_denied(**selector: Any) -> Tables:
    return rules({"paths": ["/admin"], **selector, **DENY}, PUBLIC)


CASES = {
    "host": Case(line(b"host"), AT_APP, [Ask(gateway="envoy"), Ask({"host": b"b.test"}, gateway="envoy")]),
    "host, twice": Case(line(b"host"), rules(PUBLIC), [Ask(), Ask(more=((b"host", b"b.test"),))]),
    "authorization": Case(
        line(b"authorization"), SIGNED_IN, [Ask(who="ann's token"), Ask(who="bob's token")]
    ),
    "x-api-key": Case(line(b"x-api-key"), SIGNED_IN, [Ask(who="ann's key"), Ask(who="bob's key")]),
    "cookie": Case(line(b"cookie"), SIGNED_IN, [Ask(who="ann's cookie"), Ask(who="bob's cookie")]),
    **{
        name.decode(): Case(
            line(name),
            rules({"allow_preflight": True}),
            [
                Ask(who="ann's cookie"),  # who asks nobody does not know how fresh it is what is known
                Ask({"method": b"OPTIONS"}, more=PREFLIGHT),
                Ask({"method": b"OPTIONS"}, more=tuple(each for each in PREFLIGHT if each[0] != name)),
            ],
        )
        for name, _ in PREFLIGHT
    },
    "x-forwarded-for": Case(
        line(b"x-forwarded-for"), rules(FROM_10, DENY), [Ask(more=(XFF_10,)), Ask(more=(XFF_192,))]
    ),
    "x-forwarded-method": Case(line(b"x-forwarded-method"), GET_ONLY, [Ask(), Ask({"method": b"POST"})]),
    "x-forwarded-proto": Case(
        line(b"x-forwarded-proto"),
        rules({"hosts": ["app.example.com:443"], **PUBLIC}, DENY),
        [Ask(), Ask({"scheme": b"http"})],
    ),
    "x-forwarded-host": Case(line(b"x-forwarded-host"), AT_APP, [Ask(), Ask({"host": b"b.test"})]),
    "x-original-method": Case(
        line(b"x-original-method"),
        GET_ONLY,
        [Ask(gateway="nginx"), Ask({"method": b"POST"}, gateway="nginx")],
    ),
    "the peer": Case(
        of_the_head(lambda head: head._replace(peer="same")),
        rules({"networks": ["127.0.0.2/32"], **PUBLIC}, DENY, server={"trusted_proxies": ["127.0.0.0/8"]}),
        [Ask(peer="127.0.0.2"), Ask()],
    ),
    "the check's own method": Case(
        of_the_head(lambda head: head._replace(method=b"GET")),
        GET_ONLY,
        [Ask(gateway="envoy"), Ask({"method": b"POST"}, gateway="envoy")],
    ),
    "the check's own path": Case(
        of_the_head(lambda head: head._replace(target=b"/check/traefik")),
        rules(PUBLIC),
        [Ask(), Ask(gateway="caddy")],
    ),
    "whether the connection goes on": Case(
        of_the_head(lambda head: head._replace(keeps_alive=True)),
        rules(PUBLIC),
        [Ask(), Ask(more=((b"connection", b"close"),))],
    ),
    "the URL": Case(
        same_url, rules({"paths": ["/a"], **PUBLIC}, DENY), [Ask({"uri": b"/a"}), Ask({"uri": b"/b"})]
    ),
    "of the rule, the method": Case(
        original(method="GET"),
        admin_denied(methods=["POST"]),
        [Ask(ADMIN), Ask({"method": b"POST"}), Ask({"method": b"POST", **ADMIN})],
    ),
    "of the rule, the client": Case(
        of_the_grounds(lambda grounds: grounds._replace(client_class="")),
        admin_denied(networks=["10.0.0.0/8"]),
        [Ask(ADMIN, more=(XFF_192,)), Ask(more=(XFF_10,)), Ask(ADMIN, more=(XFF_10,))],
    ),
    "of the rule, the host": Case(
        host(name="same"),
        admin_denied(hosts=["b.test"]),
        [Ask(ADMIN), Ask({"host": b"b.test"}), Ask({"host": b"b.test", **ADMIN})],
    ),
    "of the rule, the port": Case(
        host(port=443),
        admin_denied(hosts=["app.example.com:8443"]),
        [
            Ask(ADMIN),
            Ask({"host": b"app.example.com:8443"}),
            Ask({"host": b"app.example.com:8443", **ADMIN}),
        ],
    ),
    "the rule": Case(
        of_the_grounds(lambda grounds: grounds._replace(target="same")),
        rules({"paths": ["/admin"], "roles": ["staff"]}, {}),
        [Ask(who="bob's cookie"), Ask(ADMIN, "ann's cookie"), Ask(ADMIN, "bob's cookie")],
    ),
    "whom an assertion is for": Case(
        of_the_grounds(lambda grounds: grounds._replace(target="same")),
        rules({}, **ASSERTED),
        [*NGINX_AT, NGINX_AT[0]],
    ),
    "when it ends": Case(
        of_the_answer(until=inf),
        SIGNED_IN,
        [Ask(who="ann's short session"), 90.0, Ask(who="bob's cookie"), Ask(who="ann's short session")],
    ),
    "what was revoked": Case(
        always_current,
        SIGNED_IN,
        [
            Ask(who="ann's cookie"),
            Changed(disabled=True),
            1.0,
            Ask(who="bob's cookie"),
            Ask(who="ann's cookie"),
        ],
    ),
    "how long ago that was looked up": Case(
        always_fresh,
        SIGNED_IN,
        [Ask(who="ann's cookie"), Changed(disabled=True), 1.0, Ask(who="ann's cookie")],
    ),
    "what is in the query": Case(any_query, rules(PUBLIC), [Ask(), Ask({"uri": b"/?a#b"})]),
    "how long it is": Case(
        any_length,
        rules(PUBLIC, server={"header_limit": "1KiB"}),
        [Ask(), Ask({"uri": b"/?" + b"a" * 1024})],
    ),
    "what comes behind the head": Case(
        any_body, rules(PUBLIC), [Ask(), Ask(more=((b"upgrade", b"h2c"), (b"connection", b"upgrade")))]
    ),
    "the settings": Case(
        an_application_that_never_ends, rules(PUBLIC), [Ask(), Ask(), Changed(tables=rules(DENY)), Ask()]
    ),
}


async def last_answers(start: Seed, directory: Path, case: Case) -> tuple[Any, Any]:
    """What the last step came to with either."""
    async with both(start, directory, case.tables) as worlds:
        answers: tuple[bytes, bytes] = (b"", b"")
        for step in case.steps:
            answers = await _done(worlds, start, step) or answers
            if (
                isinstance(step, Ask) and step is not case.steps[-1]
            ):  # the first use may be noted, the next not
                await _done(worlds, start, step)
        counted = [world.parts.metrics for world in (worlds.express, worlds.plain)]
        for metrics in counted:
            metrics.settle()
        express, plain = zip(answers, [metrics.decisions._values for metrics in counted], strict=True)
        return express, plain


async def _done(worlds: Both, start: Seed, step: Step) -> tuple[bytes, bytes] | None:
    match step:
        case float(seconds):
            worlds.advance(seconds)
        case Changed(tables=dict(tables)):
            await worlds.each(lambda world: world.reload(tables))
        case Changed(disabled=disabled):
            change, user = UserChange(disabled=disabled), start.users["ann"].id
            await worlds.each(lambda world: world.parts.store.users.change(user, change, now=0.0, by="test"))
        case Ask():
            lines = [*start.credentials[step.who], *step.more]
            request = question(step.gateway, lines, **step.what).as_bytes()
            return await worlds.exchange(step.peer, [request], ["GET"])
    return None


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_with_every_input_the_answer_is_the_one_that_is_decided(
    start: Seed, tmp_path: Path, case: Case
) -> None:
    express, plain = await last_answers(start, tmp_path, case)
    assert express == plain


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_without_this_one_it_is_another(
    start: Seed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    case.left_out(monkeypatch)
    express, plain = await last_answers(start, tmp_path, case)
    assert express != plain


def test_every_line_that_decides_has_a_case() -> None:
    reads = READS.union(*(gateway.reads for gateway in GATEWAYS.values()))
    urls = {gateway.url.header for gateway in GATEWAYS.values()}
    assert {name.decode() for name in reads - urls} <= set(CASES)

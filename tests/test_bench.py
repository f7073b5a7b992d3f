"""The benchmark's own parts: what it asks is what gateways ask, and what it says follows from what it saw."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import heads
from bench.data import API_KEY, SECRET
from bench.issuer import Issuer, introspecting
from bench.load import Seen, read
from bench.machine import CannotMeasure
from bench.parts.rules import rules
from bench.picture import draw
from bench.report import Curve, Figure, Part, Row, Run, printed
from sidecar.credentials import new_api_key, new_secret
from sidecar.settings import parse
from tests.conftest import Start
from tests.running import Running

# --- what is asked -------------------------------------------------------------------------------

BY_COOKIE = {
    **{f"/check/{name}": of_gateway(heads.COOKIE) for name, of_gateway in heads.GATEWAYS.items()},
    **{f"a browser's, {number}": head for number, head in enumerate(heads.browsing())},
    "/check/nginx, another host": heads.nginx(host="h{n}.example.com"),
    "/check/nginx, another path": heads.nginx(uri="/{n}"),
    "/check/nginx, another client": heads.nginx(client="2001:{a}:{b}:{c}::1"),
    "Virola's": heads.documented("/api/v1/status"),
}


async def answered(sidecar: Running, head: str, credential: bytes) -> int:
    filled = head.format(path=7, n=100000001, a=1, b=2, c=3, client=9, credential=credential.decode())
    async with sidecar.connection() as connection:
        await connection.send(filled.encode("ascii"))
        return (await connection.answer()).status


@pytest.mark.parametrize("head", BY_COOKIE.values(), ids=BY_COOKIE)
async def test_every_head_is_allowed_with_a_session(sidecar: Running, head: str) -> None:
    secret = await sidecar.secret(await sidecar.add_user("alice"))
    assert await answered(sidecar, head, secret) == 200
    assert await answered(sidecar, heads.closing(head), secret) == 200


@pytest.mark.parametrize("gateway", heads.GATEWAYS.values(), ids=heads.GATEWAYS)
async def test_every_gateway_sends_every_credential(sidecar: Running, gateway: Callable[[str], str]) -> None:
    user = await sidecar.add_user("alice")
    key, token = (await sidecar.api_key(user)), await sidecar.token(user)
    assert await answered(sidecar, gateway(heads.API_KEY), key) == 200
    assert await answered(sidecar, gateway(heads.BEARER), token) == 200


def test_every_rule_is_for_a_path_and_the_last_for_all_others() -> None:
    paths = [rule["paths"] for rule in tomllib.loads(rules(3))["rules"]]
    assert paths == [["/projects/1/**"], ["/projects/2/**"], ["/projects/**"]]


@pytest.mark.parametrize("count", [1, 7, 8])
async def test_every_request_is_allowed_by_some_rule(start: Start, count: int) -> None:
    async with start(tomllib.loads(rules(count))) as sidecar:
        secret = await sidecar.secret(await sidecar.add_user("alice"))
        assert await answered(sidecar, heads.nginx(), secret) == 200


def test_settings_are_good(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    settings = parse(tomllib.loads(issuer.trust() + introspecting(9999)))
    assert set(settings.authenticators.external) == {"idp", "there"}


def test_secrets_are_as_long_as_real_ones() -> None:
    assert len(SECRET % 0) == len(SECRET % 999_999) == len(new_secret())
    assert len(API_KEY % 0) == len(new_api_key())


# --- what is seen --------------------------------------------------------------------------------


def said(**changed: float) -> str:
    result = {"requests": 100, "seconds": 2.0, "failed": 0, "refused": 0, "p50_us": 5.0, "p99_us": 9.0}
    return f"Running 2s test\n{json.dumps({**result, **changed})}\n"


def test_what_wrk_says_is_read() -> None:
    assert read(said(), refused=False) == Seen(requests=100, per_second=50, p50_us=5, p99_us=9)
    assert read(said(refused=100), refused=True).requests == 100


@pytest.mark.parametrize(
    ("output", "refused"),
    [
        pytest.param(said(refused=1), False, id="one was refused"),
        pytest.param(said(refused=99), True, id="one was allowed"),
        pytest.param(said(failed=1), False, id="one failed"),
        pytest.param(said(requests=0), False, id="none was answered"),
    ],
)
def test_a_run_counts_only_where_all_was_answered_as_expected(output: str, refused: bool) -> None:
    with pytest.raises(CannotMeasure, match="nothing was measured"):
        read(output, refused=refused)


# --- what is said of it --------------------------------------------------------------------------


def run(cpu_us: float) -> Run:
    return Run(cpu_us, per_second=1e6 / cpu_us, p50_us=1, p99_us=2, resident_mib=60)


def test_a_row_has_the_medians_of_its_runs() -> None:
    row = Row.of("a check", [run(10), run(500), run(20)])
    assert (row.median.cpu_us, row.median.per_second) == (20, 50_000)


@pytest.mark.parametrize(
    ("figure", "line"),
    [
        (Figure("a ÷ b", 1.25, 1.25), "| a ÷ b | 1.25 | ≤ 1.25 | ✓ met |"),
        (Figure("a ÷ b", 1.26, 1.25), "| a ÷ b | 1.26 | ≤ 1.25 | ✗ missed |"),
        (Figure("rate", 0.97, 0.97, at_least=True), "| rate | 0.97 | ≥ 0.97 | ✓ met |"),
        (Figure("rate", 0.96, 0.97, at_least=True), "| rate | 0.96 | ≥ 0.97 | ✗ missed |"),
        (Figure("growth", 400, None, " MiB"), "| growth | 400.00 MiB | | |"),
    ],
    ids=["at the limit", "above it", "at least as much", "less than that", "no limit"],
)
def test_a_figure_is_held_against_its_limit(figure: Figure, line: str) -> None:
    assert str(figure) == line


def test_each_part_has_its_tables_and_curves_have_none() -> None:
    parts = [
        Part("Cached", rows=[Row.of("a check", [run(20)])]),
        Part("Curves", curves=[Curve("sessions", {1: 10}, {1: 9})]),
        Part("Start", figures=[Figure("cold start", 0.5, 0.6, " s")]),
    ]
    assert printed(parts).splitlines() == [
        "### Cached",
        "",
        "| | CPU µs a check | checks/s | p50 µs | p99 µs | memory MiB |",
        "|---|--:|--:|--:|--:|--:|",
        "| a check | 20.0 | 50,000 | 1 | 2 | 60 |",
        "",
        "### Start",
        "",
        "| figure | measured | limit | |",
        "|---|--:|--:|---|",
        "| cold start | 0.50 s | ≤ 0.6 s | ✓ met |",
    ]


def test_the_same_curves_make_the_same_picture(tmp_path: Path) -> None:
    curves = [Curve(of, {1: 10.0, 1_000: 12.0}, {1: 9.0, 1_000: 9.5}) for of in ("sessions", "rules")]
    for name in ("once", "again"):
        draw(curves, tmp_path / f"{name}.svg")
    picture = (tmp_path / "once.svg").read_text()
    assert picture == (tmp_path / "again.svg").read_text()
    assert all(text in picture for text in ("CPU µs a check", "sessions", "rules", "sidecar", "nginx"))

"""What is Envoy's own: it asks with the client's request line behind a prefix."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Start
from tests.e2e.harness import API, Installation, Lines, Session, ask, head
from tests.running import Running, metadata

RULES = {"rules": [{"paths": ["/open/**", "/"], "access": "public"}, {"access": "deny"}]}
HOST = [b"app.example.com"]


@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [
        ("/check/envoy/", 200, "public"),
        ("/check/envoy/open/x", 200, "public"),
        ("/check/envoy/open/x?y=/admin", 200, "public"),
        ("/check/envoy//open/x", 200, "public"),
        ("/check/envoy/open?", 200, "public"),
        ("/check/envoy/check/envoy/open", 403, "rule_denies"),
        ("/check/envoy/%6fpen/x", 200, "public"),
        ("/check/envoy/open/../admin", 403, "rule_denies"),
        ("/check/envoy/admin?/open/", 403, "rule_denies"),
        ("/check/envoy/../open/x", 400, "ambiguous_path"),
        ("/check/envoy/open/..%2fadmin", 400, "ambiguous_path"),
        ("/check/envoy", 400, "bad_url"),
        ("/check/envoy?/open/x", 400, "bad_url"),
        ("/check/envoy*", 400, "bad_url"),
        ("/check/envoyhttp://app.example.com/open/x", 400, "bad_url"),
        ("/check/envoyopen/x", 400, "bad_url"),
        ("/check/%65nvoy/open/x", 404, ""),
        ("/check/%65nvoy", 400, "bad_url"),
        ("/check%2Fenvoy/open/x", 404, ""),
        ("/x/../check/envoy/open/x", 404, ""),
        ("//check/envoy/open/x", 404, ""),
    ],
)
async def test_what_stands_behind_the_prefix_is_judged(
    start: Start, target: str, status: int, reason: str
) -> None:
    async with start(RULES) as sidecar:
        answer = await sidecar.ask("GET", target, metadata("envoy"), hosts=HOST)
    assert answer.status == status
    assert answer.all("X-Auth-Reason") == ([] if status in {200, 404} else [reason])


async def test_the_way_back_has_the_query(start: Start) -> None:
    lines = [*metadata("envoy"), (b"accept", b"text/html")]
    async with start({"login": {"allowed_redirects": ["app.example.com"]}}) as sidecar:
        answer = await sidecar.ask("GET", "/check/envoy/a?b=%2F&c", lines, hosts=HOST)
    assert answer.one("Location").endswith("?rd=https%3A%2F%2Fapp.example.com%2Fa%3Fb%3D%252F%26c")


async def test_its_paths_are_no_labels(sidecar: Running) -> None:
    for path in ("/a", "/b", "/b/c"):
        await sidecar.ask("GET", f"/check/envoy{path}", metadata("envoy"), hosts=HOST)
    metrics = await sidecar.metrics()
    assert 'sidecar_http_requests_total{code="401",method="GET",route="/check/envoy"} 3.0' in metrics
    assert "/check/envoy/" not in metrics


@pytest.fixture(scope="module")
def served(installation: Installation) -> Iterator[str]:
    """Where the sidecar listens."""
    with installation.serving() as running:
        yield running.listen


SENT: Lines = (("X-Forwarded-Proto", "http"), *API)


@pytest.mark.parametrize(
    ("method", "target", "lines", "status"),
    [
        ("GET", "/check/envoy/page", (), 200),
        ("HEAD", "/check/envoy/page", (), 200),
        ("POST", "/check/envoy/page", (("Content-Length", "0"),), 200),
        ("GET", "/check/envoy/page", (("Content-Length", "5"),), 200),
        ("POST", "/check/envoy/page", (("Content-Length", "200000"),), 200),
        ("OPTIONS", "/check/envoy/page", (), 200),
        ("GET", "/check/envoy/page", (("Connection", "Upgrade"), ("Upgrade", "websocket")), 200),
        ("GET", "/check/envoy/page", (("Host", "localhost"),), 400),
        ("OPTIONS", "/check/envoy*", (), 400),
        ("CONNECT", "localhost", (), 400),
        ("CONNECT", "/check/envoy/page", (), 400),
        ("GET", "/check/envoy/page#/admin", (), 400),
        ("GET", "/check/envoy/page?#x", (), 400),
        ("GET", "/check/envoy/caf\xe9", (), 400),
        ("get", "/check/envoy/page", (), 400),
    ],
    ids=str,
)
def test_over_a_socket(
    served: str, ann: Session, method: str, target: str, lines: Lines, status: int
) -> None:
    request = head(method, target, "localhost", (*SENT, ann.line, *lines))
    answer = ask(served, request)
    assert answer.status == status
    assert bool(answer.all("X-Auth-User")) == (status == 200)

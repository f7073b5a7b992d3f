"""The documentation names everything that an operator meets, and nothing that is not there."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from pathlib import Path

from sidecar.model import Reason
from sidecar.telemetry import Metrics
from tests.running import Running

ROOT = Path(__file__).parent.parent


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_reason_of_a_refusal_is_documented() -> None:
    refusals = set(Reason) - {Reason.AUTHENTICATED, Reason.PUBLIC}
    section = text("docs/decisions.md").partition("## Reasons")[2].partition("## Sessions")[0]
    assert set(re.findall(r"`([a-z_]+)`", section)) - {"debug"} == set(refusals)


def test_every_metric_is_documented() -> None:
    registered = {
        metric.name if metric.type != "counter" else f"{metric.name}_total"
        for metric in Metrics().registry.collect()
    }
    assert set(re.findall(r"`(sidecar_[a-z_]+)`", text("docs/operations.md"))) == registered


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    names = {re.split(r"[^a-z0-9-]", requirement)[0] for requirement in project["dependencies"]}
    table = text("CONTRIBUTING.md").partition("## Dependencies")[2].partition("## Style")[0]
    documented = {
        name
        for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
        for name in re.split(r", (?:with )?", row)
    }
    assert names <= documented
    assert documented - {"package", "cryptography"} <= names


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document}: {target}"


async def test_every_product_is_documented_with_its_endpoints(sidecar: Running) -> None:
    described = (await sidecar.ask("GET", "/openapi.json", listener="admin")).json["paths"]
    endpoints = defaultdict(set)
    for path, operations in described.items():
        for method, operation in operations.items():
            (product,) = operation["tags"]
            endpoints[product].add(f"{method.upper()} {path}")

    checks = text("docs/checks.md")
    rows = re.findall(r"^\| \[([^]]+)\]\(#[a-z-]+\) \| ([^|]+) \|", checks, re.MULTILINE)
    documented = [set(re.findall(r"`([A-Z]+ /[^`]+)`", row)) for _, row in rows]
    assert sorted(map(sorted, documented)) == sorted(map(sorted, endpoints.values()))
    assert {product for product, _ in rows} <= set(re.findall(r"^## (.+)$", checks, re.MULTILINE))

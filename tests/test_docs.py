"""The documentation names everything that an operator meets, and nothing that is not there."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from sidecar.model import Reason
from sidecar.reasons import MEANINGS
from sidecar.settings import (
    AskingSettings,
    IntrospectionSettings,
    JwtSettings,
    UpstreamSettings,
    parse,
    warnings,
)
from sidecar.settings.external import Breaker, Claims, External
from sidecar.settings.section import Section
from sidecar.telemetry import Metrics
from tests.conftest import Start
from tests.running import BROWSER, Running

ROOT = Path(__file__).parent.parent


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_reason_of_a_refusal_is_documented() -> None:
    refusals = set(Reason) - {Reason.AUTHENTICATED, Reason.PUBLIC, Reason.PREFLIGHT}
    section = text("docs/decisions.md").partition("## Reasons")[2].partition("## Sessions")[0]
    assert set(re.findall(r"`([a-z_]+)`", section)) - {"debug"} == set(refusals)


def test_the_meaning_of_every_reason_is_documented() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (\w+) \| (.+) \|$", text("docs/decisions.md"), re.MULTILINE)
    meanings = [(str(reason), str(meaning.step), meaning.sentence) for reason, meaning in MEANINGS.items()]
    assert rows == meanings[3:]  # but for those of an allowed request


def test_every_metric_is_documented() -> None:
    registered = {
        metric.name if metric.type != "counter" else f"{metric.name}_total"
        for metric in Metrics().registry.collect()
    }
    assert set(re.findall(r"`(sidecar_[a-z_]+)`", text("docs/operations.md"))) == registered


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    names = {re.split(r"[^a-z0-9-]", each)[0] for each in [*project["dependencies"], *extras]}
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


# --- authenticators ------------------------------------------------------------------------------

AUTHENTICATORS = text("docs/authenticators.md")
EXAMPLES = re.findall(
    r"^## ([^\n]+)\n(?:(?!^## ).)*?```toml\n(.*?)```", AUTHENTICATORS, re.MULTILINE | re.DOTALL
)


def anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def test_every_system_of_the_page_has_an_example() -> None:
    listed = AUTHENTICATORS.partition("The examples: ")[2].partition(". ")[0]
    anchors = re.findall(r"\(#([a-z0-9-]+)\)", listed)
    assert len(anchors) == 8
    assert sorted(anchors) == sorted(anchor(title) for title, _ in EXAMPLES)


def test_every_link_within_the_page_leads_to_a_section() -> None:
    titles = re.findall(r"^## (.+)$", AUTHENTICATORS, re.MULTILINE)
    assert set(re.findall(r"\]\(#([^)]+)\)", AUTHENTICATORS)) <= set(map(anchor, titles))


TABLES = re.findall(r"```toml\n(.*?)```", AUTHENTICATORS, re.DOTALL)


@pytest.mark.parametrize("example", TABLES, ids=lambda example: example[1:40])
def test_every_example_of_an_authenticator_is_accepted_as_written(example: str) -> None:
    settings = parse(tomllib.loads(example))
    assert not list(warnings(settings))
    external = set(settings.authenticators.external)
    assert external
    for rule in settings.rules:
        assert rule.authenticators
        assert external.issuperset(rule.authenticators)


LEADING_BACK = [settings for example in TABLES if "{rd}" in str(settings := tomllib.loads(example))]


@pytest.mark.parametrize(
    "settings", LEADING_BACK, ids=lambda settings: next(iter(settings["authenticators"]))
)
async def test_every_example_with_a_sign_in_elsewhere_leads_a_browser_back(
    start: Start, settings: dict[str, Any]
) -> None:
    (rule,) = settings["rules"]
    (host,) = rule["hosts"]
    async with start(settings) as sidecar:
        answer = await sidecar.check("traefik", BROWSER, host=host.encode(), uri=b"/a?b=c")
    back = quote(f"https://{host}/a?b=c", safe="")
    assert (answer.status, answer.one("Location")) == (302, rule["login_url"].replace("{rd}", back))


def test_the_examples_with_a_sign_in_elsewhere_are_these() -> None:
    assert [list(settings["authenticators"]) for settings in LEADING_BACK] == [["legacy"], ["main"]]


def documented_settings(heading: str) -> dict[str, str]:
    """The settings that the table under this line names, and what it says of their defaults."""
    section = AUTHENTICATORS.partition("## Every setting\n")[2]
    table = section.partition(f"\n{heading}:\n\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]*) ?\|", table, re.MULTILINE)
    return {name: default.strip() for names, default in rows for name in re.findall(r"`([a-z_]+)`", names)}


def defaults(model: type[Section]) -> dict[str, Any]:
    """As TOML has them; a required setting has none."""
    values = model.model_construct().model_dump(mode="json", warnings=False)
    return {name: values.get(name) for name in model.model_fields}


@pytest.mark.parametrize(
    ("heading", "model", "known"),
    [
        ("Of all of them", External, []),
        ("`jwt`", JwtSettings, [External]),
        ("`introspection` and `upstream`", AskingSettings, [External]),
        ("`introspection`", IntrospectionSettings, [AskingSettings]),
        ("`upstream`", UpstreamSettings, [AskingSettings]),
    ],
    ids=str,
)
def test_every_setting_of_an_authenticator_is_documented_with_its_default(
    heading: str, model: type[Section], known: list[type[Section]]
) -> None:
    elsewhere = {name for each in known for name in each.model_fields} | {"type", "claims"}
    expected = {name: value for name, value in defaults(model).items() if name not in elsewhere}
    written = documented_settings(heading)
    for name in ("type", "claims"):
        assert (written.pop(name, None) is not None) == (model is External)
    read = {
        name: tomllib.loads(f"x = {value.strip('`')}")["x"] if value else None
        for name, value in written.items()
    }
    assert read == expected


@pytest.mark.parametrize("model", [Claims, Breaker])
def test_every_key_within_a_setting_of_an_authenticator_is_documented(model: type[Section]) -> None:
    for name, default in defaults(model).items():
        pattern = rf"`claims\.{name}` \| `{default}`" if model is Claims else rf"{name} = "
        assert re.search(pattern, AUTHENTICATORS), name


def test_the_claims_of_an_introspection_differ_as_documented() -> None:
    ours, usual = defaults(type(IntrospectionSettings.model_fields["claims"].default)), defaults(Claims)
    differing = {name: default for name, default in ours.items() if default != usual[name]}
    assert differing == {"username": "username"}
    assert "of introspection `username`" in AUTHENTICATORS
